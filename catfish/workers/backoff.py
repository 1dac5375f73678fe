"""How long to wait before a worker that ended by itself is started again."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.5
"""Before the second start in a row; the first is at once."""


class Backoff:
    """Of one worker. There is no chance in it: a handful of processes on one machine need not be spread.

    Args:
        steady_s: who served that long has not failed in a row with what was before.
        delay_s_max: the longest wait.
    """

    def __init__(self, *, steady_s: float, delay_s_max: float) -> None:
        self.failures = 0
        """In a row."""
        self._steady_s = steady_s
        self._delay_s_max = delay_s_max

    def failed(self, served_s: float) -> float:
        """The worker ended after it had served so long. Returns seconds to wait."""
        self.failures = 1 if served_s >= self._steady_s else self.failures + 1
        if self.failures == 1:
            return 0.0
        doublings = min(self.failures - 2, 32)  # a float has no more to say beyond
        return float(min(FIRST_S * 2**doublings, self._delay_s_max))
