"""What the domain needs from the outside. `catfish.store` implements `Store`; so does a double in the tests, and one
suite of contract tests holds both to what is promised here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, RoomRecord
from catfish.rooms.events import DurableEvent, Event
from catfish.rooms.model import Member, Message, RoomKind
from catfish.rooms.moderation import Moderation


class StoreUnavailable(Exception):
    """The store does not answer, or lost the connection before it confirmed. The same call may be repeated."""


class Page(msgspec.Struct, kw_only=True):
    messages: list[Message]
    """Oldest first, whichever way the page was asked for."""
    more: bool
    """There are further messages in the direction that was asked for."""


class Taken(msgspec.Struct, kw_only=True):
    """A member whose instance died, taken over by the caller."""

    record: RoomRecord
    member: Member
    away_ms: int
    """For how long it has been away, by the store's clock."""
    away_since: int
    """The same as `Away` answers it."""


MirrorState = Literal["off", "ok", "away"]


class Figures(msgspec.Struct, kw_only=True, frozen=True):
    """What an instance says of itself with each renewal of its lease."""

    version: str = ""
    host: str = ""
    pid: int = 0
    connections: int = 0
    rooms: int = 0
    """In memory there."""
    journal_waiting: int = 0
    mirror: MirrorState = "off"
    mirror_lag_ms: int | None = None
    """From the instance to itself through the mirror, when it was last measured; None: it was not."""


class InstanceRecord(msgspec.Struct, kw_only=True):
    id: str
    state: Literal["alive", "stopped", "dead"]
    """stopped: as it was asked to; dead: its lease ended, and it said nothing."""
    started_at: int
    """Milliseconds since the epoch."""
    lease_left_ms: int
    """Until the lease ends; negative: since it ended."""
    figures: Figures | None
    """None: it told none (an older version)."""


class ListedRoom(msgspec.Struct, kw_only=True):
    record: RoomRecord
    closed_at: int | None
    """Milliseconds since the epoch; None while the room is open."""


class RoomsPage(msgspec.Struct, kw_only=True):
    rooms: list[ListedRoom]
    """The newest first."""
    more: bool


class Administration(Protocol):
    """What operators ask of all instances and rooms together. May raise `StoreUnavailable`."""

    async def instances(self) -> list[InstanceRecord]:
        """Those that live, and those that ended in the last day, in the order in which they started."""
        ...

    async def rooms(
        self,
        *,
        kind: RoomKind | None = None,
        name: str | None = None,
        closed: bool = False,
        below: int | None = None,
        limit: int,
    ) -> RoomsPage:
        """A page of rooms, those just below the number `below`.

        Args:
            name: a part of the room's id, name or code, in any case.
            closed: list closed rooms too.
        """
        ...

    async def find(self, name: str) -> ListedRoom | None:
        """The room of that id, or else of that code; also a closed one."""
        ...


class SessionStore(Protocol):
    """Socket.IO sessions that their clients may come back to, under a secret. May raise `StoreUnavailable`."""

    async def save(self, secret: str, instance: str, record: Any) -> None:
        """Remember what a session is, in the place of what was remembered; `record` is plain data."""
        ...

    async def end(self, secret: str, instance: str) -> None:
        """Its connection to this instance has ended: from now on it can be taken for a while."""
        ...

    async def end_all(self, instance: str) -> None:
        """As `end`, for all sessions of an instance that stops."""
        ...

    async def take(self, secret: str, instance: str, within_s: float) -> Any | None:
        """The record of a session that is now this instance's; None when it ended more than `within_s` seconds ago, its
        instance died more than so long ago, or there is none."""
        ...

    async def prune(self, older_s: float) -> None:
        """Forget sessions that ended more than `older_s` seconds ago."""
        ...


class Mirrored(Protocol):
    """What a mirror tells the instance that it belongs to. Called synchronously, from the mirror's task."""

    def hosts(self, number: int) -> bool:
        """Whether the room is in memory here; events of other rooms need not be decoded. Called in any thread."""
        ...

    def mirrored(self, number: int, event: Event, to: str | None) -> None:
        """Another instance told its members of the room this event, or only the user `to`. Never raises."""
        ...

    def mirror_gap(self) -> None:
        """Events of other instances may have been lost since the last call: compare every room with the store."""
        ...

    def mirror_state(self, connected: bool) -> None:
        """The mirror works, or does not; while it does not, rooms are compared with the store again and again."""
        ...


