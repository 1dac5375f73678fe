"""Durable commands: what the journal commits, and what each commit answers.

Ephemeral commands (typing, media, signals, custom events) never reach the store; `rooms.room` decides on them.
Every command names its room by the room's `number`, the store's own key, once the room is known.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from catfish.rooms.grants import Grants
from catfish.rooms.model import Access, Member, Message, Room, RoomKind


class RoomRecord(msgspec.Struct, kw_only=True):
    """A room as the store knows it."""

    number: int
    """The store's key: dense, increasing, also the numeric room id that some vocabularies show."""
    room: Room
    created_by: str
    revision: int
    """Place of the newest durable change (message, edit, deletion, reaction) in the room's order of changes."""


class Command(msgspec.Struct):
    """Base of the durable commands."""


class CreateRoom(Command, kw_only=True):
    """Answer: `RoomRecord`. Rejected `code_taken` asks the caller to try another code (never seen by clients)."""

    id: str
    kind: RoomKind
    access: Access | None = None
    """Members or invited; None: what the kind says."""
    code: str | None
    name: str | None
    capacity: int | None
    user: str


class Join(Command, kw_only=True):
    """Enter a room, or come back to it. Answer: `Joined`.

    Exactly one of `room` and `code` is set. `create` makes an open room of that id when there is none. Whom the room
    admits, `rooms.permissions` decides; the code, or being there already (rows of any instance), admits to some.
    Who was invited is a member from then on. A closed room refuses, and what the instance holds of the user there goes:
    it may have been stored by the same command, unconfirmed, before the room was closed.

    Rejected: no_such_room, no_such_code, room_closed, room_full, forbidden, banned, kicked.
    """

    room: str | None
    code: str | None
    create: bool
    user: str
    name: str
    instance: str
    with_members: bool
    """Whether the answer must list the members (an instance that hosts the room knows them already)."""
    grants: Grants | None = None
    """What the user's token restricts it to."""
    address: str | None = None
    """Where the user comes from, as `permissions.banned_address` writes it."""
    restores: int = 0
    """Stamp of an earlier coming of which the store may have lost the row; `kicked` if the user was removed since."""


class Joined(msgspec.Struct, kw_only=True):
    record: RoomRecord
    member: Member
    first: bool
    """No other device or instance had the user in the room: the others are to be told."""
    stamp: int
    """Place among all comings and goings in the room, in the order in which they were committed; it increases."""
    returning: bool = False
    """`first`, and the user was in the room before and told to be gone while others stayed."""
    members: list[Member] | None
    """All members in the order in which they entered, when asked for."""
    muted_until: int = 0
    """Until when the user is muted in the room, in milliseconds since the epoch."""
    apart: tuple[str, ...] = ()
    """Users whom the user has blocked, and those who have blocked it."""


class Leave(Command, kw_only=True):
    """Leave a room on this instance. Answer: `Left`.

    With `away_since` only an absence that began then or before ends so: a user who came back meanwhile stays, and so
    does one who was lost anew, with another instance whose members this one took over.
    """

    number: int
    user: str
    instance: str
    away_since: int | None = None
    """As `Away` or `Taken` told it."""


class Left(msgspec.Struct, kw_only=True):
    last: bool
    """The user is now in the room on no instance; true as well when it was there on none before."""
    stamp: int
    """As `Joined.stamp`; 0 unless `last`."""
    members_count: int


class Away(Command, kw_only=True):
    """The last connection of a user on this instance was lost: it is away from now on, if it is not already.

    Answer: since when, in milliseconds since the epoch by the store's clock; None when it is not in the room here.
    """

    number: int
    user: str
    instance: str


class Match(Command, kw_only=True):
    """Find a stranger who waits, or wait. Answer: `Matched`.

    Who waits longest among those with the most interests in common is taken; never oneself, never one of `avoid`.
    `new_room` is the id of the room to wait in when nobody is found. Two of whom one has blocked the other do not meet,
    nor do two who met, until the pause of either is over.

    Rejected: banned.
    """

    user: str
    name: str
    instance: str
    interests: tuple[str, ...]
    avoid: tuple[str, ...] = ()
    new_room: str
    pause_ms: int = 0
    """For how long whoever is met is not to be met again."""


class Rematch(Command, kw_only=True):
    """Bring one who waits in a matched room, because its partner left, to another who waits. Answer: `Matched`, or None
    when nobody else waits, or the user waits no more, or is not there on this instance.

    The user leaves its room, which ends, and enters the other's. So nobody waits while another waits. Its devices on
    other instances find that the room is closed. Asked again after that, the answer is the same: the room in which the
    user is.
    """

    number: int
    user: str
    instance: str


class Matched(msgspec.Struct, kw_only=True):
    record: RoomRecord
    member: Member
    peer: Member | None
    """The one who waited; None when the user waits now."""
    stamp: int
    """As `Joined.stamp`."""
    apart: tuple[str, ...] = ()
    """As `Joined.apart`."""


AUTOMATIC_CLIENT_ID: Final = "~"
"""First character of client ids that the server made itself, so that a repeated transaction stores nothing twice. The
store keeps them and never shows them: `Message.client_id` is None then."""


class SendMessage(Command, kw_only=True):
    """Answer: `Sent`. Idempotent by (number, user, client_id) when `client_id` is set.

    Rejected: room_closed, forbidden, banned, muted.
    """

    number: int
    room: str
    user: str
    name: str
    content: str
    client_id: str | None
    reply_to: int | None
    data: Any
    created_at: int
    """Milliseconds since the epoch, the server's clock when the command was accepted."""
    grants: Grants | None = None
    """What the sender's token restricts it to."""
    server: bool = False
    """A server sends it, with the API key, in somebody's name."""


class Sent(msgspec.Struct, kw_only=True):
    message: Message
    revision: int
    repeated: bool
    """The same client id was stored before: `message` is that first one, and nobody is told again."""


class Edit(Command, kw_only=True):
    """Answer: `Changed`. Rejected: no_such_message (also when deleted), not_your_message, banned, muted."""

    number: int
    seq: int
    user: str
    content: str
    at: int


class Delete(Command, kw_only=True):
    """Answer: `Changed`; deleting what is deleted is `unchanged`. Who moderates the room deletes anybody's.

    Rejected: no_such_message, not_your_message.
    """

    number: int
    seq: int
    user: str
    at: int
    grants: Grants | None = None


class React(Command, kw_only=True):
    """Answer: `Changed`; `unchanged` when it was so before. Rejected: no_such_message, banned, muted."""

    number: int
    seq: int
    user: str
    emoji: str
    on: bool
    at: int


class Changed(msgspec.Struct, kw_only=True):
    revision: int
    """0 when unchanged."""
    unchanged: bool


class MarkRead(Command, kw_only=True):
    """Move the user's read position, never back, never past the newest message. Answer: `Read`."""

    number: int
    user: str
    seq: int


class Read(msgspec.Struct, kw_only=True):
    seq: int
    moved: bool


Change = Edit | Delete | React | MarkRead
"""What a member does to messages that are there."""


class CloseRoom(Command, kw_only=True):
    """Nobody can enter or write any more. Answer: bool, False when it was closed already."""

    number: int


class Moderated(msgspec.Struct):
    """Base of the answers to the commands of `rooms.moderation`."""


Answer = RoomRecord | Joined | Left | Matched | Sent | Changed | Read | Moderated | bool | int | None
