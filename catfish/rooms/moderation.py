"""Roles, invitations, mutes, bans, blocks and reports: the commands that change what somebody may do in a room, and
what else the store is asked about that.

Whether the actor may do it is decided in the store's transaction, by `rooms.permissions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from catfish.rooms.commands import Command, Moderated
from catfish.rooms.grants import Grants
from catfish.rooms.model import Message, Role

RemovalReason = Literal["kicked", "banned"]


class Actor(msgspec.Struct, kw_only=True, frozen=True):
    """Who does it."""

    user: str
    grants: Grants | None = None
    server: bool = False
    """With the API key: it may do everything, and `user` is only a name."""


class SetRole(Command, kw_only=True):
    """Make somebody a moderator or a member, or nobody special (`none`, which also takes an invitation back). Who is
    admitted for its role alone leaves the room with it. Answer: `RoleSet`.

    Rejected: no_such_room, room_closed, forbidden, banned.
    """

    number: int
    by: Actor
    user: str
    role: Role
    """moderator, member or none."""


class Invite(Command, kw_only=True):
    """Let somebody come in. Who has a role already keeps it. Answer: `RoleSet`. Rejected: as `SetRole`."""

    number: int
    by: Actor
    user: str


class Gone(msgspec.Struct, kw_only=True):
    """A member who was removed, on every instance."""

    user: str
    name: str
    stamp: int
    """As `Joined.stamp`."""


class RoleSet(Moderated, kw_only=True):
    role: Role
    """As it is now."""
    changed: bool
    removed: tuple[Gone, ...] = ()


class Mute(Command, kw_only=True):
    """Let somebody not speak for so long, from now on; 0 takes it back. Answer: `Muted`. Rejected: as `SetRole`."""

    number: int
    by: Actor
    user: str
    duration_ms: int | None
    """None: until it is taken back."""


class Muted(Moderated, kw_only=True):
    until: int
    """In milliseconds since the epoch; 0: not at all. See `permissions.FOREVER`."""
    changed: bool


class Remove(Command, kw_only=True):
    """Remove somebody from the room, on every instance; with `ban` it does not come back. Answer: `Removed`.

    Rejected: as `SetRole`; no_such_member, when somebody is to be removed who is not there.
    """

    number: int
    by: Actor
    user: str
    ban: bool = False
    duration_ms: int | None = None
    """Of the ban; None: until it is taken back."""
    address: bool = False
    """Ban the addresses too from which the user is in the room; others who come from there are removed, but for those
    who moderate."""


class Removed(Moderated, kw_only=True):
    reason: RemovalReason
    removed: tuple[Gone, ...]
    until: int = 0
    """When the ban ends."""


class Unban(Command, kw_only=True):
    """Let somebody in again, and the addresses that were banned with it. Answer: `Unbanned`. Rejected: as `SetRole`."""

    number: int
    by: Actor
    user: str


class Unbanned(Moderated, kw_only=True):
    changed: bool


ModerationCommand = SetRole | Invite | Mute | Remove | Unban


class Standing(msgspec.Struct, kw_only=True):
    """What somebody is to a room; times in milliseconds since the epoch, 0 for what is not so (any more)."""

    user: str
    role: Role = Role.NONE
    """But for the owner, who is known by having made the room."""
    muted_until: int = 0
    banned_until: int = 0


class Removal(msgspec.Struct, kw_only=True):
    """Somebody who was removed from a room, and may have come back since."""

    number: int
    user: str
    stamp: int
    reason: RemovalReason
    """By what it may do now."""


class StandingsPage(msgspec.Struct, kw_only=True):
    standings: list[Standing]
    """In the order of the users' ids."""
    more: bool


class Seen(msgspec.Struct, kw_only=True):
    """Somebody and a room."""

    standing: Standing
    present: bool
    """Is in the room, on whatever instance."""
    now: int
    """The store's clock."""


class Report(msgspec.Struct, kw_only=True):
    """Somebody said that something was wrong."""

    id: int
    at: int
    room: str
    number: int
    by: str
    user: str | None
    """Whom it is about."""
    seq: int | None
    """Which message it is about."""
    reason: str
    messages: list[Message]
    """The last ones in the room at that time, or those up to `seq`, oldest first, as they were then."""
    handled_at: int | None = None


class NewReport(msgspec.Struct, kw_only=True):
    number: int
    room: str
    by: str
    user: str | None
    seq: int | None
    reason: str


class ReportsPage(msgspec.Struct, kw_only=True):
    reports: list[Report]
    """The newest first."""
    more: bool


class Moderation(Protocol):
    """What needs no room's lock. Every method may raise `StoreUnavailable`."""

    async def seen(self, number: int, user: str) -> Seen: ...

    async def standings(self, number: int, after: str, limit: int) -> StandingsPage:
        """Everybody who is anything to the room, from behind the user `after` on; "" for the first page."""
        ...

    async def mutes(self, numbers: Sequence[int]) -> dict[int, dict[str, int]]:
        """Who is muted in these rooms now, and until when."""
        ...

    async def removals(self, numbers: Sequence[int], after: int) -> list[Removal]:
        """Who was last removed from these rooms after that stamp."""
        ...

    async def block(self, user: str, other: str, on: bool) -> bool:
        """Whether that changed anything."""
        ...

    async def blocked(self, user: str, limit: int) -> list[str]:
        """Whom the user has blocked, in the order of the ids."""
        ...

    async def apart(self, users: Sequence[str]) -> dict[str, set[str]]:
        """Of each user whom it has blocked and who has blocked it; users without any are left out."""
        ...

    async def report(self, report: NewReport, messages: int) -> int:
        """Keep a report with so many messages; its id."""
        ...

    async def reports(self, *, below: int | None, limit: int, handled: bool) -> ReportsPage:
        """A page of the reports with ids below; `handled`: those too that were handled."""
        ...

    async def handle(self, id: int) -> bool:
        """Note that somebody has seen to a report; False when there is no such report."""
        ...
