"""The private Postgres of a server that was given none.

Theory of operation. `<state_dir>/postgres` holds the data, the log, the socket and a lock file. Whoever holds the lock
(flock: it ends with its process, however that ends) owns the server below it. The postmaster is started in a session of
its own, so a Ctrl-C in the terminal reaches Catfish alone, which stops Postgres last; and so that it outlives a Catfish
that was killed: the next one finds it by its `postmaster.pid` and goes on with it. One that was killed itself recovers
from its log when it is started again, for as long as that takes; every setting that makes commits durable stays on.

It listens on a Unix socket only, in a directory that only its own account may enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import psycopg
import trio
from psycopg import sql

from catfish.errors import StartError
from catfish.store.binaries import Account, choose_account, find_programs, launch

logger = logging.getLogger(__name__)

USER: Final = "catfish"
DATABASE: Final = "catfish"
PORT: Final = 5432
"""Only part of the socket's name; no port is opened."""
SOCKET_BYTES_MAX: Final = 103
"""Of a socket's path: 108 bytes with the final NUL on Linux, 104 elsewhere."""
LOOK_S: Final = 0.05
"""Between two looks at a server that starts or stops."""
TELL_S: Final = 10.0
"""Between two log lines about a recovery that takes long."""
START_ATTEMPTS: Final = 8
"""Of a first start: processes of a killed predecessor may hold its memory for a moment."""
BACKOFF_S_MAX: Final = 5.0
STOP_FAST_S: Final = 15.0
STOP_IMMEDIATE_S: Final = 5.0

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # A week of logs, each day over that of the week before.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_truncate_on_rotation": "on",
}


class Postmaster(NamedTuple):
    """What `postmaster.pid` tells of a running server."""

    pid: int
    socket_dir: str
    process: subprocess.Popen[bytes] | None
    """Set when it is a child of ours: it must be waited for, or it stays as a zombie."""


class EmbeddedStatistics(NamedTuple):
    pid: int | None
    restarts: int
    """How often it was started again, whether it came up or not."""


