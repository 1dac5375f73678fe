"""A room as the double of the store keeps it, and what all parts of the double share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from catfish.rooms.commands import AUTOMATIC_CLIENT_ID, RoomRecord
from catfish.rooms.events import DurableEvent, MessageEdited, MessageSent
from catfish.rooms.model import Access, Member, Message, Role, Room, RoomKind
from catfish.rooms.permissions import access_of
from catfish.store import refusals


class Presence(msgspec.Struct, kw_only=True):
    """A user in a room on one instance."""

    user: str
    instance: str
    name: str
    since: int
    position: int
    away_since: int | None = None
    address: str | None = None


class Stranger(msgspec.Struct, kw_only=True):
    """A user in a matched room; `place` in the queue of those who wait, None while not alone."""

    user: str
    interests: frozenset[str]
    place: int | None
    pause_ms: int


class Standing(msgspec.Struct, kw_only=True):
    """What somebody is to a room."""

    role: Role = Role.NONE
    muted_until: int = 0
    banned_until: int = 0
    removed: int = 0


class Stored(msgspec.Struct, kw_only=True):
    """A message with what the model does not show."""

    message: Message
    revision: int
    reactions: dict[tuple[str, str], None]
    """(emoji, user), in the order in which they reacted."""


class StoredRoom:
    def __init__(self, number: int, command_id: str, kind: RoomKind, created_by: str, created_at: int) -> None:
        self.number = number
        self.id = command_id
        self.kind = kind
        self.created_by = created_by
        self.created_at = created_at
        self.code: str | None = None
        self.name: str | None = None
        self.capacity: int | None = None
        self.closed_at: int | None = None
        self.revision = 0
        self.presences: dict[tuple[str, str], Presence] = {}
        self.messages: list[Stored] = []
        self.client_ids: dict[tuple[str, str], int] = {}
        self.changes: list[DurableEvent] = []
        self.reads: dict[str, int] = {}
        self.strangers: dict[str, Stranger] = {}
        self.departed: set[str] = set()
        self.stored_access: Access | None = None
        self.standings: dict[str, Standing] = {}
        self.banned_addresses: dict[str, tuple[int, str]] = {}
        """Until when, and with whom."""

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    @property
    def is_pair(self) -> bool:
        """Of two strangers, put together by matching."""
        return self.kind is RoomKind.MATCHED and self.code is None

    @property
    def access(self) -> Access:
        return access_of(self.kind, self.code, self.stored_access)

    def standing(self, user: str) -> Standing:
        """As it is; for one who has none, it is not kept."""
        return self.standings.get(user) or Standing()

    def role(self, user: str) -> Role:
        return Role.OWNER if self.created_by == user else self.standing(user).role

    def of_user(self, user: str) -> list[Presence]:
        return [presence for presence in self.presences.values() if presence.user == user]

    def users(self) -> set[str]:
        return {presence.user for presence in self.presences.values()}

    def stored(self, seq: int) -> Stored | None:
        return self.messages[seq - 1] if 1 <= seq <= len(self.messages) else None

    def record(self) -> RoomRecord:
        return RoomRecord(
            number=self.number,
            room=Room(
                id=self.id,
                kind=self.kind,
                access=self.access,
                code=self.code,
                name=self.name,
                capacity=self.capacity,
                members_count=len(self.users()),
                seq=len(self.messages),
                created_at=self.created_at,
            ),
            created_by=self.created_by,
            revision=self.revision,
        )


class Shelf:
    """All rooms, and the counters. `now` gives milliseconds since the epoch."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.rooms: dict[int, StoredRoom] = {}
        self.by_id: dict[str, StoredRoom] = {}
        self.by_code: dict[str, StoredRoom] = {}
        self.leases: dict[str, int] = {}
        self.blocks: dict[tuple[str, str], None] = {}
        """(user, whom it has blocked)."""
        self.met: dict[tuple[str, str], int] = {}
        """(user, partner) -> until when they are not to meet again."""
        self.numbers = itertools.count(1)
        self.message_ids = itertools.count(1)
        self.positions = itertools.count(1)
        self.places = itertools.count(1)

    def room(self, number: int) -> StoredRoom:
        """Rejected: no_such_room."""
        room = self.rooms.get(number)
        if room is None:
            raise refusals.no_such_room(number)
        return room

    def open(self, id: str, kind: RoomKind, user: str) -> StoredRoom:
        room = StoredRoom(next(self.numbers), id, kind, user, self.now())
        self.rooms[room.number] = self.by_id[id] = room
        return room

    def apart(self, user: str) -> tuple[str, ...]:
        """Whom the user has blocked, and who has blocked it."""
        pairs = [pair for pair in self.blocks if user in pair]
        return tuple(sorted({other for pair in pairs for other in pair if other != user}))

    def away_since(self, presence: Presence) -> int | None:
        """When the user went away; members of an instance are away since its lease ended."""
        if presence.away_since is not None:
            return presence.away_since
        ends = self.leases.get(presence.instance)
        return ends if ends is not None and ends <= self.now() else None

    def member(self, room: StoredRoom, user: str) -> Member:
        known = room.of_user(user)
        return Member(
            user=user,
            name=known[0].name,
            since=min(presence.since for presence in known),
            away=all(self.away_since(presence) is not None for presence in known),
        )

    def members(self, room: StoredRoom) -> list[Member]:
        """In the order in which they entered."""
        entered = {presence.user: presence.position for presence in room.presences.values()}
        return [self.member(room, user) for user in sorted(entered, key=entered.__getitem__)]


def shown(stored: Stored) -> Message:
    reactions: dict[str, list[str]] = {}
    for emoji, user in stored.reactions:
        reactions.setdefault(emoji, []).append(user)
    return msgspec.structs.replace(stored.message, reactions=reactions or None)


def as_of_now(event: DurableEvent, room: StoredRoom) -> DurableEvent:
    """The event as it is told later: with the message or the content as it is now."""
    changed: dict[str, Any] = {}
    if isinstance(event, MessageSent):
        changed["message"] = shown(room.messages[event.message.seq - 1])
    elif isinstance(event, MessageEdited):
        changed["content"] = room.messages[event.seq - 1].message.content
    return msgspec.structs.replace(event, **changed)


def shown_client_id(client_id: str | None) -> str | None:
    return None if client_id is None or client_id.startswith(AUTOMATIC_CLIENT_ID) else client_id
