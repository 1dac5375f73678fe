"""A Catfish server in a process of its own, as an operator starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import trio

READY = re.compile(rb"catfish listens on https?://(127\.0\.0\.1:\d+)")
NOT_HANDED_ON = ("CATFISH_", "PYTHONDONTWRITEBYTECODE")
"""Of our environment. Without compiled modules every one of the many servers would take half as long again to start."""
START_S = 60.0
STOP_S = 60.0


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does. The caller sets the deadline."""
    while not happened():  # noqa: ASYNC110 - nobody here could set an event
        await trio.sleep(0.02)


class ServerProcess:
    """`catfish serve` on a port that the kernel picks, with its own private Postgres; see `running`."""

    def __init__(self, nursery: trio.Nursery, state_dir: Path, *options: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "catfish", "serve", "--state-dir", str(state_dir), *options]
        self._environment = environment
        self.output = b""
        self.address = ""
        self.exit_status: int | None = None
        self._process: trio.Process | None = None
        self._nursery = nursery

    @property
    def url(self) -> str:
        return f"ws://{self.address}/ws"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *, port: str = "0") -> None:
        """Start it (again), and wait until it accepts connections."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_ON)}
        self.output, self.exit_status = b"", None
        self._process = await trio.lowlevel.open_process(
            [*self._command, "--port", port],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, **self._environment},
            cwd=Path(__file__).parents[2],
        )
        ready = trio.Event()
        self._nursery.start_soon(self._read, self._process, ready)
        with trio.move_on_after(START_S):
            await ready.wait()
        found = READY.search(self.output)
        assert found is not None, self.output.decode(errors="replace")
        self.address = found[1].decode()

    async def _read(self, process: trio.Process, ready: trio.Event) -> None:
        assert process.stdout is not None
        async for chunk in process.stdout:
            self.output += chunk
            if READY.search(self.output):
                ready.set()
        ready.set()

    def descriptors(self) -> int:
        """Open descriptors of the process (Linux)."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, and wait for the end; its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        with trio.fail_after(STOP_S):
            self.exit_status = await self._process.wait()
        return self.exit_status

    @classmethod
    @asynccontextmanager
    async def running(cls, state_dir: Path, *options: str, **environment: str) -> AsyncIterator[Self]:
        """A server that is started here, and ended with its Postgres at the end. With CATFISH_DATABASE_URL in
        `environment` it uses that one."""
        async with trio.open_nursery() as nursery:
            server = cls(nursery, state_dir, *options, **environment)
            try:
                await server.start()
                yield server
            finally:
                with trio.CancelScope(shield=True):
                    if server.exit_status is None and server._process is not None:
                        await server.end(signal.SIGTERM)
                nursery.cancel_scope.cancel()

    async def restart(self) -> None:
        """Start it again on the port that it had."""
        await self.start(port=self.address.rpartition(":")[2])
