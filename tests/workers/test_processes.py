"""Real processes: workers that are killed, hang, or keep dying; stopping, reloading, and the end of the parent."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from tests.e2e.clients import open_trio_websocket
from tests.e2e.process import until
from tests.workers.process import WorkersProcess, is_alive

TIMEOUT_S = 120.0

Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Start:
    """Start a server, as a context manager."""

    @asynccontextmanager
    async def start(*options: str, **settings: Any) -> AsyncIterator[WorkersProcess]:
        with trio.fail_after(TIMEOUT_S):
            async with WorkersProcess.serving(tmp_path, database_url, *options, **settings) as server:
                yield server

    return start


async def echo(connection: Any, number: int) -> None:
    """A request that needs no room."""
    await connection.send_message(json.dumps(["ping", number, number + 1]))
    answer = json.loads(await connection.get_message())
    if answer[0] == "server:draining":
        answer = json.loads(await connection.get_message())
    assert answer == [number + 1, number]


@asynccontextmanager
async def connect_to_each(server: WorkersProcess) -> AsyncIterator[dict[int, Any]]:
    """A WebSocket to every worker, by its index."""
    async with AsyncExitStack() as stack:
        found: dict[int, Any] = {}
        while len(found) < server.count:
            before = await server.connections()
            connection = await stack.enter_async_context(open_trio_websocket(server.url, "catfish.v1.json"))
            await echo(connection, 1)
            after = await server.connections()
            found.setdefault(next(index for index in range(server.count) if after[index] > before[index]), connection)
        yield found


async def test_all_workers_serve_and_the_server_says_once_that_it_does(start: Start) -> None:
    async with start() as server:
        assert server.output.count(b"catfish listens on") == 1
        assert sorted(await server.healths()) == [0, 1, 2]
        assert len(server.pids) == 3
        assert await server.end(signal.SIGTERM) == 0
        assert server.output.rstrip().endswith(b"catfish has stopped")
        assert b"ERROR" not in server.output
        assert list(server.file.parent.glob("state/workers.*")) == []


async def test_connections_are_shared_fairly(start: Start) -> None:
    async with start() as server:
        streams = [await server.open_websocket() for _ in range(60)]
        shares = await server.connections()
        for stream in streams:
            await stream.aclose()
        assert sum(shares) == len(streams)
        assert max(shares) - min(shares) <= 15, shares  # without a board often 40 and more


async def test_kill_9_of_a_worker_ends_its_connections_alone_and_another_takes_its_place(start: Start) -> None:
    async with start() as server, connect_to_each(server) as connections:
        before = server.pids
        os.kill(before[1], signal.SIGKILL)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connections[1].get_message()
        for index in (0, 2):
            await echo(connections[index], 10)
        await until(lambda: len(server.started) == 4)
        await server.healths()
        after = server.pids
        assert after[1] != before[1]
        assert {index: after[index] for index in (0, 2)} == {index: before[index] for index in (0, 2)}
        for index in (0, 2):
            await echo(connections[index], 11)
        assert server.says('a worker is lost worker=1 how="was ended by SIGKILL"')


async def test_a_worker_that_keeps_dying_is_started_ever_more_rarely_and_the_others_serve(start: Start) -> None:
    async with start(count=2, worker_steady_s=1_000) as server:
        killed: set[int] = set()
        with trio.move_on_after(5):
            while True:
                pid = server.pids[1]
                if pid not in killed:
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
                assert (await server.ask("GET", "/health")).status == 200
                await trio.sleep(0.01)
        assert 3 <= len(killed) <= 6  # at once, and after 0.5 s, 1 s, 2 s; the start itself takes its time
        assert await server.end(signal.SIGTERM) == 0


async def test_when_none_stays_up_the_server_says_so_and_stops_with_status_1(start: Start) -> None:
    async with start(count=2, worker_steady_s=1_000, worker_failures_max=2) as server:
        process = server._process
        assert process is not None
        for _ in range(2):
            for pid in server.pids.values():
                os.kill(pid, signal.SIGKILL)
            if process.poll() is None:
                await until(lambda: len(server.started) >= 4 or process.poll() is not None)
        server.exit_status = await process.wait()
        assert server.exit_status == 1
        await server.told("catfish: no worker serves, and worker")


async def test_a_worker_that_cannot_start_ends_the_start(start: Start) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="before it was ready"), flatten_subgroups=True):
        async with start(contracts=["nothing-of-ours"]):
            pass


async def test_a_worker_that_hangs_is_killed_and_its_sessions_end(start: Start) -> None:
    async with start(count=2, worker_silence_s=3, handover_timeout_s=0.5) as server:
        index, sid = await open_session(server)
        os.kill(server.pids[index], signal.SIGSTOP)
        answer = await server.ask("GET", f"/socket.io/?EIO=4&transport=polling&sid={sid}")
        assert (answer.status, json.loads(answer.body)["code"]) == (400, 1)
        await server.told("it gives no sign of life")
        await until(lambda: len(server.started) == 3)
        await server.healths()


async def open_session(server: WorkersProcess) -> tuple[int, str]:
    """A polling session, and the worker that has it."""
    while True:
        before = await server.connections()
        answer = await server.ask("GET", "/socket.io/?EIO=4&transport=polling")
        after = await server.connections()
        more = [index for index in range(server.count) if after[index] > before[index]]
        if len(more) == 1:  # else a session of an earlier test has timed out meanwhile
            return more[0], json.loads(answer.body[1:])["sid"]


async def test_a_signal_drains_every_worker(start: Start) -> None:
    async with start() as server, connect_to_each(server) as connections:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.end, signal.SIGTERM)
            for connection in connections.values():
                assert (await connection.get_message()).startswith('["server:draining",{"reconnectAfterMs":')
                with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                    await connection.get_message()
                assert closed.value.reason is not None
                assert closed.value.reason.code == 1012
        assert server.exit_status == 0
        assert server.output.count(b"catfish stops; a second signal stops it at once") == 1
        assert server.output.rstrip().endswith(b"catfish has stopped")
        assert b"ERROR" not in server.output


async def test_a_second_signal_cuts_whoever_is_slow(start: Start) -> None:
    async with start(count=2, drain_grace_s=60, close_timeout_s=60) as server:
        stream = await server.open_websocket()
        os.kill(server.pid, signal.SIGINT)
        await server.told("catfish stops")
        await trio.sleep(0.5)
        assert await server.end(signal.SIGINT) == 0
        await stream.aclose()


async def test_when_the_parent_is_killed_its_workers_end_and_another_server_takes_the_port(start: Start) -> None:
    async with start(count=2, drain_grace_s=1) as server, connect_to_each(server) as connections:
        pids = server.pids
        assert await server.end(signal.SIGKILL) == -signal.SIGKILL
        for connection in connections.values():
            await ended(connection)
        await until(lambda: not any(map(is_alive, pids.values())))
        await server.restart()
        await server.healths()


async def ended(connection: Any) -> None:
    """Wait until the connection is closed, whatever comes before."""
    try:
        while True:
            await connection.get_message()
    except trio_websocket.ConnectionClosed:
        pass


async def load(server: WorkersProcess, stop: trio.Event, done: Counter[str]) -> None:
    """A client that comes again and again, by every way in; whatever goes wrong is raised."""
    while not stop.is_set():
        answer = await server.ask("GET", "/api/health")
        assert answer.status == 200, answer
        done["http"] += 1
        answer = await server.ask("GET", "/socket.io/?EIO=4&transport=polling")
        assert answer.status == 200, answer
        done["polling"] += 1
        async with open_trio_websocket(server.url, "catfish.v1.json") as connection:
            done["websocket"] += 1
            try:
                await echo(connection, done["websocket"])
            except trio_websocket.ConnectionClosed as closed:
                assert closed.reason is not None
                assert closed.reason.code == 1012  # accepted, and told to come back
                done["told to come back"] += 1


async def test_a_reload_replaces_every_worker_and_refuses_nobody(start: Start) -> None:
    async with start(drain_spread_s=0) as server:
        before = server.pids
        done: Counter[str] = Counter()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(load, server, stop, done)
            await until(lambda: done["websocket"] > 20)
            server.write(ping_interval_ms=12_345)
            server.reload()
            await server.told("all workers were replaced")
            at = done["websocket"]
            await until(lambda: done["websocket"] > at + 20)
            stop.set()
        after = server.pids
        assert set(after.values()).isdisjoint(before.values())
        assert not any(map(is_alive, before.values()))
        assert server.output.count(b"catfish listens on") == 1
        answer = await server.ask("GET", "/socket.io/?EIO=4&transport=polling")
        assert json.loads(answer.body[1:])["pingInterval"] == 12_345
        assert await server.end(signal.SIGTERM) == 0
        assert b"were cut" not in server.output


async def test_a_reload_tells_clients_to_come_back(start: Start) -> None:
    async with start(count=2) as server, connect_to_each(server) as connections:
        server.reload()
        for connection in connections.values():
            assert (await connection.get_message()).startswith('["server:draining"')
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await connection.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1012
        await server.told("all workers were replaced")


async def test_a_reload_with_wrong_settings_changes_nothing(start: Start) -> None:
    async with start(count=2) as server:
        server.write(grace_s=-1)
        server.reload()
        await server.told("the settings are wrong, so nothing is reloaded")
        server.write(grace_s=1, contracts=["nothing-of-ours"])
        server.reload()
        await server.told("a new worker does not start")
        server.write(contracts=["all"], backlog=77)
        before = server.pids
        await server.healths()
        server.reload()
        await server.told("some settings change only with another start")
        await server.told("all workers were replaced")
        assert server.pids != before
        await server.healths()
