"""The rooms that this instance has in memory, and what happens in them without anybody asking.

Theory of operation. A room is hosted from the first join here until it had no listeners for `room_idle_s`. All rooms
share one heap of timers and two tasks: one fills gaps and drops idle rooms, one renews the instance's lease and takes
over the members of instances that died.

A member whose last connection here is lost is *absent*: the store is told that it is away, and a timer runs for the
grace period. If the user comes back (on any device here) the timer is cancelled; else the store removes the member,
unless its row says that it is back, and the room is told. The store may be away meanwhile: both steps are repeated
until they are stored.

A fault while telling one room (a bug in some encoding, say) ends that room's listeners here with 1011 and drops the
room from memory. They come back and resume from the store; other rooms notice nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from catfish.config import Settings
from catfish.contracts.interface import Origin
from catfish.errors import Rejected
from catfish.net.timers import Timer, Timers
from catfish.rooms.clock import now_ms
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import Away, Leave, Left, RoomRecord
from catfish.rooms.events import DurableEvent, Event, LeaveReason, MemberLeft
from catfish.rooms.model import Member
from catfish.rooms.ports import Store, StoreUnavailable, Taken
from catfish.rooms.room import Listener, LiveRoom
from catfish.server.journal import Journal

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Until what the store did not take is tried again."""
CHANGES_PER_READ = 500
ROOMS_PER_COMPARISON = 1_000
TAKE_OVER_MAX = 1_000
"""Members taken over from a dead instance in one statement."""


class _Absence:
    """A member of this instance without a connection."""

    __slots__ = ("origin", "stored", "timer")

    def __init__(self, timer: Timer, origin: Origin | None) -> None:
        self.timer = timer
        self.origin = origin
        self.stored = False


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    rooms: int
    absent: int
    gaps_filled: int
    rooms_failed: int


