"""Many deadlines, one task: callbacks at points of Trio's time.

A task or a cancel scope per deadline costs a kilobyte and a task switch; here it costs one entry in a heap. Cancelled
timers stay in the heap until their time comes, or until they are more than half of it.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

log = logging.getLogger(__name__)

CALLBACKS_PER_TURN: Final = 200
"""Callbacks that are due at once run in turns of so many, other tasks between them."""


class Timer:
    """One callback that waits for its time. Made by `Timers.call_at`."""

    __slots__ = ("_callback", "_timers", "deadline")

    def __init__(self, timers: Timers, deadline: float, callback: Callable[[], object]) -> None:
        self.deadline = deadline
        self._timers = timers
        self._callback: Callable[[], object] | None = callback

    @property
    def pending(self) -> bool:
        """Whether it was neither called nor cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never call it. Does nothing when it was called or cancelled already."""
        if self._callback is not None:
            self._callback = None
            self._timers._cancelled_one()

    def __lt__(self, other: Timer) -> bool:
        return self.deadline < other.deadline


@attrs.frozen
class TimersStatistics:
    """Timers that wait, those that were cancelled and are still in the heap, and the next deadline."""

    pending: int
    cancelled: int
    next_deadline: float


class Timers:
    """A heap of timers; `run` is the one task that calls them.

    `call_at` and `cancel` are synchronous and may be called before `run` was started and from inside a callback, but
    only
    from Trio's thread.
    """

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._cancelled = 0
        self._sleep: trio.CancelScope | None = None

    def call_at(self, deadline: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once `trio.current_time()` has reached `deadline` (seconds).

        It is called synchronously from the timers' task, those of equal deadlines in any order. If it raises, that is
        logged and nothing else.
        """
        timer = Timer(self, deadline, callback)
        heapq.heappush(self._heap, timer)
        if self._sleep is not None and deadline < self._sleep.deadline:
            self._sleep.deadline = deadline
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` after `delay_s` seconds; see `call_at`."""
        return self.call_at(trio.current_time() + delay_s, callback)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call what is due, until cancelled."""
        task_status.started()
        while True:
            self._call_due()
            deadline = self._heap[0].deadline if self._heap else float("inf")
            with trio.CancelScope(deadline=deadline) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None

    def statistics(self) -> TimersStatistics:
        """How much waits."""
        pending = len(self._heap) - self._cancelled
        following = min((timer.deadline for timer in self._heap if timer.pending), default=float("inf"))
        return TimersStatistics(pending, self._cancelled, following)

    def _call_due(self) -> None:
        heap = self._heap
        now = trio.current_time()
        for _ in range(CALLBACKS_PER_TURN):
            if not heap or heap[0].deadline > now:
                return
            timer = heapq.heappop(heap)
            callback, timer._callback = timer._callback, None
            if callback is None:
                self._cancelled -= 1
                continue
            try:
                callback()
            except Exception:  # the crash boundary of every callback; one's fault must not stop the others
                log.exception("a timer's callback failed")

    def _cancelled_one(self) -> None:
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap[:] = [
                timer for timer in self._heap if timer.pending
            ]  # in place: `_call_due` may be at work on it
            heapq.heapify(self._heap)
            self._cancelled = 0
