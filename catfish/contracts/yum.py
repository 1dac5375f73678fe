"""Yum: named rooms with history. Who has a token is known by it; others are who they say they are.

Everything may be acknowledged: `{ok: true, …}`, or `{ok: false, error, code}`. Without an acknowledgement function a
refusal comes as event `error {event, code, message}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from catfish.contracts.common import iso, payload_of, text_at
from catfish.contracts.interface import Handled, Participant, Reply, Unknown
from catfish.errors import Rejected
from catfish.rooms.events import Event, MemberJoined, MemberLeft, MessageSent, Said
from catfish.rooms.model import Message
from catfish.rooms.policy import bad_request
from catfish.rooms.room import LiveRoom

NAME: Final = "yum"


async def join_room(who: Participant, payload: dict[str, Any], reply: Reply | None) -> None:
    room = who.policy.room(text_at(payload, "roomId"), "roomId")
    user = _chosen_user(who, payload)
    if user is not None and not who.rooms:
        await who.introduce(user=user)
    entry = await who.join(room=room)
    if reply is None:
        return
    settings = who.policy.settings
    live, newest = entry.live, entry.room.seq
    messages: list[Message] = []
    if newest:
        # What is newer follows as events.
        page = await who.history(live.number, before=newest + 1, limit=settings.history_page_default)
        messages = [message for message in page.messages if message.deleted_at is None]
    users = [{"userId": member.user, "name": member.name} for member in live.list_members(settings.members_listed_max)]
    answer = {"ok": True, "roomId": room, "users": users, "messages": [show_message(each) for each in messages]}
    reply(answer)


async def leave_room(who: Participant, payload: dict[str, Any], reply: Reply | None) -> None:
    room = text_at(payload, "roomId")
    await who.leave(room)
    if reply is not None:
        reply({"ok": True, "roomId": room})


def send_message(who: Participant, payload: dict[str, Any], reply: Reply | None) -> Handled:
    live = who.live(text_at(payload, "roomId"))
    content = who.policy.content(text_at(payload, "content"))
    user = _chosen_user(who, payload)
    if user is not None:
        return _send_as(who, user, live, content, reply)
    _send(who, None, live, content, reply)
    return None


async def _send_as(who: Participant, user: str, live: LiveRoom, content: str, reply: Reply | None) -> None:
    """In another name than one has joined with."""
    await who.check_author(user)
    _send(who, user, live, content, reply)


def _send(who: Participant, user: str | None, live: LiveRoom, content: str, reply: Reply | None) -> None:
    def stored(answer: Message | Rejected) -> None:
        if isinstance(answer, Rejected):
            refuse(who, "sendMessage", answer, reply)
        elif reply is not None:
            reply({"ok": True, **show_message(answer)})

    who.send(number=live.number, room=live.id, content=content, user=user, name=user, done=stored)


def _chosen_user(who: Participant, payload: dict[str, Any]) -> str | None:
    """The `userId` of a payload, when it says anything that is not known: with a token it cannot be chosen."""
    if who.identified or payload.get("userId") is None:
        return None
    user = payload["userId"]
    if not isinstance(user, str):
        raise bad_request("userId", "must be text")
    return who.policy.user(user, "userId") if user != who.user else None


def refuse(who: Participant, event: str, refusal: Rejected, reply: Reply | None) -> None:
    if reply is not None:
        reply({"ok": False, "error": refusal.message, "code": refusal.code})
    else:
        who.emit("error", {"event": event, "code": refusal.code, "message": refusal.message})


def show_message(message: Message) -> dict[str, Any]:
    """A message as Yum's clients know it; `GET /api/messages` lists the same."""
    return _shown(message.room, message.user, message.content, message.created_at, message.id, message.seq)


def _shown(room: str, user: str, content: str, at: int, id: int, seq: int) -> dict[str, Any]:
    return {"roomId": room, "userId": user, "content": content, "timestamp": iso(at), "id": id, "seq": seq}


HANDLERS: Final[dict[str, Callable[[Participant, dict[str, Any], Reply | None], Handled]]] = {
    "joinRoom": join_room,
    "leaveRoom": leave_room,
    "sendMessage": send_message,
}


class Yum:
    """The vocabulary; see the module."""

    name = NAME

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        return event in HANDLERS

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        handler = HANDLERS.get(event)
        if handler is None:
            raise Unknown(event)
        return handler(who, payload_of(args), reply)

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        refuse(who, event, refusal, reply)

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        match event:
            case MessageSent(message=message) if message.deleted_at is None:
                return "receiveMessage", (show_message(message),)
            case Said(user=user, content=content, said_at=at):
                return ("receiveMessage", (_shown(event.room, user, content, at, 0, 0),)) if content else None
            case MemberJoined(member=member):
                return "userJoined", ({"roomId": event.room, "userId": member.user},)
            case MemberLeft(user=user):
                return "userLeft", ({"roomId": event.room, "userId": user},)
        return None
