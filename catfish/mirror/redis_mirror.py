"""The mirror: events for the members on other instances, over Redis Streams.

Theory of operation. What is published in one turn of the event loop is encoded at once and makes one entry per stream;
entries of several turns travel together (`mirror_interval_ms`). Every instance reads every stream, from the exact
position where it was, and hands on what is meant for rooms that it hosts (`incoming`). An entry without events, a beat,
follows a second after the last one, so a loss shows soon also when nothing happens, and an instance that stopped
beating is known to be gone.

Redis is *away* when a connection cannot be made or made anew at once, and when an answer takes longer than
`mirror_timeout_s`. Then events are dropped and counted, the instance is told (`Mirrored.mirror_state`), and connecting
is tried again and again. A lost connection that can be made anew at once is no outage: reading goes on where it was,
and batches that were not confirmed are sent again under their old numbers, so that nobody takes them for new. In both
cases the instance is told that there may be a gap.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import attrs
import trio
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.incoming import Incoming, Sifted
from catfish.mirror.line import parse_id
from catfish.mirror.link import Link, Positions, Reopen
from catfish.mirror.outgoing import Entry, Outgoing
from catfish.rooms.clock import now_ms
from catfish.rooms.events import Event
from catfish.rooms.ports import Mirror, Mirrored
from catfish.tracing import OFF, Tracing

T = TypeVar("T")
log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
"""Between two entries of an instance in a stream, at most."""
IN_FLIGHT_MAX: Final = 64
"""Batches that are handed over ahead of Redis's answers; what is published then waits."""
SETTLE_S: Final = 0.001
"""Between two looks at whether Redis keeps up."""
EVENTS_PER_TURN: Final = 32
"""Events (each may go to a whole room) before the sockets have their turn."""
FLUSH_S: Final = 1.0
"""For sending what waits when the instance stops."""
BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 2.0
STABLE_S: Final = 1.0
"""A link that lasted so long is made anew at once when it breaks."""


@attrs.frozen(kw_only=True)
class MirrorStatistics:
    connected: bool
    peers: int
    """Other instances that are heard."""
    published: int
    """Events that are in their streams."""
    received: int
    """Events of other instances, for rooms that are hosted here."""
    entries_received: int
    """Of other instances."""
    stale: int
    """Entries that were here before, or came too late."""
    unreadable: int
    """Entries, or rooms in entries, that this version cannot read."""
    dropped_ephemeral: int
    """Events that did not cross and never will."""
    dropped_durable: int
    """Events that others get from the database."""
    waiting: int
    waiting_bytes: int
    gaps: int
    """How often all rooms were to be compared with the database."""
    reconnects: int
    lag_ms: int | None
    """From here to here, through Redis."""


