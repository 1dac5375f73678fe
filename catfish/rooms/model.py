"""What rooms, members and messages are.

The structs are encoded as they stand by the native protocol (camelCase, absent optionals left out), so their field
names are part of it; `docs/protocol.md` describes them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class RoomKind(StrEnum):
    OPEN = "open"
    """Anyone who names its id or its code comes in."""
    PRIVATE = "private"
    """Only its code admits, except for its creator and for those who are members already."""
    MATCHED = "matched"
    """For two: strangers put together by matching, or, when it has a code, whoever comes by that."""


class Access(StrEnum):
    """Whom a room admits; `rooms.permissions` says what that means."""

    PUBLIC = "public"
    """Whoever names its id or its code."""
    CODE = "code"
    """Whoever names its code."""
    MEMBERS = "members"
    """Those whom its owner or a moderator made members or invited."""
    INVITED = "invited"
    """Those whom a member invited, who are members from then on."""
    PAIR = "pair"
    """Two strangers whom matching put together, and nobody else."""


class Role(StrEnum):
    """What somebody is to a room, present or not."""

    OWNER = "owner"
    """Who made it."""
    MODERATOR = "moderator"
    MEMBER = "member"
    INVITED = "invited"
    """May come in, and is a member as soon as it has."""
    NONE = "none"


class Room(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A room as clients see it."""

    id: str
    kind: RoomKind
    access: Access = Access.PUBLIC
    code: str | None = None
    name: str | None = None
    capacity: int | None = None
    members_count: int
    seq: int
    """Sequence number of the newest message; 0 when there is none."""
    created_at: int
    """Milliseconds since the epoch."""


class Media(msgspec.Struct, rename="camel", frozen=True):
    """Which devices a member has switched on."""

    camera: bool = False
    mic: bool = False
    screen: bool = False


class Member(msgspec.Struct, rename="camel", kw_only=True):
    """A user in a room; several devices of one user are one member."""

    user: str
    name: str
    since: int
    """When the user entered, in milliseconds since the epoch."""
    media: Media = Media()
    away: bool = False
    """True while the connection is lost and the grace period runs."""


class Message(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A message as it stands now: edits are applied, a deleted one has lost its content."""

    room: str
    seq: int
    """Place in the room's total order: 1, 2, 3 … without gaps."""
    id: int
    """Unique over all rooms, increasing."""
    user: str
    name: str
    content: str
    client_id: str | None = None
    reply_to: int | None = None
    data: Any = None
    created_at: int
    edited_at: int | None = None
    deleted_at: int | None = None
    reactions: dict[str, list[str]] | None = None
    """Emoji to the users who reacted with it, in the order in which they did."""
