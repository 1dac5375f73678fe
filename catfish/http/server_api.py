"""What a team's own servers do, with the API key: speak in rooms, see who is where, end a user's sessions."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from msgspec import Meta

from catfish.http.operations import SERVER, Call, Operation, Operations
from catfish.http.rooms import Camel, Strict
from catfish.rooms.clock import now_ms
from catfish.rooms.commands import SendMessage
from catfish.rooms.directory import Directory
from catfish.rooms.events import Custom
from catfish.rooms.model import Member, Message, Room
from catfish.server.archive import available
from catfish.server.instance import Instance
from catfish.wire.native import check_data

TAG = "servers"
ROOMS_LISTED_MAX = 1_000


class NewMessage(Strict):
    user: Annotated[str, Meta(description="Whose message it is; need not be in the room.")]
    content: str
    name: str | None = None
    client_id: Annotated[str, Meta(description="The same one of the same user is stored once.")] | None = None
    reply_to: int | None = None
    data: Any = None


class MessageAnswer(Camel):
    message: Message


class NewEvent(Strict):
    event: str
    data: Any = None
    user: Annotated[str, Meta(description="Who tells it.")] = SERVER
    to: Annotated[str, Meta(description="Only the devices of that user hear it.")] | None = None


class Told(Camel):
    """It is on its way; nobody says whether anybody heard it."""


class Presence(Camel):
    room: Room
    member: Member


class PresenceAnswer(Camel):
    user: str
    rooms: list[Presence]
    """In the order in which it entered them."""


class Disconnected(Camel):
    sessions: int
    """That ended on the instance which answers; the others are told to do the same."""


class ServerApi:
    def __init__(self, instance: Instance, directory: Directory) -> None:
        self._instance = instance
        self._directory = directory

    def operations(self) -> list[Operation]:
        found = Operations(self._instance, TAG)
        found.typed(
            "post",
            "/api/rooms/{room}/messages",
            "Send a message to a room, as anybody",
            self.send,
            access="key",
            body=NewMessage,
            answer=MessageAnswer,
            status=201,
            more="It is stored, and everyone in the room hears it, before the answer.",
        )
        found.typed(
            "post",
            "/api/rooms/{room}/events",
            "Tell a room an event of your own",
            self.tell,
            access="key",
            body=NewEvent,
            answer=Told,
            status=202,
            more="It is not stored. Members hear `room:event`.",
        )
        found.typed(
            "get",
            "/api/users/{user}/presence",
            "Show in which rooms a user is",
            self.presence,
            access="key",
            answer=PresenceAnswer,
        )
        found.typed(
            "post",
            "/api/users/{user}/disconnect",
            "End all sessions of a user, on every instance",
            self.disconnect,
            access="key",
            answer=Disconnected,
            status=202,
            more="Without Redis only the instance that answers does so. Nothing keeps the user from coming back.",
        )
        return found.all

    async def send(self, call: Call) -> MessageAnswer:
        body: NewMessage = call.body
        policy = self._instance.policy
        user = policy.user(body.user)
        name = user if body.name is None else policy.name(body.name)
        reply_to = None if body.reply_to is None else policy.seq("replyTo", body.reply_to)
        check_data(body.data, policy.settings.data_bytes_max, "data")
        record = await self._instance.archive.record(room=call.path["room"])
        command = SendMessage(
            number=record.number,
            room=record.room.id,
            user=user,
            name=name,
            content=policy.content(body.content),
            client_id=_client_id(call) if body.client_id is None else policy.client_id(body.client_id),
            reply_to=reply_to,
            data=body.data,
            created_at=now_ms(),
            server=True,
        )
        return MessageAnswer(message=await self._instance.publisher.post(command))

    async def tell(self, call: Call) -> Told:
        body: NewEvent = call.body
        policy = self._instance.policy
        check_data(body.data, policy.settings.data_bytes_max, "data")
        event, user = policy.event(body.event), policy.user(body.user)
        to = None if body.to is None else policy.user(body.to, "to")
        record = await self._instance.archive.record(room=call.path["room"])
        told = Custom(room=record.room.id, user=user, event=event, data=body.data)
        self._instance.supervisor.tell_room(record.number, told, to)
        return Told()

    async def presence(self, call: Call) -> PresenceAnswer:
        user = self._instance.policy.user(call.path["user"])
        found = await available(self._directory.presence(user, ROOMS_LISTED_MAX))
        rooms = [Presence(room=each.record.room, member=each.member) for each in found]
        return PresenceAnswer(user=user, rooms=rooms)

    async def disconnect(self, call: Call) -> Disconnected:
        user = self._instance.policy.user(call.path["user"])
        return Disconnected(sessions=self._instance.disconnect(user))


def _client_id(call: Call) -> str | None:
    """With a key for the whole request the message is stored once, even when the answer to it was never remembered."""
    key = call.request.headers.get("idempotency-key")
    return None if key is None else f"key:{hashlib.sha256(key.encode()).hexdigest()}"