class RedisMirror(Mirror):
    """
    Args:
        instance: id of this instance, different from all others'.
        mirrored: told what other instances publish.
        url: in the place of `redis_url`.

    Raises:
        StartError: the URL has none of the forms that `addresses` tells.
    """

    def __init__(self, settings: Settings, instance: str, mirrored: Mirrored, *, url: str | None = None) -> None:
        try:
            self._addresses = Addresses(url or settings.redis_url or "")
        except ValueError as error:
            raise StartError(f"redis_url: {error}") from None
        self._settings = settings
        self._instance = instance
        self._mirrored = mirrored
        self._outgoing = Outgoing(settings, instance, now_ms(), now_ms, self._wake)
        self._incoming = Incoming(instance, mirrored, now_ms)
        self._positions: Positions = {}
        self._unconfirmed: list[Entry] = []
        """Sent over a connection that broke; to be sent again if the next one is made at once."""
        self._connected: bool | None = None
        self._links = 0
        self._streams = settings.mirror_streams
        """How many are read: as many as any instance writes."""
        self._link: Link | None = None
        self.tracing: Tracing = OFF
        self._submitted: deque[tuple[float, int]] = deque()
        """When the batches left that are not confirmed, and how many events each has; while there is tracing."""
        self._look_at = 0.0
        """When it is time to see who has fallen silent."""
        self._wakeup = trio.Event()
        self._threads = trio.CapacityLimiter(math.inf)  # two for each server, and those that are coming to their end

    def publish(self, number: int, event: Event, to: str | None = None) -> None:
        self._outgoing.publish(number, event, to)

    def _wake(self) -> None:
        self._wakeup.set()

    def statistics(self) -> MirrorStatistics:
        if self._link is not None:
            self._count_confirmed(self._link)
        outgoing, incoming = self._outgoing, self._incoming
        return MirrorStatistics(
            connected=bool(self._connected),
            peers=incoming.peers,
            published=outgoing.sent,
            received=incoming.events,
            entries_received=incoming.entries,
            stale=incoming.stale,
            unreadable=incoming.unreadable,
            dropped_ephemeral=outgoing.dropped_ephemeral,
            dropped_durable=outgoing.dropped_durable,
            waiting=outgoing.waiting_items,
            waiting_bytes=outgoing.waiting_bytes,
            gaps=incoming.gaps,
            reconnects=max(0, self._links - 1),
            lag_ms=incoming.lag_ms,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mirror, until cancelled; then what waits is sent, for `FLUSH_S` at most. Returns from `start` as soon as it
        is known whether Redis is there."""
        failures = 0
        started = False
        while True:
            link = Link(
                self._addresses, self._settings, self._streams, f"catfish:{self._instance}", self._incoming.sift
            )
            lasted_s = 0.0
            try:
                failure = await self._open(link)
                if not started:
                    started = True
                    task_status.started()
                if failure is None:
                    opened_at = trio.current_time()
                    failure = await self._serve(link)
                    lasted_s = trio.current_time() - opened_at
            finally:
                link.close()
            self._count_confirmed(link)
            self._unconfirmed += [entry for batch in list(link.in_flight) for entry in batch]
            if lasted_s >= STABLE_S:
                failures = 0
            if isinstance(failure, Reopen) or (lasted_s >= STABLE_S and not isinstance(failure, RedisTimeoutError)):
                log.info("the connection to Redis is made anew", extra={"error": str(failure)})
                continue
            self._away(failure)
            await trio.sleep(min(BACKOFF_S_MIN * 2**failures, BACKOFF_S_MAX) * random.uniform(0.5, 1.0))
            failures = min(failures + 1, 10)

    # Connecting

    async def _open(self, link: Link) -> RedisError | None:
        """Connect; why that failed."""
        entries = self._unconfirmed + self._outgoing.beat(trio.current_time())
        try:
            ends = await self._in_thread(link.open, entries)
        except RedisError as error:
            return error
        self._outgoing.confirm(entries)
        self._unconfirmed = []
        for stream, end in ends.items():
            # A stream that ends before our position was made anew: what it lost shows in the numbers behind its end.
            position = self._positions.get(stream)
            if position is None or parse_id(position) > parse_id(end):
                self._positions[stream] = end
        self._links += 1
        self._link = link
        self._submitted.clear()
        self._outgoing.open = True
        self._incoming.resumed(trio.current_time())
        if not self._connected:
            level = logging.INFO if self._connected is None else logging.WARNING
            log.log(level, "events are mirrored over Redis", extra={"streams": self._streams})
            self._connected = True
            self._mirrored.mirror_state(True)
        self._incoming.lost()
        self._incoming.tell_gap(trio.current_time())
        return None

    def _away(self, error: RedisError) -> None:
        self._outgoing.open = False
        self._outgoing.clear()
        self._outgoing.give_up(self._unconfirmed)
        self._unconfirmed = []
        if self._connected is not False:
            log.warning("Redis is away; what is stored crosses through the database", extra={"error": str(error)})
            self._connected = False
            self._mirrored.mirror_state(False)

    def _count_confirmed(self, link: Link) -> None:
        while link.confirmed:
            self._outgoing.confirm(link.confirmed.popleft())
            if self._submitted:
                began, events = self._submitted.popleft()
                if events:  # not of beats
                    self.tracing.record("mirror batch", began, {"catfish.events": events})

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call something that waits for Redis; when we are cancelled it is left behind, and ends by itself."""
        return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True, limiter=self._threads)

    # While Redis is there

    async def _serve(self, link: Link) -> RedisError:
        """Send and receive until something fails; what it was."""
        failures: list[RedisError] = []
        async with trio.open_nursery() as nursery:

            async def until_failure(work: Callable[..., Awaitable[object]], *arguments: Any) -> None:
                try:
                    await work(*arguments)
                except RedisError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(until_failure, self._in_thread, link.send)
            for lane in link.lanes:
                positions = {stream: self._positions[stream] for stream in lane.streams}
                nursery.start_soon(until_failure, self._in_thread, link.follow, lane, positions)
            nursery.start_soon(until_failure, self._receive, link)
            nursery.start_soon(self._send, link, failures)
        return failures[0]

    async def _send(self, link: Link, failures: list[RedisError]) -> None:
        interval_s = self._settings.mirror_interval_ms / 1000
        submitted_at = float("-inf")
        try:
            while True:
                self._wakeup = trio.Event()
                await self._submit(link)
                # What comes soon after a batch waits, to travel with what comes behind it.
                last, submitted_at = submitted_at, trio.current_time()
                if submitted_at - last < 2 * interval_s:
                    await trio.sleep(interval_s)
                if not self._outgoing.waiting_items:
                    with trio.move_on_after(BEAT_S):
                        await self._wakeup.wait()
                    if trio.current_time() - submitted_at < interval_s:
                        await trio.sleep_until(submitted_at + interval_s)
        finally:
            if not failures:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
                    await self._submit(link)
                    await self._settle(link, 1)

    async def _submit(self, link: Link) -> None:
        """Send everything that waits, as soon as Redis keeps up."""
        await self._settle(link, IN_FLIGHT_MAX)
        now = trio.current_time()
        entries = self._outgoing.take(now, BEAT_S * 0.9)
        if entries:
            link.submit(entries)
            if self.tracing is not OFF:
                self._submitted.append((time.time(), sum(entry.events for entry in entries)))
        if now >= self._look_at:
            self._look_at = now + BEAT_S
            self._incoming.look_around(now)

    async def _settle(self, link: Link, batches: int) -> None:
        """Wait until fewer batches than that are unconfirmed."""
        while len(link.in_flight) >= batches:  # noqa: ASYNC110 - the thread tells of a failure, not of every batch
            await trio.sleep(SETTLE_S)
        self._count_confirmed(link)

    async def _receive(self, link: Link) -> None:
        """
        Raises:
            Reopen: another instance spreads its rooms over more streams than we read.
        """
        while True:
            await link.has_arrivals.wait()
            link.has_arrivals = trio.Event()
            while link.arrivals:
                lane, streams = link.arrivals.popleft()
                began, before = time.time(), self._incoming.events
                for stream, entries in streams:
                    await self._take_in(stream, entries)
                if self._incoming.events > before:
                    told = self._incoming.events - before
                    self.tracing.record("mirror receive", began, {"catfish.events": told})
                lane.taken.release()
                self._incoming.tell_gap(trio.current_time())
            if self._incoming.streams > self._streams:
                self._streams = self._incoming.streams
                raise Reopen("another instance writes to more streams")

    async def _take_in(self, stream: int, entries: list[tuple[bytes, Sifted]]) -> None:
        told = 0
        now = trio.current_time()
        for id, content in entries:
            deliveries = self._incoming.receive(stream, content, now)
            self._positions[stream] = id
            for number, event, to in deliveries:
                try:
                    self._mirrored.mirrored(number, event, to)
                except Exception:  # the crash boundary between what was mirrored and the mirror
                    log.exception("a mirrored event could not be delivered", extra={"event": event.name})
                told += 1
                if told % EVENTS_PER_TURN == 0:
                    # Not to be cancelled between an entry and the position behind it.
                    await trio.lowlevel.cancel_shielded_checkpoint()
