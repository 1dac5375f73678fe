"""PeerPrep: named rooms, presence with grace, nothing stored, no authentication.

Messages are relayed as they came. There are no acknowledgements, and what is refused is ignored.

Everything that the server says of members is a `system_message {eventType, event, userId, username, text, users?}`;
documents have the kind in `eventType`, clients read it in `event`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from catfish.contracts.common import own, payload_of, text_at, text_in
from catfish.contracts.interface import Entry, Handled, Participant, Reply, Unknown
from catfish.errors import Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.events import Event, MemberJoined, MemberLeft, MessageSent, Said
from catfish.rooms.model import Member
from catfish.rooms.policy import bad_request
from catfish.rooms.room import LiveRoom

NAME: Final = "peerprep"
SYSTEM: Final = "system_message"
USERNAME_CHARS_MAX: Final = 128
WHOLE_LIST_MAX: Final = 32
"""Users up to whom every `existing_users` message has the whole list; with more only the last one has it, or what one
newcomer is told would grow with the square of the room."""

Kind = Literal["connect", "existing_users", "reconnect", "disconnect"]
TEXTS: Final[dict[Kind, str]] = {
    "connect": "has entered the chat.",
    "existing_users": "is already in the chat.",
    "reconnect": "has reconnected.",
    "disconnect": "has left the chat.",
}

# The state of a session is the id of its room, or None.


def join_room(who: Participant, args: Sequence[Any]) -> Handled:
    payload = payload_of(args)
    policy = who.policy
    user = policy.user(text_at(payload, "userId"), "userId")
    room = policy.room(text_at(payload, "roomId"), "roomId")
    name = text_at(payload, "username")
    if not 1 <= len(name) <= USERNAME_CHARS_MAX or "\0" in name:
        raise bad_request("username", f"must have 1 to {USERNAME_CHARS_MAX} characters, and not NUL")
    return _join(who, user, name, room)


async def _join(who: Participant, user: str, name: str, room: str) -> None:
    former = who.state
    if former is not None and (former != room or (user != who.user and not who.identified)):
        await _leave(who, former)
    await who.introduce(user=user)
    who.name = name
    entry = await who.join(room=room)
    who.state = room
    if entry.first:
        _welcome(who, entry)


def _welcome(who: Participant, entry: Entry) -> None:
    """What the newcomer alone hears; the others were told that it came."""
    member = entry.member
    who.emit(SYSTEM, _system(_kind(entry.returning), member.user, member.name))
    if entry.returning:
        return
    before: list[Member] = []
    for other in entry.live.list_members(who.policy.settings.members_listed_max):
        if other.user == member.user:
            break  # those behind it came later, and it hears that they do
        before.append(other)
    everyone = [{"userId": other.user, "username": other.name} for other in before]
    for place, other in enumerate(before, 1):
        whole = len(before) <= WHOLE_LIST_MAX or place == len(before)
        message = _system("existing_users", other.user, other.name)
        message["users"] = everyone if whole else everyone[place - 1 : place]
        who.emit(SYSTEM, message)


def send_message(who: Participant, args: Sequence[Any]) -> None:
    room = who.state
    if room is None:
        return
    message = payload_of(args).get("message")
    content = text_in(message, who.policy.settings.content_chars_max)
    said = Said(room=room, user=who.user, user_name=who.name, content=content, said_at=now_ms(), origin=(NAME, message))
    who.say(room, said)


async def leave_session(who: Participant, args: Sequence[Any]) -> None:
    if who.state is not None:
        await _leave(who, who.state)
    who.disconnect()


async def _leave(who: Participant, room: str) -> None:
    who.state = None
    await who.leave(room)


def _kind(returning: bool) -> Kind:
    return "reconnect" if returning else "connect"


def _system(kind: Kind, user: str, name: str) -> dict[str, Any]:
    return {"eventType": kind, "event": kind, "userId": user, "username": name, "text": f"{name} {TEXTS[kind]}"}


def _as_message(user: str, name: str, content: str, at: int) -> dict[str, Any]:
    """The shape of the document, and that of the clients."""
    return {"userId": user, "username": name, "content": content, "timestamp": at, "senderId": user, "text": content}


HANDLERS: Final[dict[str, Callable[[Participant, Sequence[Any]], Handled]]] = {
    "join_room": join_room,
    "send_message": send_message,
    "leave_session": leave_session,
}


class PeerPrep:
    """The vocabulary; see the module."""

    name = NAME

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        return event in HANDLERS

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        handler = HANDLERS.get(event)
        if handler is None:
            raise Unknown(event)
        return handler(who, args)

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        """There are no acknowledgements and no errors."""

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        match event:
            case Said():
                raw = own(event, NAME)
                if raw is None and event.content:
                    raw = (_as_message(event.user, event.user_name, event.content, event.said_at),)
                return None if raw is None else ("receive_message", raw)
            case MessageSent(message=message) if message.deleted_at is None:
                shown = _as_message(message.user, message.name, message.content, message.created_at)
                return "receive_message", (shown,)
            case MemberJoined(member=member, returning=returning):
                return SYSTEM, (_system(_kind(returning), member.user, member.name),)
            case MemberLeft(user=user, user_name=name):
                return SYSTEM, (_system("disconnect", user, name or user),)
        return None