class RoomSupervisor:
    def __init__(self, instance: str, store: Store, timers: Timers, settings: Settings) -> None:
        self.instance = instance
        self.journal = Journal(store, settings, self.compare_all)
        self._store = store
        self._timers = timers
        self._settings = settings
        self._rooms: dict[int, LiveRoom] = {}
        self._by_id: dict[str, LiveRoom] = {}
        self._by_code: dict[str, LiveRoom] = {}
        self._absent: dict[tuple[int, str], _Absence] = {}
        self._to_fill: dict[int, LiveRoom] = {}
        self._compare = False
        self._work = trio.Event()
        self._gaps_filled = 0
        self._rooms_failed = 0

    def statistics(self) -> SupervisorStatistics:
        return SupervisorStatistics(
            rooms=len(self._rooms),
            absent=len(self._absent),
            gaps_filled=self._gaps_filled,
            rooms_failed=self._rooms_failed,
        )

    # Rooms in memory

    def find(self, room: str | None = None, code: str | None = None) -> LiveRoom | None:
        """The hosted room of that id or code."""
        if room is not None:
            return self._by_id.get(room)
        return self._by_code.get(normalise_code(code)) if code is not None else None

    def host(self, record: RoomRecord, members: list[Member] | None) -> LiveRoom:
        """The room in memory; `members` fills it when it is not there yet."""
        live = self._rooms.get(record.number)
        if live is None:
            live = LiveRoom(record, members or ())
            live.idle_since = trio.current_time()
            self._rooms[live.number] = live
            self._by_id[live.id] = live
            if live.code is not None:
                self._by_code[live.code] = live
        return live

    @contextmanager
    def pinned(self, live: LiveRoom | None) -> Iterator[None]:
        """The room stays in memory meanwhile."""
        if live is None:
            yield
            return
        live.pins += 1
        try:
            yield
        finally:
            live.pins -= 1

    def _drop(self, live: LiveRoom) -> None:
        self._rooms.pop(live.number, None)
        self._by_id.pop(live.id, None)
        if live.code is not None:
            self._by_code.pop(live.code, None)

    def _drop_idle(self) -> None:
        since = trio.current_time() - self._settings.room_idle_s
        absent = {number for number, _ in self._absent}
        for live in list(self._rooms.values()):
            idle = live.idle_since is not None and live.idle_since <= since
            if idle and not live.listeners_count and not live.pins and live.number not in absent:
                self._drop(live)

    # Telling

    def tell(self, live: LiveRoom, event: Event, skip: Listener | None = None) -> None:
        """Deliver an ephemeral event, or one that is no part of the order of changes."""
        try:
            live.deliver(event, skip)
        except Exception:
            log.exception("room failed; its members here are disconnected and resume", extra={"room": live.id})
            self._fail(live)

    def tell_one(self, live: LiveRoom, user: str, event: Event) -> None:
        try:
            live.deliver_to(user, event)
        except Exception:
            log.exception("room failed; its members here are disconnected and resume", extra={"room": live.id})
            self._fail(live)

    def tell_durable(self, number: int, event: DurableEvent) -> None:
        """Deliver a durable event in its turn, if anybody here listens."""
        live = self._rooms.get(number)
        if live is None:
            return
        try:
            gap = live.deliver_durable(event)
        except Exception:
            log.exception("room failed; its members here are disconnected and resume", extra={"room": live.id})
            self._fail(live)
            return
        if gap:
            self._to_fill[number] = live
            self._work.set()

    def _fail(self, live: LiveRoom) -> None:
        self._rooms_failed += 1
        self._drop(live)
        for listener in live.listeners():
            listener.fail()

    # Members who come and go

    def returned(self, live: LiveRoom, user: str) -> None:
        """A session of the user is in the room (again)."""
        absence = self._absent.pop((live.number, user), None)
        if absence is not None:
            absence.timer.cancel()

    async def leave(self, live: LiveRoom, listener: Listener, origin: Origin | None) -> None:
        """The session leaves of its own will. When the store does not take it, the leaving is stored later."""
        if not self._detach(live, listener):
            return
        user = listener.user
        command = Leave(number=live.number, user=user, instance=self.instance)
        with self.pinned(live):
            try:
                await self.journal.perform(command, lambda left: self._left(live.number, user, left, "left", origin))
            except Rejected as refusal:
                extra = {"user": user, "room": live.id, "code": refusal.code}
                log.info("a leaving is stored later", extra=extra)
                self.absent(live.number, user, 0.0, now_ms(), origin)

    def lose(self, live: LiveRoom, listener: Listener, grace_s: float, origin: Origin | None) -> None:
        """The session's connection is gone."""
        if self._detach(live, listener) and listener.user in live.members:
            live.members[listener.user].member.away = True
            if grace_s > 0:
                self.absent(live.number, listener.user, grace_s, now_ms(), origin)
            else:
                self._leave_at_once(live, listener.user, origin)

    def _leave_at_once(self, live: LiveRoom, user: str, origin: Origin | None) -> None:
        """Without a grace period there is nothing to be marked as away first."""
        away_since = now_ms()

        def done(answer: Any) -> None:
            live.pins -= 1
            if isinstance(answer, Rejected):
                self.absent(live.number, user, 0.0, away_since, origin)
            else:
                self._left(live.number, user, answer, "gone", origin)

        live.pins += 1
        try:
            self.journal.submit(Leave(number=live.number, user=user, instance=self.instance), done)
        except Rejected as refusal:
            done(refusal)

    def _detach(self, live: LiveRoom, listener: Listener) -> bool:
        last_here = live.detach(listener)
        if not live.listeners_count:
            live.idle_since = trio.current_time()
        return last_here

    def absent(self, number: int, user: str, grace_s: float, away_since: int, origin: Origin | None = None) -> None:
        """Start the grace period of a member that has no connection on this instance."""
        key = (number, user)
        former = self._absent.get(key)
        if former is not None:
            former.timer.cancel()
        absence = _Absence(self._timers.call_later(grace_s, lambda: self._grace_ended(key)), origin)
        self._absent[key] = absence
        self._store_away(key, absence, away_since)

    def _store_away(self, key: tuple[int, str], absence: _Absence, away_since: int) -> None:
        if self._absent.get(key) is not absence:
            return

        def again(refusal: Rejected) -> None:
            log.debug("an absence is stored later", extra={"user": key[1], "code": refusal.code})
            self._timers.call_later(RETRY_S, lambda: self._store_away(key, absence, away_since))

        def done(answer: Any) -> None:
            if isinstance(answer, Rejected):
                again(answer)
            else:
                absence.stored = True

        command = Away(number=key[0], user=key[1], instance=self.instance, away_since=away_since)
        try:
            self.journal.submit(command, done)
        except Rejected as refusal:
            again(refusal)

    def _grace_ended(self, key: tuple[int, str]) -> None:
        absence = self._absent.get(key)
        if absence is None:
            return
        # The order "away, then leave" is what keeps a user who came back in between.
        if not absence.stored:
            absence.timer = self._timers.call_later(RETRY_S, lambda: self._grace_ended(key))
            return
        number, user = key

        def again() -> None:
            absence.timer = self._timers.call_later(RETRY_S, lambda: self._grace_ended(key))

        def done(answer: Any) -> None:
            if self._absent.get(key) is not absence:
                return  # came back while this was on its way: the store kept the row
            if isinstance(answer, Rejected):
                again()
                return
            del self._absent[key]
            self._left(number, user, answer, "gone", absence.origin)

        command = Leave(number=number, user=user, instance=self.instance, only_if_away=True)
        try:
            self.journal.submit(command, done)
        except Rejected:
            again()

    def _left(self, number: int, user: str, left: Left, reason: LeaveReason, origin: Origin | None) -> None:
        live = self._rooms.get(number)
        if live is None or not left.last or user not in live.members:
            return
        name = live.members[user].member.name
        live.exit(user)
        self.tell(live, MemberLeft(room=live.id, user=user, user_name=name, reason=reason, origin=origin))

    # Gaps

    def compare_all(self) -> None:
        """Changes may have been committed that nobody here has heard of: compare every room with the store."""
        self._compare = True
        self._work.set()

    async def fill(self, live: LiveRoom) -> None:
        """Read and deliver what is missing. Raises: StoreUnavailable."""
        while True:
            changes = await self._store.changes(live.number, after=live.revision, limit=CHANGES_PER_READ)
            for event in changes:
                self.tell_durable(live.number, event)
            self._gaps_filled += bool(changes)
            if len(changes) < CHANGES_PER_READ:
                return

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the rooms, for ever. Returns from `start` once the instance's lease is in the store."""
        await self._store.renew_lease(self.instance, self._settings.lease_s)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.journal.run)
            nursery.start_soon(self._keep_lease)
            task_status.started()
            await self._keep_rooms()

    async def _keep_rooms(self) -> None:
        while True:
            with trio.move_on_after(self._settings.room_idle_s / 2):
                await self._work.wait()
            self._work = trio.Event()
            self._drop_idle()
            try:
                if self._compare:
                    await self._find_gaps()
                while self._to_fill:
                    number, live = next(iter(self._to_fill.items()))
                    await self.fill(live)
                    self._to_fill.pop(number, None)
            except StoreUnavailable as error:
                log.info("gaps are filled later", extra={"error": str(error)})
                await trio.sleep(RETRY_S)
                self._work.set()

    async def _find_gaps(self) -> None:
        numbers = list(self._rooms)
        for start in range(0, len(numbers), ROOMS_PER_COMPARISON):
            revisions = await self._store.revisions(numbers[start : start + ROOMS_PER_COMPARISON])
            for number, revision in revisions.items():
                live = self._rooms.get(number)
                if live is not None and live.revision < revision:
                    self._to_fill[number] = live
        self._compare = False

    # The lease

    async def _keep_lease(self) -> None:
        away = False
        while True:
            try:
                await self._store.renew_lease(self.instance, self._settings.lease_s)
                taken = await self._store.take_over(self.instance, TAKE_OVER_MAX)
                if away:
                    log.warning("the lease is renewed again")
                away = False
            except StoreUnavailable as error:
                if not away:
                    log.warning("the lease cannot be renewed", extra={"error": str(error)})
                away = True
                await trio.sleep(RETRY_S)
                continue
            for each in taken:
                self._take(each)
            if len(taken) < TAKE_OVER_MAX:
                await trio.sleep(self._settings.lease_s / 3)

    def _take(self, taken: Taken) -> None:
        """A member of an instance that died: it has what is left of its grace period."""
        number, user = taken.record.number, taken.member.user
        live = self._rooms.get(number)
        if live is not None and user in live.members and live.members[user].listeners:
            return  # it came back here before its former instance was given up
        if live is not None:
            live.enter(taken.member).member.away = True
        left_s = self._settings.grace_s - (now_ms() - taken.away_since) / 1000
        self.absent(number, user, max(left_s, 0.0), taken.away_since)
