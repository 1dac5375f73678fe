"""PulseChat: conversations, stored. The sockets; accounts and routes are elsewhere.

Clients know messages by two names: `MESSAGE {message, room}`, which comes back as `MESSAGE` with the `message`, and the
document's `send-message {room | chatId | conversationId, …}`, which comes back as `receive-message` with all of it.
Everyone in the room hears a message under the name by which it was sent; what others than PulseChat's clients send
comes as `MESSAGE`, the name that the clients of today listen to.

A message is stored with its text as the content, so that everyone in the room can read it, and with the value that it
came in as `data`: {"pulse": {"event", "text", "value"}}, where `text` is the way to the text in `value`, which is null
there; a message that is only an image has the image's address as its content, and no such way. From these it is put
together again, also when it was read from the store.

A value comes back as it came, with the client's own `id` or none. Where a value is made up here (for a message that
came over HTTP, or from another vocabulary) its `id` is the UUID by which the routes know the message (`rooms.uuids`).

A page joins a conversation in each of its views, and leaves in each of them: a socket is out when it has left as often
as it joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from catfish.contracts.common import (
    CONVERSATION_KEYS,
    is_for_conversation,
    iso,
    ms_of,
    name_in,
    payload_of,
    text_at,
)
from catfish.contracts.interface import Handled, Participant, Reply, Unknown
from catfish.errors import Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.commands import AUTOMATIC_CLIENT_ID
from catfish.rooms.events import Event, MessageSent, Said
from catfish.rooms.model import Access, Message
from catfish.rooms.permissions import Facts, Right, check
from catfish.rooms.policy import bad_request
from catfish.rooms.room import LiveRoom
from catfish.rooms.uuids import message_uuid
from catfish.wire.native import check_data

NAME: Final = "pulsechat"
MESSAGE: Final = "MESSAGE"
HEARD_AS: Final = {MESSAGE: MESSAGE, "send-message": "receive-message"}
"""By what name a message comes that was sent by the other."""
FUTURE_MS_MAX: Final = 86_400_000
"""How far a client's clock may be ahead; what is later is stored with the server's time."""
STATUS: Final = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "user_taken": 403,
    "not_in_room": 403,
    "room_full": 403,
    "room_closed": 403,
    "no_such_room": 404,
    "rate_limited": 429,
    "busy": 503,
    "unavailable": 503,
    "draining": 503,
}

Path = tuple[str, ...]
TEXT_PATHS: Final[dict[str, tuple[Path, ...]]] = {
    MESSAGE: (("body",),),
    "send-message": (("message",), ("message", "body"), ("body",), ("content",), ("text",)),
}
"""Where the text of a message is; the first that holds some."""

# The state of a session: how often it joined, by the room's id.


class Line(NamedTuple):
    """A message as it is stored."""

    content: str
    user: str | None
    """The author, where it is not the session's user."""
    name: str | None
    created_at: int | None
    client_id: str | None
    data: dict[str, Any]


async def join(who: Participant, payload: dict[str, Any], reply: Reply | None) -> None:
    room = who.policy.room(text_at(payload, "room"))
    joined = _joined(who)
    if room not in joined:
        # A session without an account of its own does not come back as the same.
        grace_s = 0.0 if who.user == who.session else None
        await who.join(room=room, create=not _members_only(who), grace_s=grace_s)
        joined[room] = 0
    joined[room] += 1
    if reply is not None:
        reply()


async def leave(who: Participant, payload: dict[str, Any], reply: Reply | None) -> None:
    room = text_at(payload, "room")
    joined = _joined(who)
    if joined.get(room, 0) > 1:
        joined[room] -= 1
    else:
        joined.pop(room, None)
        await who.leave(room)
    if reply is not None:
        reply()


def message(who: Participant, payload: dict[str, Any], reply: Reply | None) -> Handled:
    value = payload.get("message")
    if not isinstance(value, dict):
        raise bad_request("message", "must be an object")
    return _send(who, MESSAGE, text_at(payload, "room"), value, reply)


def send_message(who: Participant, payload: dict[str, Any], reply: Reply | None) -> Handled:
    key = next((key for key in CONVERSATION_KEYS if payload.get(key) is not None), "room")
    return _send(who, "send-message", text_at(payload, key), payload, reply)


def _send(who: Participant, event: str, room: str, value: dict[str, Any], reply: Reply | None) -> Handled:
    line = _read(who, event, value)
    if line.user is not None and not (who.identified or who.may_be_author(line.user)):
        return _send_as(who, line.user, event, room, line, reply)
    return _send_line(who, event, room, line, reply)


