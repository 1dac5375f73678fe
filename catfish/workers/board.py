"""How many connections each worker has, in memory that all of them share.

Whoever accepts on a shared socket is whoever wakes up first, and that is far from even: of connections that come one by
one, or all at once, one of four workers may get ten times as many as another, and keeps them for hours. So each looks
here before it accepts, and leaves a connection to the others for a moment when one of them has fewer. If nobody takes
it, he does.

Each process writes one number of eight bytes, its own; 0 where nobody accepts.
"""

from __future__ import annotations

import mmap
import os
from types import TracebackType
from typing import Final, Self

PATIENCE_S: Final = 0.002
"""Long for a process that has nothing to do, short for a client."""
SLACK: Final = 1
"""So many connections more than the least busy one has, and a 32nd of one's own, are no reason to wait."""
ENTRY_BYTES: Final = 8


class Board:
    """Entries for a number of processes.

    Args:
        fd: a file of at least `entries * ENTRY_BYTES` zero bytes; it stays the caller's.
    """

    def __init__(self, fd: int, entries: int) -> None:
        self._map = mmap.mmap(fd, entries * ENTRY_BYTES)
        self._counts = memoryview(self._map).cast("Q")
        self.entries = entries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._counts.release()
        self._map.close()

    @staticmethod
    def prepare(fd: int, entries: int) -> None:
        """Make an empty file large enough."""
        os.ftruncate(fd, entries * ENTRY_BYTES)

    def write(self, entry: int, streams: int) -> None:
        """This process accepts, and has so many."""
        self._counts[entry] = streams + 1

    def clear(self, entry: int) -> None:
        """This process does not accept (any more)."""
        self._counts[entry] = 0

    def read(self) -> tuple[int | None, ...]:
        """Every entry; None where nobody accepts."""
        return tuple(count - 1 if count else None for count in self._counts)

    def patience_s(self, entry: int, streams: int) -> float:
        """Seconds for which the process of that entry, which has so many, leaves a connection to the others."""
        least = min((count for at, count in enumerate(self._counts) if count and at != entry), default=None)
        if least is None or streams - (least - 1) <= SLACK + streams // 32:
            return 0.0
        return PATIENCE_S
