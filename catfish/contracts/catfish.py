"""Catfish: rooms of two strangers, nothing stored, no authentication.

Values are relayed as they came, whatever they are. There are no acknowledgements, and what is refused is ignored.

A member is known by its session, not by the `userId` that it sends: nobody vouches for that, the partner is told it,
and two sockets may well send the same. Who joined with a partner's id would otherwise be let into the partner's room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from catfish.contracts.common import first, is_for_conversation, name_in, own, text_in
from catfish.contracts.interface import Handled, Origin, Participant, Reply, Unknown
from catfish.errors import Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.events import (
    Event,
    MediaStarted,
    MediaToggled,
    MemberJoined,
    MemberLeft,
    MessageSent,
    Said,
)
from catfish.rooms.policy import bad_request
from catfish.rooms.room import LiveRoom

NAME: Final = "catfish"
TOGGLED: Final = {"camera": "camera-toggled", "mic": "mic-toggled"}

# The state of a session is the id of its room, or None.


async def join_room(who: Participant, args: Sequence[Any]) -> None:
    user = first(args)
    _check_size(who, user)
    room = who.state
    if room is not None:
        if len(who.live(room).members) < 2:
            return  # it waits already
        await _leave(who, room)
    if not who.identified:
        await who.introduce(name=name_in(user))
    # The originals put two who have just parted together again, and their clients count on it.
    pairing = await who.match(again=True, grace_s=0.0, origin=_origin(user))
    who.state = pairing.room.id


async def leave_room(who: Participant, args: Sequence[Any]) -> None:
    room = who.state
    if room is not None:
        await _leave(who, room)
        who.emit("ready-to-join")


async def _leave(who: Participant, room: str) -> None:
    who.state = None
    await who.leave(room)


def toggle(who: Participant, args: Sequence[Any], device: Literal["camera", "mic"]) -> None:
    """The clients say that a device was switched, not whether on or off: for the others it is what it was not."""
    user, room = first(args), who.state
    if room is not None:
        media = who.live(room).member(who.user).media
        who.toggle(room, device, not getattr(media, device), origin=_origin(user))
    if len(args) < 2 or _is_truthy(args[1]):
        who.emit(TOGGLED[device], user)


def stream_started(who: Participant, args: Sequence[Any]) -> None:
    room = who.state
    if room is not None:
        who.say(room, MediaStarted(room=room, user=who.user))


def send_message(who: Participant, args: Sequence[Any]) -> None:
    value, room = first(args), who.state
    if room is not None:
        name = value.get("userName") if isinstance(value, dict) else None
        said = Said(
            room=room,
            user=who.user,
            user_name=name_in(name) or who.name,
            content=text_in(value, who.policy.settings.content_chars_max),
            said_at=now_ms(),
            origin=_origin(value),
        )
        who.say(room, said)
    who.emit("receive-message", value)


def _origin(value: Any) -> Origin:
    return NAME, value


def _check_size(who: Participant, value: Any) -> None:
    """The id of a member is kept as long as it is there."""
    bytes_max = who.policy.settings.data_bytes_max
    if len(msgspec.json.encode(value)) > bytes_max:
        raise bad_request("userId", f"more than {bytes_max} bytes as JSON")


def _is_truthy(value: Any) -> bool:
    """As JavaScript has it: empty arrays and objects are, NaN is not."""
    if isinstance(value, (list, dict, bytes)):
        return True
    return bool(value) and value == value


HANDLERS: Final[dict[str, Callable[[Participant, Sequence[Any]], Handled]]] = {
    "join-room": join_room,
    "leave-room": leave_room,
    "toggle-camera": lambda who, args: toggle(who, args, "camera"),
    "toggle-mic": lambda who, args: toggle(who, args, "mic"),
    "stream-started": stream_started,
    "send-message": send_message,
}


class Catfish:
    """The vocabulary; see the module."""

    name = NAME

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        return event in HANDLERS and not (event == "send-message" and is_for_conversation(args))

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        handler = HANDLERS.get(event)
        if handler is None:
            raise Unknown(event)
        return handler(who, args)

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        """There are no acknowledgements and no errors."""

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        raw = own(event, NAME)
        match event:
            case Said():
                if raw is None:
                    raw = (_as_message(event.user_name, event.user, event.content),) if event.content else None
                return None if raw is None else ("receive-message", raw)
            case MessageSent(message=message) if message.deleted_at is None:
                return "receive-message", (_as_message(message.name, message.user, message.content),)
            case MediaToggled(user=user, device=device):
                return (TOGGLED[device], raw or (user,)) if device in TOGGLED else None
            case MediaStarted():
                return "stream-started", ()
            case MemberJoined(member=member):
                return "user-joined", raw or (member.user,)
            case MemberLeft(user=user):
                return "user-disconnected", raw or (user,)
        return None


def _as_message(name: str, user: str, content: str) -> dict[str, Any]:
    return {"userName": name, "userId": user, "messageContent": content}
