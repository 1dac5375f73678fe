"""So many lines of one kind in a second, and a count of the others: a fault that happens with every message must
neither fill a disk nor cost more than the messages do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 1.0
KINDS_MAX: Final = 1_000
"""Kinds of lines that are watched at a time."""


class _Kind:
    __slots__ = ("left_out", "record", "since", "written")

    def __init__(self, since: float) -> None:
        self.since = since
        self.written = 0
        self.left_out = 0
        self.record: logging.LogRecord | None = None
        """The last that was left out."""


class LineLimit(logging.Filter):
    """A filter for a handler. Lines are of one kind when the same statement wrote them: same logger, level and text
    before its values are put in.

    The first `lines_max` of a second are written. Of the others the last is written when the second is over, with
    `left_out`, the number of those before it: with the next line of any kind, or by `flush`.

    Args:
        write: writes a record past this filter.
    """

    def __init__(
        self, lines_max: int, write: Callable[[logging.LogRecord], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._write = write
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], _Kind] = {}
        self._over: set[tuple[str, int, str]] = set()
        """Those of which lines were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if self._over:
            self._flush(now)
        key = record.name, record.levelno, str(record.msg)
        kind = self._kinds.get(key)
        if kind is None or now - kind.since >= WINDOW_S:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            kind = self._kinds[key] = _Kind(now)
        if kind.written < self._lines_max:
            kind.written += 1
            return True
        kind.left_out += 1
        kind.record = record
        self._over.add(key)
        return False

    def flush(self, *, everything: bool = False) -> None:
        """Tell what was left out in seconds that are over, or `everything`."""
        self._flush(float("inf") if everything else self._clock())

    def _flush(self, now: float) -> None:
        for key in [each for each in self._over if now - self._kinds_since(each) >= WINDOW_S]:
            self._over.discard(key)
            kind = self._kinds.pop(key, None)
            if kind is not None and kind.record is not None:
                if kind.left_out > 1:
                    kind.record.left_out = kind.left_out - 1
                self._write(kind.record)

    def _kinds_since(self, key: tuple[str, int, str]) -> float:
        kind = self._kinds.get(key)
        return float("-inf") if kind is None else kind.since
