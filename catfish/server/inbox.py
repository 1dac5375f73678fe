"""Requests of one session, in the order in which they came.

What can be done at once is done at once, in the pass of the hub that read it. As soon as one request has to wait (it is
a coroutine), everything behind it waits too, so that a client may send `room:join` and `chat:send` in one breath. The
number of requests that wait, here and for the journal, is bounded: beyond it nothing is read from the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol


class Work(NamedTuple):
    """A request that has to wait."""

    coroutine: Coroutine[Any, Any, None]
    context: Any = None
    """Whatever `Inbox.perform` needs besides, such as how to answer."""


class Gate(Protocol):
    """What can be told to stop and go on reading."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Gauge:
    """Counts what waits, and stops the reading while that is `waiting_max` or more, until it is half of that."""

    __slots__ = ("_gate", "_paused", "_waiting_max", "waiting")

    def __init__(self, gate: Gate, waiting_max: int) -> None:
        self.waiting = 0
        self._gate = gate
        self._waiting_max = waiting_max
        self._paused = False

    def add(self) -> None:
        """One more waits."""
        self.waiting += 1
        if not self._paused and self.waiting >= self._waiting_max:
            self._paused = True
            self._gate.pause_reading()

    def remove(self) -> None:
        """One waits no more."""
        self.waiting -= 1
        if self._paused and self.waiting <= self._waiting_max // 2:
            self._paused = False
            self._gate.resume_reading()


class Inbox:
    """Args:
    handle: does what a message asks for, or gives the work that does it. Raises only what ends the connection.
    perform: awaits one work.
    wake: called when there is work: `drain` must then run soon.
    gauge: counts what waits here.
    """

    __slots__ = ("_gauge", "_handle", "_perform", "_queue", "_wake", "_work")

    def __init__(
        self,
        handle: Callable[[Any], Work | None],
        perform: Callable[[Work], Coroutine[Any, Any, None]],
        wake: Callable[[], None],
        gauge: Gauge,
    ) -> None:
        self._handle = handle
        self._perform = perform
        self._wake = wake
        self._gauge = gauge
        self._queue: deque[Any] | None = None
        self._work: Work | None = None

    @property
    def idle(self) -> bool:
        """Nothing is being done and nothing waits for its turn."""
        return self._work is None and not self._queue

    def receive(self, message: Any) -> None:
        """Take the next message."""
        if self._work is None:
            work = self._handle(message)
            if work is not None:
                self._work = work
                self._wake()
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(message)
        self._gauge.add()

    def begin(self, work: Work) -> None:
        """Something to do before the first message is looked at."""
        self._work = work
        self._wake()

    async def drain(self) -> None:
        """Run what has to wait, and then what came behind it, until nothing is left.

        When that ends with an exception, the connection is over: what is left is dropped.
        """
        try:
            while self._work is not None:
                await self._perform(self._work)
                self._work = None
                while self._queue and self._work is None:
                    message = self._queue.popleft()
                    self._gauge.remove()
                    self._work = self._handle(message)
            self._queue = None
        finally:
            if self._work is not None:
                self._work.coroutine.close()
                self._work = None
            while self._queue:
                self._queue.popleft()
                self._gauge.remove()