async def _send_as(who: Participant, user: str, event: str, room: str, line: Line, reply: Reply | None) -> None:
    """In the name of somebody. The clients send no token on the socket, also for accounts that have one over HTTP."""
    await who.check_author(user, vouched=True)
    handled = _send_line(who, event, room, line, reply)
    if handled is not None:
        await handled


def _send_line(who: Participant, event: str, room: str, line: Line, reply: Reply | None) -> Handled:
    if room in _joined(who) or _members_only(who):
        _store(who, event, who.live(room).number, room, line, reply)
        return None
    live = who.hosted(room=who.policy.room(room))
    if live is None:
        return _store_elsewhere(who, event, room, line, reply)
    _check_open(live.id, live.access)
    _store(who, event, live.number, room, line, reply)
    return None


async def _store_elsewhere(who: Participant, event: str, room: str, line: Line, reply: Reply | None) -> None:
    """In a conversation that nobody here is in."""
    number, found = await who.find(room=room)
    _check_open(found.id, found.access)
    _store(who, event, number, room, line, reply)


def _check_open(room: str, access: Access) -> None:
    """Who is not in the room may write to it where anybody may; what it is to the room the store looks up."""
    check(Right.SEND, Facts(access, room=room))


def _store(who: Participant, event: str, number: int, room: str, line: Line, reply: Reply | None) -> None:
    def stored(answer: Message | Rejected) -> None:
        if isinstance(answer, Rejected):
            refuse(answer, reply)
        elif reply is not None and event != MESSAGE:
            reply()

    who.send(
        number=number,
        room=room,
        content=line.content,
        user=line.user,
        name=line.name,
        client_id=line.client_id,
        data=line.data,
        created_at=line.created_at,
        done=stored,
    )


def _members_only(who: Participant) -> bool:
    """Where accounts are required, a conversation admits its members; else its id is what admits."""
    return who.policy.settings.auth == "required"


def _joined(who: Participant) -> dict[str, int]:
    if who.state is None:
        who.state = {}
    joined: dict[str, int] = who.state
    return joined


# Messages, in the clients' form and in ours


def _read(who: Participant, event: str, value: dict[str, Any]) -> Line:
    """Take apart what a client sent.

    Raises:
        Rejected: bad_request, with the name of the field; forbidden for an author that the token does not name.
    """
    _check_plain(value)
    fields = _fields(event, value)
    path = next((path for path in TEXT_PATHS[event] if _text_at(value, path)), None)
    content = _text_at(value, path) if path is not None else None
    if content is None:
        image = fields.get("image")
        if not isinstance(image, str) or not image:
            raise bad_request("body", "must not be empty")
        content = image
    who.policy.content(content, "body")
    user, name = _author(who, fields)
    created_at = ms_of(fields.get("createdAt"))
    if created_at is not None and created_at > now_ms() + FUTURE_MS_MAX:
        created_at = None
    data = {"pulse": {"event": event, "text": path, "value": value if path is None else _with_text(value, path, None)}}
    check_data(data, who.policy.settings.data_bytes_max, "message")
    return Line(content, user, name, created_at, _client_id(who, fields), data)


def _fields(event: str, value: dict[str, Any]) -> dict[str, Any]:
    """Where a value has what is known of the message besides its text."""
    inner = value.get("message") if event != MESSAGE else None
    return inner if isinstance(inner, dict) else value


def _author(who: Participant, fields: dict[str, Any]) -> tuple[str | None, str | None]:
    author = fields.get("createdBy")
    if author is None:
        return None, None
    if not isinstance(author, dict):
        raise bad_request("createdBy", "must be an object")
    user = author.get("id")
    if user is None:
        return None, name_in(author.get("name"))
    if not isinstance(user, str):
        raise bad_request("createdBy.id", "must be text")
    if user != who.user:
        who.policy.user(user, "createdBy.id")
        if who.identified:
            raise Rejected("forbidden", "createdBy.id: is not the one whom the token names")
    return user, name_in(author.get("name")) or (user if user != who.user else None)


def _client_id(who: Participant, fields: dict[str, Any]) -> str | None:
    """A message that comes twice with the same id is stored once."""
    id = fields.get("id")
    if type(id) is int:
        id = str(id)
    if not isinstance(id, str) or not id or id.startswith(AUTOMATIC_CLIENT_ID):
        return None
    return who.policy.client_id(id)