class EmbeddedPostgres:
    """One private server under one state directory.

    Run it as a service: `url = await nursery.start(server.run)`; it ends when it is cancelled.

    Args:
        state_dir: created when missing.
        settings: further settings of Postgres, for tests.
    """

    def __init__(self, state_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._state_dir = state_dir.expanduser().absolute()
        self._home = self._state_dir / "postgres"
        self._data = self._home / "data"
        self._settings = {**SETTINGS, **(settings or {})}
        self._account: Account | None = None
        self._programs = Path()
        self._socket_dir = Path()
        self._postmaster: Postmaster | None = None
        self._restarts = 0

    @property
    def url(self) -> str:
        """libpq URL of the database; the server must be running."""
        if self._postmaster is None:
            raise RuntimeError("the private Postgres is not running")
        return _url(self._postmaster)

    @property
    def exists(self) -> bool:
        """Whether there is data of one."""
        return self._data.exists()

    def find_url(self) -> str | None:
        """URL of the server when it runs already, for another Catfish or for one that was killed; None: it does not.

        Changes nothing, and takes no lock: whoever is served so does not keep the server running.
        """
        postmaster = self._read_pid_file()
        return None if postmaster is None or not _runs_in(postmaster.pid, self._data) else _url(postmaster)

    def statistics(self) -> EmbeddedStatistics:
        return EmbeddedStatistics(self._postmaster.pid if self._postmaster else None, self._restarts)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Start it, report its URL, start it again whenever it dies, and stop it when cancelled.

        Raises:
            StartError: it cannot be started; the message says why.
        """
        lock = await trio.to_thread.run_sync(self._prepare)
        try:
            await self._bring_up(START_ATTEMPTS)
            task_status.started(self.url)
            while True:
                await self._died()
                self._restarts += 1
                logger.error("the private Postgres died; starting it again (restart %d)", self._restarts)
                await self._bring_up(None)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_FAST_S + STOP_IMMEDIATE_S):
                await self._stop()
            os.close(lock)

    # Preparing the directory

    def _prepare(self) -> int:
        """Make the directory ready, with data in it; returns the descriptor that holds the lock."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock()
        try:
            self._account = choose_account(self._data)
            self._own(self._home)
            if self._account is not None:
                # Our own directory; those above are left as they are.
                mode = self._state_dir.stat().st_mode
                self._state_dir.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            self._programs = find_programs(self._data)
            self._check_owner()
            self._socket_dir = self._choose_socket_dir()
            if not self._data.exists():
                self._initialise()
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

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _check_owner(self) -> None:
        if self._data.exists() and self._account is None and self._data.stat().st_uid != os.geteuid():
            raise StartError(
                f"{self._data} belongs to the user id {self._data.stat().st_uid}."
                " Start Catfish as that user, or name another directory with --state-dir."
            )

    def _choose_socket_dir(self) -> Path:
        """Beside the data; under the temporary directory where that path cannot be a socket's."""
        name = "catfish-" + hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        candidates = self._home / "run", Path(tempfile.gettempdir()) / name
        chosen = next(filter(_may_hold_socket, candidates), Path("/tmp") / name)
        with contextlib.suppress(FileExistsError):
            chosen.mkdir(mode=0o700)
            self._own(chosen)
        status = chosen.lstat()
        owners = {os.geteuid()} if self._account is None else {self._account.uid}
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners or stat.S_IMODE(status.st_mode) & 0o077:
            raise StartError(f"{chosen} should be a directory that only Catfish's Postgres may enter; remove it")
        return chosen

    def _initialise(self) -> None:
        """Make the data directory, under another name until it is whole."""
        logger.info("making a private Postgres in %s", self._home)
        unfinished = self._home / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        command: list[str | Path] = [
            self._programs / "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        arguments, options = launch(command, self._account, [self._programs / "initdb", self._home])
        done = subprocess.run(
            arguments, cwd="/", env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )
        if done.returncode:
            raise StartError(f"initdb failed in {self._home}:\n{done.stdout.decode(errors='replace').strip()}")
        unfinished.rename(self._data)

    # Starting

    async def _bring_up(self, attempts: int | None) -> None:
        """Until the server takes connections; forever when `attempts` is None.

        Raises:
            StartError: it ended that many times.
        """
        attempt = 0
        while not await self._attempt():
            attempt += 1
            if attempts is not None and attempt >= attempts:
                raise StartError(f"the private Postgres in {self._home} does not start:\n{self._log_tail()}")
            if attempts is None:
                self._restarts += 1
                logger.warning("the private Postgres does not start; trying again: %s", self._log_tail())
            await trio.sleep(min(0.1 * 2**attempt, BACKOFF_S_MAX) * random.uniform(0.5, 1.0))

    async def _attempt(self) -> bool:
        """Find it running or start it, and wait until it is ready; False when it ended."""
        self._postmaster = self._find_running()
        if self._postmaster is not None:
            logger.info("a private Postgres is running already (process %d)", self._postmaster.pid)
        else:
            self._postmaster = self._spawn()
        tell_at = trio.current_time() + TELL_S
        while _is_alive(self._postmaster):
            if await trio.to_thread.run_sync(self._is_ready):
                return True
            if trio.current_time() >= tell_at:
                logger.info("the private Postgres is still recovering")
                tell_at += TELL_S
            await trio.sleep(LOOK_S)
        self._postmaster = None
        return False

    def _find_running(self) -> Postmaster | None:
        """The postmaster of this directory, when one is alive."""
        postmaster = self._read_pid_file()
        if postmaster is None or _runs_in(postmaster.pid, self._data):
            return postmaster
        # A process id that something else has now would keep Postgres from starting.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        return None

    def _read_pid_file(self) -> Postmaster | None:
        """The postmaster that the data directory names; it may have ended."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            pid = abs(int(lines[0]))
        except (OSError, ValueError, IndexError):
            return None
        socket_dir = lines[4] if len(lines) > 4 and lines[4] else str(self._socket_dir)
        return Postmaster(pid, socket_dir, None)

    def _spawn(self) -> Postmaster:
        program = self._programs / "postgres"
        command: list[str | Path] = [program, "-D", self._data, "-k", self._socket_dir, "-p", str(PORT)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        arguments, options = launch(command, self._account, [program, self._data])
        with (self._home / "start.log").open("wb") as log:
            process = subprocess.Popen(
                arguments,
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        return Postmaster(process.pid, str(self._socket_dir), process)

    def _is_ready(self) -> bool:
        """Whether the database answers; it is made by the first who asks."""
        assert self._postmaster is not None
        target = {"host": self._postmaster.socket_dir, "port": str(PORT), "user": USER, "connect_timeout": 5}
        try:
            with psycopg.connect(**target, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if known is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError:
            return False
        return True

    def _log_tail(self) -> str:
        """The last lines that it wrote before it ended."""
        logs = [self._home / "start.log", *(self._data / "log").glob("postgres-*.log")]
        written = [log for log in logs if log.exists() and log.stat().st_size]
        if not written:
            return "(it wrote nothing)"
        newest = max(written, key=lambda log: log.stat().st_mtime)
        return "\n".join(newest.read_text(errors="replace").splitlines()[-5:])

    # Watching and stopping

    async def _died(self) -> None:
        """Return when the postmaster has ended."""
        assert self._postmaster is not None
        try:
            descriptor = os.pidfd_open(self._postmaster.pid)
        except (AttributeError, OSError):
            while _is_alive(self._postmaster):  # noqa: ASYNC110 -- not our child, and nothing here tells of its end
                await trio.sleep(1.0)
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        _is_alive(self._postmaster)  # reaps a child

    async def _stop(self) -> None:
        """Fast shutdown: clients are cut, what was committed is written. Harder when that takes too long."""
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is not None:
            await self._end(postmaster)
        if self._socket_dir.parent != self._home:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()

    async def _end(self, postmaster: Postmaster) -> None:
        for number, seconds in ((signal.SIGINT, STOP_FAST_S), (signal.SIGQUIT, STOP_IMMEDIATE_S)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster.pid, number)
            deadline = time.monotonic() + seconds
            while _is_alive(postmaster):
                if time.monotonic() >= deadline:
                    logger.warning("the private Postgres (process %d) does not stop", postmaster.pid)
                    break
                await trio.sleep(LOOK_S)
            else:
                return


def _url(postmaster: Postmaster) -> str:
    return f"postgresql://{USER}@/{DATABASE}?host={quote(postmaster.socket_dir, safe='')}&port={PORT}"


def _may_hold_socket(directory: Path) -> bool:
    """Sockets have short paths, and a comma separates hosts."""
    return "," not in str(directory) and len(os.fsencode(directory / f".s.PGSQL.{PORT}")) <= SOCKET_BYTES_MAX


def _environment() -> dict[str, str]:
    """Ours, without what would speak to Postgres."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, "LC_ALL": "C"}


def _is_alive(postmaster: Postmaster) -> bool:
    if postmaster.process is not None:
        return postmaster.process.poll() is None
    try:
        os.kill(postmaster.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        # Where process 1 does not wait for orphans, as in many containers, they stay as zombies.
        return Path(f"/proc/{postmaster.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()


def _runs_in(pid: int, data: Path) -> bool:
    """Whether that process is a postmaster of that directory: Postgres works inside its data directory."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except (FileNotFoundError, PermissionError):
        pass
    if Path("/proc/self/cwd").exists():
        return False
    told = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return str(data) in told.stdout
