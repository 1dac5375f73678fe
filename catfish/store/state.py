"""Rooms as one transaction sees them: what was read, and what it is about to write.

The rows of `rooms` are locked before anything else is read, so nothing here changes under our hands; the commands of a
batch take effect on these objects one after the other, and what is different in the end is written at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from catfish.rooms.commands import Command, RoomRecord
from catfish.rooms.model import Access, Member, Message, Role, Room, RoomKind
from catfish.rooms.permissions import access_of
from catfish.store.queries import ROOM_COLUMNS

_KINDS: Final = {kind.value: kind for kind in RoomKind}
"""Looked up for every room of every batch, where calling the enumeration takes a microsecond."""
_ACCESSES: Final = {access.value: access for access in Access}


class Presence:
    """A row of `members`: a user in a room on an instance."""

    __slots__ = ("address", "away_since", "changed", "dead", "instance", "name", "position", "since", "stored", "user")

    def __init__(
        self,
        user: str,
        instance: str,
        name: str,
        since: int,
        position: int,
        away_since: int | None,
        dead: bool = False,
        address: str | None = None,
        *,
        stored: bool = True,
    ) -> None:
        self.user = user
        self.instance = instance
        self.name = name
        self.since = since
        self.position = position
        self.away_since = away_since
        self.dead = dead
        """The lease of the instance has ended."""
        self.address = address
        """Where the newest of its connections comes from."""
        self.stored = stored
        self.changed = not stored

    @property
    def away(self) -> bool:
        return self.dead or self.away_since is not None


class Stranger:
    """A row of `strangers`: a user in a matched room, who waits for another when `place` is set."""

    __slots__ = ("changed", "interests", "pause_ms", "place", "stored", "user")

    def __init__(
        self, user: str, interests: frozenset[str], place: int | None, pause_ms: int, *, stored: bool = True
    ) -> None:
        self.user = user
        self.interests = interests
        self.place = place
        self.pause_ms = pause_ms
        """For how long whoever it meets is not to be met again."""
        self.stored = stored
        self.changed = not stored


class Line:
    """A message that a command names: who wrote it, and what happens to it in this transaction."""

    __slots__ = ("changed", "content", "deleted", "deleted_at", "edited_at", "user")

    def __init__(self, user: str, deleted: bool) -> None:
        self.user = user
        self.deleted = deleted
        self.content: str | None = None
        self.edited_at: int | None = None
        self.deleted_at: int | None = None
        self.changed = False


class Standing:
    """A row of `standings`: what somebody is to a room; times in milliseconds since the epoch."""

    __slots__ = ("banned_until", "changed", "muted_until", "removed", "role")

    def __init__(
        self, role: str | None = None, muted_until: int | None = None, banned_until: int | None = None, removed: int = 0
    ) -> None:
        self.role = Role.NONE if role is None else Role(role)
        self.muted_until = muted_until or 0
        self.banned_until = banned_until or 0
        self.removed = removed
        """Stamp of the last removal."""
        self.changed = False


NO_STANDING: Final = Standing()
"""Of somebody who has none; never changed."""


class RoomState:
    __slots__ = (
        "addresses_banned",
        "addresses_freed",
        "banned_addresses",
        "capacity",
        "changed",
        "closed",
        "closing",
        "code",
        "created_at",
        "created_by",
        "departed",
        "departed_changed",
        "emptied",
        "gone",
        "gone_strangers",
        "guarded",
        "id",
        "kind",
        "lines",
        "name",
        "new",
        "number",
        "opener",
        "reacted",
        "reactions",
        "reads",
        "reads_moved",
        "restricted",
        "restricting",
        "revision",
        "seq",
        "standings",
        "stored_access",
        "strangers",
        "users",
        "users_count",
    )

    def __init__(
        self,
        number: int,
        id: str,
        kind: str,
        code: str | None,
        name: str | None,
        capacity: int | None,
        created_by: str,
        created_at: int,
        closed: bool,
        seq: int,
        revision: int,
        users_count: int,
        access: str | None = None,
        restricted: bool = False,
    ) -> None:
        self.number = number
        """0 until a new room is written."""
        self.id = id
        self.kind = _KINDS[kind]
        self.code = code
        self.name = name
        self.capacity = capacity
        self.created_by = created_by
        self.created_at = created_at
        self.closed = closed
        self.seq = seq
        self.revision = revision
        self.users_count = users_count
        self.stored_access = access
        self.restricted = restricted
        """Somebody is anything to the room: `standings` has what those are whom the commands name."""
        self.restricting = False
        self.standings: dict[str, Standing] = {}
        self.banned_addresses: dict[str, int] = {}
        """Of the addresses that the commands name, until when they are banned."""
        self.addresses_banned: dict[str, tuple[int, str]] = {}
        """To be banned: until when, and with whom."""
        self.addresses_freed: set[str] = set()
        """Users with whom addresses were banned, which are to be free again."""
        self.guarded = False
        """The rows in `strangers` are locked; otherwise a stranger is claimed before being taken."""
        self.opener: Command | None = None
        """The command of this batch that made the room, until its turn comes: those before it do not see the room."""
        self.closing = False
        self.changed = False
        self.users: dict[str, dict[str, Presence]] = {}
        """User -> instance -> presence, of the users that were read; all of them for matched rooms."""
        self.gone: list[Presence] = []
        self.strangers: dict[str, Stranger] = {}
        self.gone_strangers: list[Stranger] = []
        self.departed: set[str] = set()
        """Users who left while others stayed, of those who enter now."""
        self.departed_changed: dict[str, bool] = {}
        self.emptied = False
        """Everybody has left at some point: whoever had departed before that is forgotten."""
        self.lines: dict[int, Line] = {}
        self.new: dict[int, Message] = {}
        """Messages that this transaction adds, by `seq`."""
        self.reactions: dict[tuple[int, str, str], int | None] = {}
        """(seq, emoji, user) -> revision of a reaction that is there, None of one that is not."""
        self.reacted: set[tuple[int, str, str]] = set()
        self.reads: dict[str, int] = {}
        self.reads_moved: set[str] = set()

    @property
    def is_pair(self) -> bool:
        """Of two strangers, put together by matching; then the row does not count its members."""
        return self.kind is RoomKind.MATCHED and self.code is None

    @property
    def access(self) -> Access:
        stored = self.stored_access
        return access_of(self.kind, self.code, None if stored is None else _ACCESSES[stored])

    def standing(self, user: str) -> Standing:
        """What the user is to the room, to be changed."""
        standing = self.standings.get(user)
        if standing is None:
            standing = self.standings[user] = Standing()
        standing.changed = True
        self.restricting |= not self.restricted
        self.restricted = True
        return standing

    def count(self) -> int:
        """Users in the room."""
        return len(self.users) if self.is_pair else self.users_count

    def record(self, members_count: int | None = None) -> RoomRecord:
        return RoomRecord(
            number=self.number,
            room=Room(
                id=self.id,
                kind=self.kind,
                access=self.access,
                code=self.code,
                name=self.name,
                capacity=self.capacity,
                members_count=self.count() if members_count is None else members_count,
                seq=self.seq,
                created_at=self.created_at,
            ),
            created_by=self.created_by,
            revision=self.revision,
        )

    def member(self, user: str) -> Member:
        return member_of(list(self.users[user].values()))

    def members(self) -> list[Member]:
        """In the order in which they entered; the room's users must all have been read."""
        entered = sorted(self.users.values(), key=lambda presences: next(iter(presences.values())).position)
        return [member_of(list(presences.values())) for presences in entered]

    def present(self, user: str) -> bool:
        return any(not presence.away for presence in self.users.get(user, {}).values())

    def add(self, presence: Presence) -> None:
        self.users.setdefault(presence.user, {})[presence.instance] = presence

    def remove(self, presence: Presence) -> None:
        instances = self.users[presence.user]
        del instances[presence.instance]
        if not instances:
            del self.users[presence.user]
        if presence.stored:
            self.gone.append(presence)

    def depart(self, user: str) -> None:
        """The user has left a room that is not a matched one."""
        if self.users_count > 0:
            self.departed.add(user)
            self.departed_changed[user] = True
        else:
            self.emptied = True
            self.departed.clear()
            self.departed_changed.clear()

    def come_back(self, user: str) -> bool:
        """The user enters; whether it had departed."""
        if user not in self.departed:
            return False
        self.departed.discard(user)
        self.departed_changed[user] = False
        return True

    def remove_stranger(self, user: str) -> None:
        stranger = self.strangers.pop(user, None)
        if stranger is not None and stranger.stored:
            self.gone_strangers.append(stranger)


