"""How late the event loop is: what everybody waits for whenever something keeps it busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from catfish.histogram import SECONDS, Histogram

INTERVAL_S: Final = 0.25
WINDOW: Final = 240
"""Measurements that `worst_s` looks back over: a minute."""


class LoopLag:
    """Measured by a task that sleeps, and looks how much later than it wanted it woke up.

    Args:
        tick: called about once a second, for whoever needs no more than that.
    """

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self.seconds = Histogram(SECONDS)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._tick = tick

    @property
    def worst_s(self) -> float:
        """The most in the last minute."""
        return max(self._recent, default=0.0)

    async def run(self) -> None:
        """Measure, until cancelled."""
        count = 0
        while True:
            due = trio.current_time() + INTERVAL_S
            await trio.sleep_until(due)
            late_s = max(0.0, trio.current_time() - due)
            self.seconds.observe(late_s)
            self._recent.append(late_s)
            count += 1
            if count % 4 == 0:
                self._tick()
