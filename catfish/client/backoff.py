"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

import attrs


@attrs.define
class Backoff:
    """Doubling delays, each drawn from the upper half of its range, so that many clients do not return as one.

    Args:
        first_s: the top of the first range.
        max_s: the top of the last.
        stable_s: a connection that was open for so long starts the series anew; one that breaks at once goes on.
    """

    first_s: float = 0.5
    max_s: float = 20.0
    stable_s: float = 10.0
    rng: random.Random = attrs.field(factory=random.SystemRandom, repr=False)
    failures: int = attrs.field(default=0, init=False)

    def draw(self) -> float:
        """The next delay in seconds."""
        top = self.first_s
        for _ in range(self.failures):
            if top >= self.max_s:
                break
            top *= 2
        self.failures += 1
        return min(top, self.max_s) * self.rng.uniform(0.5, 1.0)

    def ended(self, open_s: float) -> None:
        """A connection that had been open for `open_s` ended."""
        if open_s >= self.stable_s:
            self.failures = 0