def member_of(presences: list[Presence]) -> Member:
    """One member from the rows of one user in one room; there is at least one."""
    return Member(
        user=presences[0].user,
        name=presences[0].name,
        since=min(presence.since for presence in presences),
        away=all(presence.away for presence in presences),
    )


class Rooms:
    """What one transaction knows. Numbers drawn beforehand come in the order in which they are to be used."""

    def __init__(self) -> None:
        self.now = 0
        """The database's clock, milliseconds since the epoch, when somebody enters."""
        self.by_number: dict[int, RoomState] = {}
        self.by_id: dict[str, RoomState] = {}
        self.by_code: dict[str, RoomState] = {}
        self.opened: list[RoomState] = []
        """New matched rooms, not yet written."""
        self.stranger_of: dict[str, RoomState] = {}
        self.sent_before: dict[tuple[int, str, str], tuple[Message, int]] = {}
        """(room, user, client id) -> the message that was stored with it, and its revision; also of this transaction,
        and of earlier ones when they were looked up."""
        self.messages: list[tuple[RoomState, Message, int, str | None]] = []
        """To be added, with their revisions and client ids."""
        self.changes: list[tuple[RoomState, int, int, int, int, str, str, str | None]] = []
        """To be added: room, revision, seq, last seq of the room, at, kind, user, emoji."""
        self.claims: list[tuple[RoomState, str]] = []
        """Strangers of rooms that are not guarded, who were matched."""
        self.apart: dict[str, set[str]] = {}
        """Whom those who come have blocked, and who has blocked them."""
        self.partners: dict[str, set[str]] = {}
        """Whom those who seek are not to meet again, yet."""
        self.met: dict[tuple[str, str], int] = {}
        """(user, partner) -> until when they are not to meet again, of those who meet now."""
        self.positions: Iterator[int] = iter(())
        self.places: Iterator[int] = iter(())

    def add(self, room: RoomState) -> None:
        self.by_number[room.number] = room
        self.by_id[room.id] = room
        if room.code is not None:
            self.by_code[room.code] = room

    def all(self) -> Iterator[RoomState]:
        yield from self.by_number.values()
        yield from self.opened


def room_from_row(row: tuple[Any, ...]) -> RoomState:
    """From the columns of `queries.ROOM`."""
    return RoomState(*row[:ROOM_COLUMNS])


def record_from_row(row: tuple[Any, ...]) -> RoomRecord:
    """From the columns of `queries.ROOM_COUNTED`."""
    return RoomState(*row[:ROOM_COLUMNS]).record(members_count=row[11])