def _check_plain(value: object) -> None:
    """Messages are stored as JSON, and come back as they came only if they were nothing else."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
            if any(type(key) is not str for key in item):
                raise bad_request("message", "has keys that are not text")
        elif isinstance(item, list):
            stack.extend(item)
        elif not (item is None or isinstance(item, (str, int, float, bool))):
            raise bad_request("message", "holds what JSON cannot express")


def _text_at(value: Any, path: Path | None) -> str | None:
    for key in path or ():
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value else None


def _with_text(value: Any, path: Sequence[str], text: str | None) -> Any:
    """A copy with that text where `path` leads; None where it leads nowhere."""
    if not path:
        return text
    key, *rest = path
    if not isinstance(value, dict) or key not in value:
        return None
    inner = _with_text(value[key], rest, text)
    return None if rest and inner is None else {**value, key: inner}


def compose(message: Message, number: int) -> tuple[str, dict[str, Any]]:
    """A stored message of the room of that number as the clients know it: the name by which it comes, and the value."""
    stored = message.data.get("pulse") if isinstance(message.data, dict) else None
    if not isinstance(stored, dict):
        stored = {}
    event, path, value = stored.get("event"), stored.get("text"), stored.get("value")
    if isinstance(event, str) and event in HEARD_AS and isinstance(value, dict) and _is_by(message, value):
        if path is None:
            whole = value if _fields(event, value).get("image") == message.content else None
        else:
            whole = _with_text(value, path, message.content) if _is_path(event, path) else None
        if whole is not None:
            return HEARD_AS[event], whole
    shown = _shown(
        message_uuid(number, message.seq),
        message.room,
        message.user,
        message.name,
        message.content or None,
        message.created_at,
        message.edited_at,
    )
    for key in ("email", "image"):
        if isinstance(stored.get(key), str):
            shown["createdBy"][key] = stored[key]
    return MESSAGE, shown


def posted(email: str, image: str | None) -> dict[str, Any]:
    """The `data` of a message that came over HTTP: what of its author the message itself does not say."""
    return {"pulse": {"email": email, "image": image}}


def show_stored(message: Message) -> dict[str, Any]:
    """What a stored message holds besides its author and its place, as the clients find it in the history."""
    name, value = compose(message, 0)
    fields = _fields("send-message" if name != MESSAGE else MESSAGE, value)
    body, image, public_id = (_text_or_none(fields.get(key)) for key in ("body", "image", "public_id"))
    is_image = image == message.content and not body
    return {
        "body": body if is_image else message.content or None,
        "image": image,
        "public_id": public_id,
        "isEdited": True if message.edited_at is not None else None,
        "createdAt": iso(message.created_at),
        "updatedAt": iso(message.created_at if message.edited_at is None else message.edited_at),
    }


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_path(event: str, path: object) -> bool:
    return isinstance(path, (list, tuple)) and tuple(path) in TEXT_PATHS[event]


def _is_by(message: Message, value: dict[str, Any]) -> bool:
    """Whether a value names no other author than the message has: other vocabularies' members choose `data` freely."""
    inner = value.get("message")
    for fields in (value, inner if isinstance(inner, dict) else value):
        author = fields.get("createdBy")
        if author is not None and not (isinstance(author, dict) and author.get("id") in (None, message.user)):
            return False
    return True


def _shown(
    id: str | None, room: str, user: str, name: str, content: str | None, at: int, edited_at: int | None
) -> dict[str, Any]:
    return {
        "id": id,
        "body": content,
        "image": None,
        "chatId": room,
        "createdBy": {"id": user, "name": name, "email": None, "image": None},
        "public_id": None,
        "isEdited": edited_at is not None,
        "createdAt": iso(at),
        "updatedAt": iso(at if edited_at is None else edited_at),
    }


def refuse(refusal: Rejected, reply: Reply | None) -> None:
    if reply is not None:
        reply({"message": refusal.message, "status": STATUS.get(refusal.code, 400)})


HANDLERS: Final[dict[str, Callable[[Participant, dict[str, Any], Reply | None], Handled]]] = {
    "JOIN": join,
    "LEAVE": leave,
    MESSAGE: message,
    "send-message": send_message,
}


class PulseChat:
    """The vocabulary; see the module."""

    name = NAME

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        return event in HANDLERS and (event != "send-message" or is_for_conversation(args))

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        handler = HANDLERS.get(event)
        if handler is None:
            raise Unknown(event)
        return handler(who, payload_of(args), reply)

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        refuse(refusal, reply)

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        match event:
            case MessageSent(message=message) if message.deleted_at is None:
                name, value = compose(message, room.number)
                return name, (value,)
            case Said(user=user, user_name=name, content=content, said_at=at) if content:
                return MESSAGE, (_shown(None, room.id, user, name, content, at, None),)
        return None
