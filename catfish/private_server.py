"""A server program of our own under the state directory: what a private Postgres and a private Redis have in common.

Theory of operation. The server's directory holds its data, its log, its socket and a lock file. Whoever holds the lock
(flock: it ends with its process, however that ends) owns the server below it. The program is started in a session of
its own, so a Ctrl-C in the terminal reaches Catfish alone, which stops the program last; and so that it outlives a
Catfish that was killed: the next one finds it running and goes on with it. Whenever it dies it is started again.

It listens on a Unix socket only, in a directory that only its own account may enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import random
import signal
import stat
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

import attrs
import trio

from catfish.errors import StartError

logger = logging.getLogger(__name__)

SOCKET_BYTES_MAX: Final = 103
"""Of a socket's path: 108 bytes with the final NUL on Linux, 104 elsewhere."""
LOG_LINES: Final = 5
"""Of the server's log, which are shown when it does not start."""


@attrs.frozen
class Process:
    pid: int
    child: subprocess.Popen[bytes] | None = None
    """Set when it is a child of ours: it must be waited for, or it stays as a zombie."""

    @property
    def alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        try:
            # Where process 1 does not wait for orphans, as in many containers, they stay as zombies.
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return not Path("/proc/self/stat").exists()

    async def ended(self) -> None:
        """Return when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            while self.alive:  # noqa: ASYNC110 -- not our child, and nothing here tells of its end
                await trio.sleep(1.0)
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        _ = self.alive  # reaps a child


P = TypeVar("P", bound=Process)


class PrivateServerStatistics(NamedTuple):
    pid: int | None
    restarts: int
    """How often it was started again, whether it came up or not."""


class PrivateServer(ABC, Generic[P]):
    """One private server under one state directory.

    Run it as a service: `url = await nursery.start(server.run)`; it ends when it is cancelled.

    Args:
        state_dir: created when missing.
        name: of its own directory in there.
    """

    program: ClassVar[str]
    """What people call it."""
    start_attempts: ClassVar[int]
    """Of a first start."""
    backoff_s_max: ClassVar[float]
    """Between two attempts."""
    look_s: ClassVar[float]
    """Between two looks at a server that starts or stops."""
    stop: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    """Signals that end it, each harder than the one before, and how many seconds each may take."""

    def __init__(self, state_dir: Path, name: str) -> None:
        self._state_dir = state_dir.expanduser().absolute()
        self._home = self._state_dir / name
        self._server: P | None = None
        self._restarts = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is; it must be running."""

    @abstractmethod
    def _make_ready(self) -> None:
        """Make everything that it needs, once the lock is ours. In a thread."""

    @abstractmethod
    async def _attempt(self) -> bool:
        """Find it running or start it (`_server`), and wait until it is ready; False when it ended."""

    @abstractmethod
    def _logs(self) -> Iterable[Path]:
        """Files that it may have written to."""

    def _cleared(self) -> None:
        """It has ended: remove what nobody needs any more."""

    def statistics(self) -> PrivateServerStatistics:
        return PrivateServerStatistics(self._server.pid if self._server else None, self._restarts)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Start it, report its URL, start it again whenever it dies, and stop it when cancelled.

        Raises:
            StartError: it cannot be started; the message says why.
        """
        lock = await trio.to_thread.run_sync(self._prepare)
        try:
            await self._bring_up(self.start_attempts)
            task_status.started(self.url)
            while True:
                assert self._server is not None
                await self._server.ended()
                self._restarts += 1
                logger.error("the private %s died; starting it again (restart %d)", self.program, self._restarts)
                await self._bring_up(None)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + sum(limit_s for _, limit_s in self.stop)):
                await self._stop()
            os.close(lock)

    # Starting

    def _prepare(self) -> int:
        """Make the directory ready; returns the descriptor that holds the lock."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock()
        try:
            self._make_ready()
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _lock(self) -> int:
        descriptor = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise StartError(
                f"another Catfish (process {holder or 'unknown'}) uses the state directory {self._state_dir}."
                " Stop it first, or name another directory with --state-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    async def _bring_up(self, attempts: int | None) -> None:
        """Until the server is ready; forever when `attempts` is None.

        Raises:
            StartError: it ended that many times.
        """
        attempt = 0
        while not await self._attempt():
            attempt += 1
            if attempts is not None and attempt >= attempts:
                raise StartError(f"the private {self.program} in {self._home} does not start:\n{self._log_tail()}")
            if attempts is None:
                self._restarts += 1
                logger.warning("the private %s does not start; trying again: %s", self.program, self._log_tail())
            await trio.sleep(min(0.1 * 2**attempt, self.backoff_s_max) * random.uniform(0.5, 1.0))

    def _log_tail(self) -> str:
        """The last lines that it wrote before it ended."""
        written = [log for log in self._logs() if log.exists() and log.stat().st_size]
        if not written:
            return "(it wrote nothing)"
        newest = max(written, key=lambda log: log.stat().st_mtime)
        return "\n".join(newest.read_text(errors="replace").splitlines()[-LOG_LINES:])

    # Stopping

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await self._end(server)
        self._cleared()

    async def _end(self, server: P) -> None:
        for number, limit_s in self.stop:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, number)
            with trio.move_on_after(limit_s):
                while server.alive:  # noqa: ASYNC110 -- waiting for a process
                    await trio.sleep(self.look_s)
                return
            logger.warning("the private %s (process %d) does not stop", self.program, server.pid)


def choose_socket_directory(
    first: Path,
    holds: Callable[[Path], bool],
    name: str,
    *,
    owner: int | None = None,
    own: Callable[[Path], None] = lambda path: None,
) -> Path:
    """`first`, or one under the temporary directory where that path cannot be a socket's; made when it is missing.

    Args:
        holds: whether a directory's path leaves room for a socket's.
        name: beginning of that of a directory elsewhere.
        owner: user id of the account; None: ours.
        own: gives a new directory to it.

    Raises:
        StartError: others may enter the directory, or it is something else.
    """
    name += hashlib.sha256(os.fsencode(first)).hexdigest()[:16]
    chosen = next(filter(holds, (first, Path(tempfile.gettempdir()) / name)), Path("/tmp") / name)
    with contextlib.suppress(FileExistsError):
        chosen.mkdir(mode=0o700)
        own(chosen)
    status = chosen.lstat()
    owner = os.geteuid() if owner is None else owner
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or stat.S_IMODE(status.st_mode) & 0o077:
        raise StartError(f"{chosen} should be a directory that only its own account may enter; remove it")
    return chosen
