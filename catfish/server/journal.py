"""The journal: every durable command waits here for the transaction that commits it.

Theory of operation. `submit` puts a command into one bounded queue. One pump takes everything that waits (up to
`journal_batch_max`), commits it in one transaction, answers each command in order, and starts again; the next batch
forms while this one commits, so there is no timer. A command is answered only after its commit.

While the store is away the pump repeats its batch with growing pauses. What it holds is kept for `journal_wait_s_max`;
a command that waited longer is answered `unavailable`. Such a command may have been committed all the same (the
connection may have died between the commit and its confirmation): sending it again with the same client id is safe, and
`on_recovered` tells the supervisor to look for changes that nobody here has heard of. When nothing is left to repeat,
the store is asked for nothing in particular, so that the end of an outage is noticed also when nobody writes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import trio

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.histogram import SECONDS, SIZES, Histogram
from catfish.rooms.commands import Answer, Command, Edit, SendMessage
from catfish.rooms.ports import Store, StoreUnavailable
from catfish.server.dependency import Dependency
from catfish.tracing import OFF, Tracing

T = TypeVar("T")


class Doubtful(Rejected):
    """`unavailable`, and the command may have been committed all the same: its confirmation was lost."""


log = logging.getLogger(__name__)

COMMAND_BYTES = 256
"""What a command without text counts towards `journal_bytes_max`."""
BUSY_RETRY_MS = 1_000
UNAVAILABLE_RETRY_MS = 2_000
ANSWERS_PER_TURN = 32
"""Answers (each may go to a whole room) before the sockets have their turn."""
PAUSE_S_MIN = 0.05
PAUSE_S_MAX = 1.0


def database_dependency() -> Dependency:
    return Dependency("the database", "what is to be stored waits, and is refused as unavailable in the end")


class _Entry:
    __slots__ = ("accepted_at", "command", "done", "size")

    def __init__(self, command: Command, done: Callable[[Any], None], size: int, accepted_at: float) -> None:
        self.command = command
        self.done = done
        self.size = size
        self.accepted_at = accepted_at


@attrs.frozen(kw_only=True)
class JournalStatistics:
    waiting: int
    waiting_bytes: int
    committed: int
    batches: int
    refused_busy: int
    refused_unavailable: int
    away: bool
    """The last attempt failed; the pump is trying again."""


class Journal:
    """The one writer of this instance's durable commands."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        on_recovered: Callable[[], None],
        database: Dependency | None = None,
    ) -> None:
        self._store = store
        self._database = database or database_dependency()
        self._settings = settings
        self._on_recovered = on_recovered
        self.tracing: Tracing = OFF
        self._queue: deque[_Entry] = deque()
        self._queue_bytes = 0
        self._wakeup = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self.sizes = Histogram(SIZES)
        """Commands of each batch."""
        self.seconds = Histogram(SECONDS)
        """What each commit took."""
        self.on_answered: Callable[[float], None] = lambda accepted_at: None
        """Told of the oldest command of each batch, when it was accepted, once it has been answered."""
        self._committed = 0
        self._batches = 0
        self._busy = 0
        self._unavailable = 0
        self._away = False

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(
            waiting=len(self._queue),
            waiting_bytes=self._queue_bytes,
            committed=self._committed,
            batches=self._batches,
            refused_busy=self._busy,
            refused_unavailable=self._unavailable,
            away=self._away,
        )

    def submit(self, command: Command, done: Callable[[Any], None]) -> None:
        """Queue a command; `done` is called once, with the store's answer or a `Rejected`, in the order of the queue.

        Raises:
            Rejected: `busy`, when the queue is full.
        """
        size = COMMAND_BYTES
        if isinstance(command, (SendMessage, Edit)):
            size += len(command.content)
        settings = self._settings
        if len(self._queue) >= settings.journal_items_max or self._queue_bytes + size > settings.journal_bytes_max:
            self._busy += 1
            raise Rejected("busy", "too much is waiting to be stored", BUSY_RETRY_MS)
        self._queue.append(_Entry(command, done, size, trio.current_time()))
        self._queue_bytes += size
        self._wakeup.set()

    async def perform(self, command: Command, apply: Callable[[Any], T], doubt: Callable[[], None] | None = None) -> T:
        """Queue a command and wait. `apply` gets the store's answer in its turn among the answers of the batch, also
        when the caller was cancelled meanwhile; its result is returned. `doubt` is called in its place when the command
        is refused although it may have been committed.

        Raises:
            Rejected: the command was refused, or `busy`, or `unavailable`.
        """
        finished = trio.Event()
        results: list[T] = []
        failures: list[Exception] = []

        def done(answer: Any) -> None:
            try:
                if isinstance(answer, Rejected):
                    failures.append(answer)
                    if isinstance(answer, Doubtful) and doubt is not None:
                        doubt()
                else:
                    results.append(apply(answer))
            except Exception as error:  # noqa: BLE001 - a fault of the one who waits, and raised there
                failures.append(error)
            finished.set()

        self.submit(command, done)
        await finished.wait()
        if failures:
            raise failures[0]
        return results[0]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what comes, for ever."""
        task_status.started()
        while True:
            await self._wakeup.wait()
            self._wakeup = trio.Event()
            self._idle = trio.Event()
            while self._queue:
                batch = self._take()
                await self._commit(batch)
            self._idle.set()
            while self._away and not self._queue:
                self._wakeup = trio.Event()  # who rang it has been answered; rung still, it would never let us wait
                await self._probe()

    async def flush(self) -> None:
        """Wait until everything that was accepted has been answered."""
        while self._queue or not self._idle.is_set():
            await self._idle.wait()
            await trio.lowlevel.checkpoint()

    def _take(self) -> list[_Entry]:
        count = min(len(self._queue), self._settings.journal_batch_max)
        return [self._queue.popleft() for _ in range(count)]

    async def _commit(self, batch: list[_Entry]) -> None:
        pause_s = PAUSE_S_MIN
        while batch:
            began = trio.current_time()
            try:
                with self.tracing.span("journal batch", {"catfish.commands": len(batch)}):
                    answers = await self._store.commit([entry.command for entry in batch])
            except StoreUnavailable as error:
                self._away = True
                self._database.failed("journal", error)
                batch = self._give_up_overdue(batch)
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
                continue
            except Exception:
                # A fault of ours with this batch must not stop the ones behind it.
                log.exception("a batch could not be stored", extra={"commands": len(batch)})
                for entry in batch:
                    self._answer(entry, Rejected("internal", "the server could not store this"))
                return
            self._batches += 1
            self._committed += len(batch)
            self.sizes.observe(len(batch))
            self.seconds.observe(trio.current_time() - began)
            for position, (entry, answer) in enumerate(zip(batch, answers, strict=True), 1):
                self._answer(entry, answer)
                if position == 1:
                    self.on_answered(entry.accepted_at)
                if position % ANSWERS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            self._recover()
            return

    async def _probe(self) -> None:
        """Wait for a command, or a moment, and then see whether the store answers."""
        with trio.move_on_after(PAUSE_S_MAX):
            await self._wakeup.wait()
            return
        try:
            await self._store.revisions(())
        except StoreUnavailable as error:
            self._database.failed("journal", error)
        else:
            self._recover()

    def _recover(self) -> None:
        if self._away:
            self._away = False
            self._database.works("journal")
            self._on_recovered()

    def _give_up_overdue(self, batch: list[_Entry]) -> list[_Entry]:
        """Refuse what has waited too long, in the batch (which was attempted) and behind it; what is left of it."""
        oldest = trio.current_time() - self._settings.journal_wait_s_max
        refusal = "unavailable", "the database does not answer", UNAVAILABLE_RETRY_MS
        overdue = [(entry, Doubtful(*refusal)) for entry in batch if entry.accepted_at <= oldest]
        behind: list[tuple[_Entry, Rejected]] = []
        while self._queue and self._queue[0].accepted_at <= oldest:
            behind.append((self._queue.popleft(), Rejected(*refusal)))
        for entry, refused in [*overdue, *behind]:
            self._unavailable += 1
            self._answer(entry, refused)
        return [entry for entry in batch if entry.accepted_at > oldest]

    def _answer(self, entry: _Entry, answer: Answer | Rejected) -> None:
        self._queue_bytes -= entry.size
        try:
            entry.done(answer)
        except Exception:
            # The commands behind it were committed as well and must hear so.
            log.exception("the answer to a stored command could not be delivered")
