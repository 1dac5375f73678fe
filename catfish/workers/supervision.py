"""What the parent does when something happens to its workers. Pure: it is told the time, and answers with orders.

A *slot* is the place of one worker: index 0 to N - 1. Mostly one process is in it. While it is replaced there are two:
the successor, until it is ready, and then the predecessor, until it has drained.

    ends by itself             started again: at once, and after a wait that doubles when it happens in a row
    ends before the server     the server stops with status 1: what is wrong is wrong for all
      was ready the first time
    none serves, and one has   the server stops with status 1
      failed `failures_max` times in a row
    is late (`Limits`)         killed, and that is an end like any other
    reload                     slot by slot: successor ready, predecessor drained, next. A successor that ends or is
                               late ends the reload; the workers that were not replaced go on
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterator
from typing import Final, NamedTuple

import attrs

from catfish.workers.backoff import Backoff
from catfish.workers.states import MOVES, PHASES, Event, Phase, State, Turn

NEVER: Final = float("inf")
CUT_S: Final = 3.0
"""Seconds from the second signal to stop until whatever is left is killed."""


@attrs.frozen(kw_only=True)
class Limits:
    """Seconds, but for `failures_max`; see the settings of the same names."""

    start_s: float
    silence_s: float
    drain_s: float
    steady_s: float
    backoff_s_max: float
    failures_max: int


@attrs.define(eq=False)
class Worker:
    """One process, from the order to start it until its end."""

    number: int
    """Counts the processes of this server."""
    index: int
    """Of its slot."""
    due: float
    """When it is late."""
    state: State = State.STARTING
    ready_at: float | None = None

    def served_s(self, now: float) -> float:
        return 0.0 if self.ready_at is None else now - self.ready_at


class Start(NamedTuple):
    """Start this process."""

    worker: Worker


class Send(NamedTuple):
    """Send the process a signal."""

    worker: Worker
    number: signal.Signals
    why: str


class Word(enum.Enum):
    """What people and the service manager are to hear."""

    READY = enum.auto()
    RELOADING = enum.auto()
    RELOADED = enum.auto()
    RELOAD_FAILED = enum.auto()
    STOPPING = enum.auto()


Order = Start | Send | Word


@attrs.define(eq=False)
class Slot:
    index: int
    backoff: Backoff
    current: Worker | None = None
    successor: Worker | None = None
    retiring: Worker | None = None
    start_at: float = NEVER
    """When `current` is started again."""


class Supervision:
    """The parent's mind. Each call tells it what happened, and when; `take` has the orders that follow from it, and
    `due` says when to call `tick` if nothing happens before."""

    def __init__(self, count: int, limits: Limits) -> None:
        self.phase = Phase.STARTING
        self.failure: str | None = None
        """Why the server stops, if it does so because it must."""
        self.workers: set[Worker] = set()
        """The processes that have not ended."""
        self._limits = limits
        self._slots = [
            Slot(index, Backoff(steady_s=limits.steady_s, delay_s_max=limits.backoff_s_max)) for index in range(count)
        ]
        self._number = 0
        self._orders: list[Order] = []
        self._to_renew: list[Slot] = []
        self._renewing: tuple[Slot, Worker] | None = None
        self._again = False  # another reload was asked for meanwhile

    @property
    def due(self) -> float:
        """When somebody is late or a wait is over."""
        waits = (slot.start_at for slot in self._slots)
        return min((*waits, *(worker.due for worker in self.workers)), default=NEVER)

    @property
    def serving(self) -> Iterator[Worker]:
        """Workers that accept connections."""
        return (worker for worker in self.workers if worker.state is State.SERVING)

    def take(self) -> list[Order]:
        """The orders since the last call."""
        orders, self._orders = self._orders, []
        return orders

    # What happens

    def begin(self, now: float) -> None:
        """Start the workers."""
        for slot in self._slots:
            slot.current = self._start(slot, now)

    def ready(self, worker: Worker, now: float) -> None:
        """It accepts connections."""
        worker.state = MOVES[worker.state, Event.READY]
        if worker.state is not State.SERVING:
            return
        worker.ready_at = now
        worker.due = now + self._limits.silence_s
        slot = self._slots[worker.index]
        if worker is slot.successor:
            predecessor, slot.current, slot.successor = slot.current, worker, None
            assert predecessor is not None  # else the successor had become the current one
            slot.retiring = predecessor
            self._stop(predecessor, signal.SIGTERM, now, "it is replaced")
        if self.phase is Phase.STARTING and all(map(_serves, self._slots)):
            self._turn(Turn.ALL_READY)
            self._orders.append(Word.READY)
        self._renew(now)

    def heard(self, worker: Worker, now: float) -> None:
        """It is alive."""
        if worker.state is State.SERVING:
            worker.due = now + self._limits.silence_s

    def exited(self, worker: Worker, how: str, now: float) -> None:
        """It has ended; `how`, for people."""
        worker.state = MOVES[worker.state, Event.EXIT]
        self.workers.remove(worker)
        if self.phase is Phase.STOPPING:
            if not self.workers:
                self._turn(Turn.EMPTY)
            return
        slot = self._slots[worker.index]
        if worker is slot.retiring:
            slot.retiring = None
        elif worker is slot.successor:
            slot.successor = None
        else:
            self._replace_lost(slot, worker, how, now)
        if self.phase is Phase.RELOADING:
            self._renew(now)

    def reload(self, now: float) -> None:
        """Replace the workers, one after the other."""
        before = self.phase
        self._turn(Turn.RELOAD)
        if before is Phase.RELOADING:
            self._again = True
        elif self.phase is Phase.RELOADING:
            self._begin_reload(now)

    def stop(self, number: signal.Signals, now: float) -> None:
        """Stop all; the second time at once.

        Args:
            number: the signal that told so, which the workers get as well.
        """
        before = self.phase
        self._turn(Turn.STOP)
        if before is not Phase.STOPPING:
            self._stop_all(number, now)
            return
        for worker in sorted(self.workers, key=lambda worker: worker.number):
            if worker.state is State.DRAINING:
                worker.due = min(worker.due, now + CUT_S)
                self._orders.append(Send(worker, number, "a second signal"))

    def tick(self, now: float) -> None:
        """Time has passed."""
        for worker in sorted(self.workers, key=lambda worker: worker.number):
            if now >= worker.due:
                why = {
                    State.STARTING: "it is not ready in time",
                    State.SERVING: "it gives no sign of life",
                    State.DRAINING: "it does not stop in time",
                }[worker.state]
                worker.state = MOVES[worker.state, Event.LATE]
                worker.due = NEVER
                self._orders.append(Send(worker, signal.SIGKILL, why))
        for slot in self._slots:
            if now >= slot.start_at:
                slot.start_at = NEVER
                slot.current = self._start(slot, now)

    # What follows from it

    def _turn(self, turn: Turn) -> None:
        self.phase = PHASES[self.phase, turn]

    def _start(self, slot: Slot, now: float) -> Worker:
        worker = Worker(self._number, slot.index, now + self._limits.start_s)
        self._number += 1
        self.workers.add(worker)
        self._orders.append(Start(worker))
        return worker

    def _stop(self, worker: Worker, number: signal.Signals, now: float, why: str) -> None:
        if worker.state in (State.STARTING, State.SERVING):
            worker.due = now + self._limits.drain_s
            self._orders.append(Send(worker, number, why))
        if worker.state is not State.DRAINING:
            worker.state = MOVES[worker.state, Event.STOP]

    def _stop_all(self, number: signal.Signals, now: float) -> None:
        self._orders.append(Word.STOPPING)
        for slot in self._slots:
            slot.start_at = NEVER
        for worker in sorted(self.workers, key=lambda worker: worker.number):
            self._stop(worker, number, now, "the server stops")
        if not self.workers:
            self._turn(Turn.EMPTY)

    def _fail(self, why: str, now: float) -> None:
        self.failure = why
        self._turn(Turn.FAIL)
        self._stop_all(signal.SIGTERM, now)

    def _replace_lost(self, slot: Slot, worker: Worker, how: str, now: float) -> None:
        """The worker that had the slot ended by itself."""
        slot.current, slot.successor = slot.successor, None
        if slot.current is not None:
            return  # its successor is on its way
        if self.phase is Phase.STARTING and worker.ready_at is None:
            self._fail(f"worker {worker.index} {how} before it was ready", now)
            return
        delay_s = slot.backoff.failed(worker.served_s(now))
        if slot.backoff.failures >= self._limits.failures_max and not any(self.serving):
            self._fail(f"no worker serves, and worker {slot.index} failed {slot.backoff.failures} times in a row", now)
            return
        if delay_s:
            slot.start_at = now + delay_s
        else:
            slot.current = self._start(slot, now)

    # Reloading

    def _begin_reload(self, now: float) -> None:
        self._orders.append(Word.RELOADING)
        self._to_renew = list(self._slots)
        self._renew(now)

    def _renew(self, now: float) -> None:
        """Go on with the reload as far as that is possible now."""
        if self.phase is not Phase.RELOADING:
            return
        if self._renewing is not None:
            slot, worker = self._renewing
            if worker.ready_at is None:
                if worker.state is State.GONE:
                    self._end_reload(Turn.RELOAD_FAILED, now)
                return
            if slot.retiring is not None:
                return
        if not self._to_renew:
            self._end_reload(Turn.RELOADED, now)
            return
        slot = self._to_renew.pop(0)
        worker = self._start(slot, now)
        if slot.current is None:
            slot.current, slot.start_at = worker, NEVER
        else:
            slot.successor = worker
        self._renewing = (slot, worker)

    def _end_reload(self, turn: Turn, now: float) -> None:
        self._turn(turn)
        self._to_renew, self._renewing = [], None
        self._orders.append(Word.RELOADED if turn is Turn.RELOADED else Word.RELOAD_FAILED)
        again, self._again = self._again, False
        if again:
            self.reload(now)


def _serves(slot: Slot) -> bool:
    return slot.current is not None and slot.current.state is State.SERVING
