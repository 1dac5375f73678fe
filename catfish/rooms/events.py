"""What members of a room hear. Encoded as they stand by the native protocol; other vocabularies translate them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from catfish.rooms.model import Member, Message, Role

LeaveReason = Literal["left", "gone", "kicked", "banned"]
Device = Literal["camera", "mic", "screen"]


class Event(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Base: `name` is the event's native name; `room` is the room's id.

    `origin` is a pair of a vocabulary's name and what the sender's hands to members who speak the same one, so that
    they get a value as it came; every other vocabulary ignores it.
    """

    name: ClassVar[str]
    room: str
    origin: tuple[str, Any] | None = None


class DurableEvent(Event, kw_only=True):
    """An event that is in the store. `revision` is its place in the room's order of changes: 1, 2, 3 … without gaps."""

    revision: int


class MemberJoined(Event, kw_only=True):
    """`stamp`: see `rooms.commands.Joined`; for instances, not shown natively."""

    name: ClassVar[str] = "room:joined"
    member: Member
    stamp: int = 0
    returning: bool = False
    """It was in the room before, was told to be gone, and others have been there all the time."""


class Announced(Event, kw_only=True):
    """A member says once more that it is there. Only vocabularies whose clients expect that tell it."""

    name: ClassVar[str] = "room:announced"
    member: Member


class MemberLeft(Event, kw_only=True):
    name: ClassVar[str] = "room:left"
    user: str
    user_name: str = ""
    """What it was called, for vocabularies that tell it; the native one does not."""
    stamp: int = 0
    reason: LeaveReason


class MemberMuted(Event, kw_only=True):
    """Somebody may not speak, or may again; it need not be in the room."""

    name: ClassVar[str] = "room:muted"
    user: str
    until: int = 0
    """Milliseconds since the epoch, `permissions.FOREVER` for good; 0: it may speak."""


class RoleChanged(Event, kw_only=True):
    """Somebody is something else to the room now; it need not be in it."""

    name: ClassVar[str] = "room:role"
    user: str
    role: Role


class Invited(Event, kw_only=True):
    """To the user itself, wherever it is connected."""

    name: ClassVar[str] = "room:invited"
    user: str
    by: str


class UsersApart(Event, kw_only=True):
    """An order to every instance: one of two has blocked the other, or neither does any more. `room` is empty."""

    name: ClassVar[str] = "users:apart"
    user: str
    other: str
    on: bool


class RoomReady(Event, kw_only=True):
    """Both strangers of a matched room are there."""

    name: ClassVar[str] = "room:ready"


class LimitsSpent(Event, kw_only=True):
    """For the instances themselves: what users and addresses have used of their limits, by `kind:scope:key`."""

    name: ClassVar[str] = "limits:spent"
    spent: dict[str, int]


class UserDisconnected(Event, kw_only=True):
    """An order to every instance: the user's sessions end. No member of a room hears it; `room` is empty."""

    name: ClassVar[str] = "user:disconnected"
    user: str
    guests: bool = False
    """Only the sessions of those who are called so without a token."""


class RoomClosed(Event, kw_only=True):
    name: ClassVar[str] = "room:closed"


class Custom(Event, kw_only=True):
    """An ephemeral event of the application's own."""

    name: ClassVar[str] = "room:event"
    user: str
    event: str
    data: Any = None


class MessageSent(DurableEvent, kw_only=True):
    """Carries the whole message; natively its payload is the message itself."""

    name: ClassVar[str] = "chat:message"
    message: Message


class Said(Event, kw_only=True):
    """A message of a vocabulary that stores none. Natively a `chat:message` with `seq` 0 and `id` 0.

    `content` is the text in it; where there is none, only members who speak that vocabulary hear of it.
    """

    name: ClassVar[str] = "chat:message"
    user: str
    user_name: str
    content: str
    said_at: int


class MessageEdited(DurableEvent, kw_only=True):
    name: ClassVar[str] = "chat:edited"
    seq: int
    user: str
    content: str
    edited_at: int


class MessageDeleted(DurableEvent, kw_only=True):
    name: ClassVar[str] = "chat:deleted"
    seq: int
    user: str
    deleted_at: int


class MessageReacted(DurableEvent, kw_only=True):
    name: ClassVar[str] = "chat:reacted"
    seq: int
    user: str
    emoji: str
    on: bool


class MessagesRead(Event, kw_only=True):
    name: ClassVar[str] = "chat:read"
    user: str
    seq: int


class Typing(Event, kw_only=True):
    name: ClassVar[str] = "chat:typing"
    user: str
    on: bool


class MediaToggled(Event, kw_only=True):
    name: ClassVar[str] = "media:toggled"
    user: str
    device: Device
    on: bool


class MediaStarted(Event, kw_only=True):
    name: ClassVar[str] = "media:started"
    user: str


class Signal(Event, kw_only=True):
    """Addressed to one member."""

    name: ClassVar[str] = "signal"
    user: str
    data: Any = None
