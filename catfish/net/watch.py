"""Deadlines that every connection has: its heartbeat, and the age of what waits for it.

Messages only note a time (`Connection.heard_at`); nobody touches a timer. A connection waits in the bucket of the tick
at which it could first be overdue, and is looked at then: every 25 s with the default settings, whether it is busy or
silent. Those with a blocked outbox are few, and are looked at on every tick.
"""

from __future__ import annotations

import logging
import math

import trio

from catfish.config import Settings
from catfish.net.connection import Connection

log = logging.getLogger(__name__)


class Watch:
    """Heartbeats and outbox ages of all connections; `run` is the one task."""

    def __init__(self, settings: Settings) -> None:
        shortest_s = min(settings.heartbeat_s, settings.heartbeat_timeout_s, settings.outbox_age_s_max)
        self.tick_s = min(1.0, shortest_s / 10)
        """By how much a deadline may be missed."""
        self.blocked: set[Connection] = set()
        """Connections whose peers do not take what waits."""
        self._ticks: dict[Connection, int] = {}
        self._buckets: dict[int, set[Connection]] = {}
        self._tick = 0
        self._parked = trio.lowlevel.ParkingLot()

    def add(self, connection: Connection) -> None:
        """Ping this connection when it is silent, until `remove`."""
        self._place(connection, trio.current_time() + connection._settings.heartbeat_s)
        self._parked.unpark_all()

    def remove(self, connection: Connection) -> None:
        """Forget the connection, whether it was added or is blocked or neither."""
        self.blocked.discard(connection)
        tick = self._ticks.pop(connection, None)
        if tick is not None:
            bucket = self._buckets.get(tick)
            if bucket is not None:  # else `_look` is at work on it
                bucket.discard(connection)
                if not bucket:
                    del self._buckets[tick]

    def block(self, connection: Connection) -> None:
        """Something waits for the connection's peer."""
        self.blocked.add(connection)
        self._parked.unpark_all()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after connections, until cancelled."""
        task_status.started()
        self._tick = math.floor(trio.current_time() / self.tick_s)
        while True:
            if self._ticks or self.blocked:
                await trio.sleep_until((self._tick + 1) * self.tick_s)
                # Counted, for a quotient of floats may fall just short of the tick that the clock has reached.
                self._tick = max(self._tick + 1, math.floor(trio.current_time() / self.tick_s))
                self._look()
            else:
                await self._parked.park()
                self._tick = math.floor(trio.current_time() / self.tick_s)

    def _place(self, connection: Connection, due: float) -> None:
        tick = max(math.ceil(due / self.tick_s), self._tick + 1)
        self._ticks[connection] = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {connection}
        else:
            bucket.add(connection)

    def _look(self) -> None:
        now = trio.current_time()
        for connection in tuple(self.blocked):
            connection._watch_age(now)
        for passed in [tick for tick in self._buckets if tick <= self._tick]:
            for connection in self._buckets.pop(passed):
                due = connection._watch(now)
                if connection in self._ticks:  # else it was lost meanwhile
                    self._place(connection, due)
