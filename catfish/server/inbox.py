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
    reply: Any


class Gate(Protocol):
    """What can be told to stop and go on reading."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Inbox:
    """Args:
    handle: does what a message asks for, or gives the work that does it. Raises only what ends the connection.
    perform: awaits one work.
    wake: called when there is work: `drain` must then run soon.
    gate: paused while `waiting_max` or more requests wait.
    """

    __slots__ = ("_gate", "_handle", "_paused", "_perform", "_queue", "_unanswered", "_waiting_max", "_wake", "_work")

    def __init__(
        self,
        handle: Callable[[Any], Work | None],
        perform: Callable[[Work], Coroutine[Any, Any, None]],
        wake: Callable[[], None],
        gate: Gate,
        waiting_max: int,
    ) -> None:
        self._handle = handle
        self._perform = perform
        self._wake = wake
        self._gate = gate
        self._waiting_max = waiting_max
        self._queue: deque[Any] | None = None
        self._work: Work | None = None
        self._unanswered = 0
        self._paused = False

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn or for the journal."""
        return self._unanswered + (len(self._queue) if self._queue else 0)

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
        self._balance()

    def expect_answer(self) -> None:
        """A request was handed to the journal."""
        self._unanswered += 1
        if self._unanswered >= self._waiting_max:
            self._balance()

    def answered(self) -> None:
        """The journal has answered a request."""
        self._unanswered -= 1
        if self._paused:
            self._balance()

    async def drain(self) -> None:
        """Run what has to wait, and then what came behind it, until nothing is left."""
        try:
            while self._work is not None:
                await self._perform(self._work)
                self._work = None
                while self._queue and self._work is None:
                    self._work = self._handle(self._queue.popleft())
                self._balance()
            self._queue = None
        finally:
            if self._work is not None:
                self._work.coroutine.close()
                self._work = None

    def _balance(self) -> None:
        waiting = self.waiting
        if not self._paused and waiting >= self._waiting_max:
            self._paused = True
            self._gate.pause_reading()
        elif self._paused and waiting <= self._waiting_max // 2:
            self._paused = False
            self._gate.resume_reading()