class Mirror(Protocol):
    """Events for the members on other instances. What it carries may arrive late, twice or never; the order and the
    gaps of durable events are seen to by their revisions, and a gap is told (`Mirrored.mirror_gap`)."""

    def publish(self, number: int, event: Event, to: str | None = None) -> None:
        """Send an event to the instances that host the room. Never blocks and never raises.

        What is published in one turn of the event loop leaves in one batch. While the mirror is away, events are
        dropped and counted.
        """
        ...


class Store(Protocol):
    """State in Postgres.

    Every method may raise `StoreUnavailable`, and then has changed nothing or has changed everything that it was
    asked for; `commit` is safe to repeat in both cases.
    """

    moderation: Moderation
    """What somebody is to a room and to others, and reports."""

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        """Commit a batch in one transaction and answer each command, in order.

        A refusal of one command is its answer and leaves the others alone. Commands on the same room take effect in
        the order of the batch. Messages of a room get consecutive `seq`; every durable change of a room gets the next
        `revision`.
        """
        ...

    async def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        """The room with that id, or with that code (any case); closed rooms are not found."""
        ...

    async def members(self, number: int, limit: int) -> list[Member]:
        """The members in the order in which they entered."""
        ...

    async def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        """A page by keyset: the newest messages, those just below `before`, or those just above `after`."""
        ...

    async def room_history(
        self, id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> tuple[RoomRecord, Page] | None:
        """An open room by its id with a page of it, in one go where the store can do that; None: there is none."""
        record = await self.room(id=id)
        if record is None:
            return None
        return record, await self.history(record.number, before=before, after=after, limit=limit)

    async def undeleted(
        self, number: int, *, below: int | None = None, below_id: int | None = None, limit: int
    ) -> Page:
        """A page of messages that were not deleted: the newest, or those just below a sequence number or an id."""
        ...

    async def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        """Messages up to `seq` that were edited, deleted or reacted to after message `seq` was stored, by revision."""
        ...

    async def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        """What happened in the room after revision `after`, oldest first, each as the event that members heard (or
        should have heard); a message that was edited since comes with the content it has now."""
        ...

    async def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        """The newest revision of each room; rooms that are gone are left out."""
        ...

    async def renew_lease(self, instance: str, lease_s: float, figures: Figures | None = None) -> bool:
        """Say that the instance lives, and how it is; the first call registers it.

        Returns:
            False when the lease had ended in between: others may have taken the members over, who must join again.
        """
        ...

    async def end_lease(self, instance: str) -> None:
        """The instance stops: its members are away from now on, and another instance may take them over at once."""
        ...

    async def take_over(self, instance: str, limit: int, *, stopped_only: bool = False) -> list[Taken]:
        """Move the members of instances whose lease has ended to `instance`, marked as away.

        Args:
            stopped_only: of those alone that ended their lease themselves (`end_lease`).

        Returns:
            Also those who are away on `instance` already: they may have been lost later elsewhere, and then their grace
            period begins anew. Not those who are present on `instance`.
        """
        ...


class Chunk(msgspec.Struct, kw_only=True):
    """What `Tail.read` found."""

    messages: list[Message]
    """By id; without their reactions."""
    position: int
    """Continue behind this one: every message up to it was read, or does not exist."""
    more: bool
    """There are further messages, or there will be as soon as transactions that are under way have ended."""


class Tail(Protocol):
    """The messages of all rooms, one after the other, for one reader at a time among all instances.

    A position is the id of a message, or a number between two. Messages are stored by many transactions at the same
    time, so one with a smaller id may become visible after one with a larger id; `read` returns a message only when
    none that is smaller can come any more.

    Every method may raise `StoreUnavailable`; then the caller leads no longer.
    """

    async def lead(self) -> bool:
        """Become the one reader, and stay it until `resign`; False while another instance is."""
        ...

    def resign(self) -> None:
        """Let another instance read. Never waits and never raises."""
        ...

    async def newest(self) -> int:
        """The largest id that was given to any message, whether it is stored already or never will be."""
        ...

    async def position(self) -> int | None:
        """What was noted last, by whichever instance; None: never anything."""
        ...

    async def note(self, position: int) -> None:
        """Remember how far messages were passed on."""
        ...

    async def before(self, position: int, count: int) -> int:
        """The position behind which there are `count` messages up to `position`, or all of them if there are fewer."""
        ...

    async def read(self, position: int, limit: int) -> Chunk:
        """The next messages behind `position`. Does not wait for any."""
        ...
