"""All WebSocket connections of a listener: who they are, how they ended, and how they all end when the server stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import attrs
import trio

from catfish.errors import SLOW_CONSUMER_BYTES, SLOW_CONSUMER_TIME, Close
from catfish.net.connection import Connection

SLOW: Final = frozenset((SLOW_CONSUMER_BYTES, SLOW_CONSUMER_TIME))


@attrs.frozen
class ConnectionsStatistics:
    """Connections at this moment, and since the start."""

    open: int
    opened: int
    bytes_waiting: int
    """In all outboxes."""
    closes: Mapping[int, int]
    """Close codes and how many connections ended with each."""
    slow: int
    """Connections that ended because their peer did not take what waited."""


class Connections:
    """The registry. A connection is in it from its handshake until its task has ended."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._opened = 0
        self._closes: Counter[int] = Counter()
        self._slow = 0
        self._empty = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        """Those at this moment; they may end while the caller iterates."""
        return iter(tuple(self._connections))

    def add(self, connection: Connection) -> None:
        """A handshake succeeded."""
        self._connections.add(connection)
        self._opened += 1

    def remove(self, connection: Connection) -> None:
        """A connection's task has ended."""
        self._connections.remove(connection)
        if connection.closed_with is not None:
            self._closes[connection.closed_with.code] += 1
            self._slow += connection.closed_with in SLOW
        if not self._connections:
            self._empty.unpark_all()

    async def drain(self, close: Close, grace_s: float) -> int:
        """Close every connection, wait for all of them, and cut those that are left after `grace_s` seconds.

        What was sent to them before is written first. Returns how many were cut.
        """
        for connection in self:
            connection.close(close)
        with trio.move_on_after(grace_s):
            while self._connections:
                await self._empty.park()
        left = tuple(self._connections)
        for connection in left:
            connection.cut()
        return len(left)

    def statistics(self) -> ConnectionsStatistics:
        """Counts. Takes time in proportion to the connections."""
        waiting = sum(connection.bytes_waiting for connection in self._connections)
        return ConnectionsStatistics(len(self._connections), self._opened, waiting, dict(self._closes), self._slow)
