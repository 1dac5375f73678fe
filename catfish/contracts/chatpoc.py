"""Chat POC: rooms by code, everything stored, no authentication.

Each socket is a user of its own, in one room at a time; its nickname is a name for the others. Whoever knows a room's
code may send to it, member or not.

The clients put their acknowledgement function at a fixed place. One that stands elsewhere (behind a payload that
`room:create` does not have, or where `room:join` has its payload) is never called, as by the original server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from catfish.contracts.common import first, iso, name_in, own
from catfish.contracts.interface import Handled, Participant, Reply, Unknown
from catfish.errors import Rejected
from catfish.rooms.codes import normalise_code
from catfish.rooms.events import Announced, Event, MemberJoined, MessageSent, Said
from catfish.rooms.model import Member, Message, Room, RoomKind
from catfish.rooms.room import LiveRoom

NAME: Final = "chatpoc"
CODE_REQUIRED: Final = "Room code is required"
ROOM_NOT_FOUND: Final = "Room not found"
CODE_CHARS: Final = range(3, 13)
SENDER_CHARS_MAX: Final = 64

_CODE: Final = re.compile(r"[a-z0-9]{3,12}")

# The state of a session: {"room": id of its room or None, "nickname": the last one that it gave, or ""}.


async def room_create(who: Participant, args: Sequence[Any], reply: Reply | None) -> None:
    room = await who.create(kind=RoomKind.OPEN)
    entry = await who.join(room=room.id, create=False, grace_s=0.0)
    await _leave_former(who, entry.live)
    if reply is not None:
        reply({"ok": True, "room": show_room(entry.live.number, entry.room)})


def room_join(who: Participant, args: Sequence[Any], reply: Reply | None) -> Handled:
    payload = first(args)
    code = payload.get("code") if isinstance(payload, dict) else None
    if code is None or code == "":
        raise Rejected("bad_request", CODE_REQUIRED)
    if not isinstance(code, str):
        raise Rejected("bad_request", "Room code must be text")
    return _join(who, check_code(code), payload.get("nickname"), reply)


async def _join(who: Participant, code: str, nickname: Any, reply: Reply | None) -> None:
    state = _state(who)
    if not (isinstance(nickname, str) and (nickname := nickname.strip())):
        nickname = state["nickname"]
    if not who.identified:
        await who.introduce(name=name_in(nickname))
    origin = NAME, nickname
    entry = await who.join(code=code, grace_s=0.0, origin=origin)
    state["nickname"] = nickname
    if not entry.first:
        who.say(entry.live.id, Announced(room=entry.live.id, member=entry.member, origin=origin))
    await _leave_former(who, entry.live)
    if reply is not None:
        reply({"ok": True, "room": show_room(entry.live.number, entry.room)})


async def _leave_former(who: Participant, live: LiveRoom) -> None:
    state = _state(who)
    former, state["room"] = state["room"], live.id
    if former is not None and former != live.id:
        await who.leave(former)


def chat_send(who: Participant, args: Sequence[Any], reply: Reply | None) -> Handled:
    payload = first(args)
    fields = payload if isinstance(payload, dict) else {}
    code, sender, content = check_message(fields, who.policy.settings.content_chars_max)
    live = who.hosted(code=code)
    if live is None:
        return _send_elsewhere(who, code, sender, content, reply)
    _send(who, live.number, live.id, code, sender, content, reply)
    return None


async def _send_elsewhere(who: Participant, code: str, sender: str, content: str, reply: Reply | None) -> None:
    """To a room in which nobody here is."""
    number, room = await who.find(code=code)
    _send(who, number, room.id, code, sender, content, reply)


def _send(
    who: Participant,
    number: int,
    room: str,
    code: str,
    sender: str,
    content: str,
    reply: Reply | None,
) -> None:
    def stored(answer: Message | Rejected) -> None:
        if isinstance(answer, Rejected):
            refuse(answer, reply)
        elif reply is not None:
            reply({"ok": True, "message": show_message(answer, number, code)})

    who.send(number=number, room=room, content=content, name=sender, done=stored)


def check_message(fields: dict[str, Any], content_chars_max: int) -> tuple[str, str, str]:
    """The code, in the form in which it is looked up, the sender and the content of a message to be sent; a body of
    `POST /api/messages` has the same.

    Raises:
        Rejected: the message names the field; `no_such_code` for what cannot be one.
    """
    code = _text("roomCode", fields, CODE_CHARS.start, CODE_CHARS.stop - 1)
    sender = _text("sender", fields, 1, SENDER_CHARS_MAX)
    content = _text("content", fields, 1, content_chars_max)
    return check_code(code), sender, content


def _text(field: str, fields: dict[str, Any], chars_min: int, chars_max: int) -> str:
    value = fields.get(field)
    if value is None:
        raise Rejected("bad_request", f"{field} is required")
    if not isinstance(value, str):
        raise Rejected("bad_request", f"{field} must be text")
    if not chars_min <= len(value) <= chars_max:
        raise Rejected("bad_request", f"{field} must have {chars_min} to {chars_max} characters")
    if "\0" in value:
        raise Rejected("bad_request", f"{field} must not have the character NUL")
    return value


def check_code(code: str) -> str:
    """A code in the form in which it is looked up. Rejected: no_such_code for what cannot be one."""
    code = normalise_code(code)
    if not _CODE.fullmatch(code):
        raise Rejected("no_such_code", ROOM_NOT_FOUND)
    return code


def _state(who: Participant) -> dict[str, Any]:
    if who.state is None:
        who.state = {"room": None, "nickname": ""}
    state: dict[str, Any] = who.state
    return state


def error_text(refusal: Rejected) -> str:
    """A refusal in the words that the clients know."""
    return ROOM_NOT_FOUND if refusal.code in ("no_such_code", "no_such_room") else refusal.message


def refuse(refusal: Rejected, reply: Reply | None) -> None:
    if reply is not None:
        reply({"ok": False, "error": error_text(refusal)})


def show_room(number: int, room: Room) -> dict[str, Any]:
    return {"id": number, "code": room.code, "createdAt": iso(room.created_at)}


def show_message(message: Message, number: int, code: str | None) -> dict[str, Any]:
    """A message as Chat POC's clients know it, over HTTP as well; `number` and `code` are its room's."""
    return _shown(message.id, number, message.name, message.content, message.created_at, code)


def _shown(id: int, number: int, sender: str, content: str, at: int, code: str | None) -> dict[str, Any]:
    return {
        "id": id,
        "roomId": number,
        "sender": sender,
        "content": content,
        "createdAt": iso(at),
        "roomCode": code,
    }


HANDLERS: Final[dict[str, Callable[[Participant, Sequence[Any], Reply | None], Handled]]] = {
    "room:create": room_create,
    "room:join": room_join,
    "chat:send": chat_send,
}


class ChatPoc:
    """The vocabulary; see the module."""

    name = NAME

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        return event in HANDLERS

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        handler = HANDLERS.get(event)
        if handler is None:
            raise Unknown(event)
        return handler(who, args, reply if _is_in_place(event, args) else None)

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        if _is_in_place(event, args):
            refuse(refusal, reply)

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        match event:
            case MessageSent(message=message) if message.deleted_at is None:
                return "chat:message", (show_message(message, room.number, room.code),)
            case Said(user_name=name, content=content, said_at=at):
                return ("chat:message", (_shown(0, room.number, name, content, at, room.code),)) if content else None
            case MemberJoined(member=member) | Announced(member=member):
                (nickname,) = own(event, NAME) or (_nickname(member),)
                return "room:participant-joined", ({"roomCode": room.code, "nickname": nickname},)
        return None


def _is_in_place(event: str, args: Sequence[Any]) -> bool:
    """Whether an acknowledgement function behind these arguments is where the clients have it."""
    if event != "room:create":
        return len(args) == 1
    # The document's `room:create` has no payload; `{kind: "open"}`, its native one, asks for the same kind of room.
    return not args or (len(args) == 1 and args[0] == {"kind": "open"})


def _nickname(member: Member) -> str:
    """Guests who gave themselves no name are called by their id."""
    return member.name if member.name != member.user else ""
