"""Who is to be attended to, and that it happens once per pass however often it was asked for.

A pass is a piece of synchronous work that may send to many connections: the hub serving its ready sockets, or whatever
ran since Trio last looked for I/O. Inside the hub's pass the hub itself flushes at the end; otherwise a parked task
does, in the next turn of Trio's loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from catfish.net.connection import Connection
from catfish.net.traffic import Traffic

log = logging.getLogger(__name__)


class Flusher:
    """The connections that asked to be attended to.

    `asking` is public for `Connection._ask`: appending needs a call of `wake` only when the list is empty.
    """

    __slots__ = ("_parked", "_written", "asking", "in_pass", "traffic")

    def __init__(self) -> None:
        self.asking: list[Connection] = []
        self.in_pass = False
        """Whether a pass is running that will call `flush` itself."""
        self.traffic = Traffic()
        self._written: Callable[[], None] | None = None
        self._parked: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        """Make sure that somebody flushes soon."""
        if self._parked is not None and not self.in_pass:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    def tell_written(self, tell: Callable[[], None]) -> None:
        """Call `tell` once what was sent until now has been offered to the kernel; of several only the last one."""
        if self.asking:
            self._written = tell
        else:
            tell()

    def flush(self) -> None:
        """Attend to everyone who asked, and to those who ask meanwhile."""
        while self.asking:
            asking, self.asking = self.asking, []
            for connection in asking:
                try:
                    connection._attend()
                except Exception:  # the crash boundary between connections
                    log.exception("writing to a connection failed", extra=connection._log_fields())
                    connection._cut()
        if self._written is not None:
            tell, self._written = self._written, None
            tell()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush what is sent outside the hub's passes, until cancelled."""
        task_status.started()
        while True:
            if not self.asking:
                self._parked = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_parking)
            else:
                await trio.lowlevel.checkpoint()
            self.flush()

    def _abort_parking(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED
