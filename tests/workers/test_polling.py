"""No sticky sessions: clients that are not ours poll, post and upgrade on a new connection each time, at any worker."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import trio
import trio_websocket
import urllib3
from engineio import Client as EngineClient  # type: ignore[import-untyped]
from socketio import Client as SocketClient  # type: ignore[import-untyped]

from tests.e2e.process import until
from tests.net.harness import CERTIFICATE, KEY
from tests.node.runner import require_node, run_node
from tests.postgres import fresh_database
from tests.workers.process import Answer, WorkersProcess, parse, read_all, read_one, serving_in_a_thread
from tests.workers.test_processes import TIMEOUT_S, open_session

POLLING = "/socket.io/?EIO=4&transport=polling"

TLS: Any = {"tls_certificate": str(CERTIFICATE), "tls_key": str(KEY)}

Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Start:
    @asynccontextmanager
    async def start(*options: str, **settings: Any) -> AsyncIterator[WorkersProcess]:
        with trio.fail_after(TIMEOUT_S):
            async with WorkersProcess.serving(tmp_path, database_url, *options, **settings) as server:
                yield server

    return start


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str
) -> Iterator[WorkersProcess]:
    """For tests that kill nobody; three workers."""
    directory = tmp_path_factory.mktemp("shared")
    with (
        fresh_database(postgres_server, postgres_template) as (_, url),
        serving_in_a_thread(directory, url) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def tls_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str
) -> Iterator[WorkersProcess]:
    """The same with TLS."""
    directory = tmp_path_factory.mktemp("shared")
    with (
        fresh_database(postgres_server, postgres_template) as (_, url),
        serving_in_a_thread(directory, url, **TLS) as server,
    ):
        yield server


class OrderedEngine(EngineClient):  # type: ignore[misc]
    """Calls its handlers one after the other; else it starts a thread for each message, and those race."""

    def _trigger_event(self, event: str, *args: object, **kwargs: object) -> object:
        kwargs.pop("run_async", None)
        return super()._trigger_event(event, *args, run_async=False, **kwargs)


class OrderedClient(SocketClient):  # type: ignore[misc]
    def _engineio_client_class(self) -> type[OrderedEngine]:
        return OrderedEngine


class Client:
    """A `python-socketio` client that asks `ping` with a number and hears it again, in order. It blocks.

    Args:
        keeps_alive: whether it uses its HTTP connections again; else every request is on a new one.
    """

    def __init__(self, address: str, transports: list[str], *, keeps_alive: bool = False, scheme: str = "http") -> None:
        self.answers: list[int] = []
        self.problems: list[Any] = []
        self._heard = threading.Condition()
        session = requests.Session()
        session.verify = session.trust_env = False
        if not keeps_alive:
            session.headers["Connection"] = "close"
        self._session = session
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.client = OrderedClient(http_session=session, ssl_verify=False, reconnection=False)
        self.client.on("connect_error", self.problems.append)
        self.client.connect(f"{scheme}://{address}", transports=transports, wait_timeout=30)
        self.client.on("disconnect", lambda *reason: self.problems.append(reason))

    def ask(self, first: int, count: int, *, pause_s: float = 0) -> None:
        for number in range(first, first + count):
            self.client.emit("ping", number, callback=self._answered)
            if pause_s:
                time.sleep(pause_s)

    def _answered(self, number: int) -> None:
        with self._heard:
            self.answers.append(number)
            self._heard.notify_all()

    def wait(self, count: int) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.answers) >= count, 60), (self.answers[-3:], self.problems)

    def end(self) -> None:
        self.client.handlers["/"].pop("disconnect", None)
        self.client.eio.queue.join()  # while a POST is under way it would forget to say that it leaves
        self.client.disconnect()
        self._session.close()


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


def talk(address: str, transports: list[str], transport: str, count: int, **options: Any) -> None:
    """The life of a client, in a thread: every number comes back once, in order."""
    client = Client(address, transports, **options)
    assert client.client.transport() == transport
    client.ask(0, count // 2)
    client.wait(1)
    client.ask(count // 2, count - count // 2, pause_s=0.002)
    client.wait(count)
    assert client.answers == list(range(count))
    assert client.problems == []
    client.end()


async def handovers(server: WorkersProcess) -> Counter[str]:
    """What went from worker to worker so far, in all of them."""
    found: Counter[str] = Counter()
    for health in (await server.healths()).values():
        found.update(health["handovers"])
    return found


@pytest.mark.parametrize(
    ("transports", "transport"), [(["polling"], "polling"), (["polling", "websocket"], "websocket")]
)
@pytest.mark.parametrize("keeps_alive", [False, True])
async def test_clients_talk_to_any_worker(
    server: WorkersProcess, transports: list[str], transport: str, keeps_alive: bool
) -> None:
    with trio.fail_after(TIMEOUT_S):
        before = await handovers(server)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(
                    partial(in_thread, talk, server.address, transports, transport, 200, keeps_alive=keeps_alive)
                )
        counts = await handovers(server) - before
        assert counts["given"] >= (40 if transport == "polling" and not keeps_alive else 1)
        assert counts["taken"] == counts["given"] + counts["relayed"]
        assert counts["failed"] == 0


class RawSession:
    """A polling session of our own, each request on a connection of its own; it upgrades by hand."""

    def __init__(self, server: WorkersProcess, sid: str) -> None:
        self.server = server
        self.target = f"{POLLING}&sid={sid}"

    async def poll(self) -> list[str]:
        answer = await self.server.ask("GET", self.target)
        assert answer.status == 200, answer
        return answer.body.decode().split("\x1e")

    async def post(self, *packets: str) -> Answer:
        return await self.server.ask("POST", self.target, "\x1e".join(packets).encode())


async def open_raw(server: WorkersProcess) -> RawSession:
    """In the default namespace of Socket.IO."""
    _, sid = await open_session(server)
    session = RawSession(server, sid)
    assert (await session.post("40")).status == 200
    assert (await session.poll())[0].startswith("40")
    return session


async def test_every_request_may_go_to_another_worker(server: WorkersProcess) -> None:
    with trio.fail_after(TIMEOUT_S):
        session = await open_raw(server)
        heard: list[str] = []
        for number in range(40):
            assert (await session.post(f'42{number}["ping",{number}]')).body == b"ok"
            heard += await session.poll()
        assert heard == [f"43{number}[{number}]" for number in range(40)]
        assert (await session.post("1")).status == 200
        answer = await server.ask("GET", session.target)
        assert (answer.status, json.loads(answer.body)) == (400, {"code": 1, "message": "Session ID unknown"})


@asynccontextmanager
async def open_websocket(server: WorkersProcess, target: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    stream = await server.dial()
    # The library forgets its socket when the connection is reset, so it is closed here.
    async with stream, trio.open_nursery() as nursery:
        yield await trio_websocket.wrap_client_stream(nursery, stream, server.address, target)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["server", "tls_server"])
async def test_an_upgrade_at_any_worker_loses_and_reorders_nothing(name: str, request: pytest.FixtureRequest) -> None:
    server: WorkersProcess = request.getfixturevalue(name)
    with trio.fail_after(TIMEOUT_S):
        before = await handovers(server)
        for _ in range(6):
            session = await open_raw(server)
            heard: list[str] = []
            await session.post(*(f'42{number}["ping",{number}]' for number in range(20)))
            target = session.target.replace("transport=polling", "transport=websocket")
            async with open_websocket(server, target) as websocket:
                heard += await session.poll()
                await session.post(*(f'42{number}["ping",{number}]' for number in range(20, 40)))
                await websocket.send_message("2probe")
                assert await websocket.get_message() == "3probe"
                heard += await session.poll()
                await websocket.send_message("5")
                for number in range(40, 60):
                    await websocket.send_message(f'42{number}["ping",{number}]')
                while heard[-1] != "4359[59]":
                    heard.append(str(await websocket.get_message()))
                assert [each for each in heard if each != "6"] == [f"43{number}[{number}]" for number in range(60)]
                assert (await server.ask("GET", session.target)).status == 400  # it has a WebSocket for good
                async with open_websocket(server, target) as late:
                    with pytest.raises(trio_websocket.ConnectionClosed):  # accepted, and closed
                        await late.get_message()
                await websocket.send_message('4260["ping",60]')
                assert await websocket.get_message() == "4360[60]"
        counts = await handovers(server) - before
        assert counts["relayed" if server.tls else "given"] >= 20
        assert counts["given" if server.tls else "relayed"] == 0


async def test_over_tls_a_lost_client_or_worker_ends_the_relay(start: Start) -> None:
    async with start(**TLS) as server:
        index, sid = await open_session(server)
        while (await handovers(server))["relayed"] == 0:
            async with open_websocket(server, f"{POLLING}&sid={sid}".replace("=polling", "=websocket")) as websocket:
                await websocket.send_message("2probe")
                assert await websocket.get_message() == "3probe"
        async with open_websocket(server, f"{POLLING}&sid={sid}".replace("=polling", "=websocket")) as websocket:
            await websocket.send_message("2probe")
            assert await websocket.get_message() == "3probe"
            server.kill_worker(index)
            with pytest.raises(trio_websocket.ConnectionClosed):
                await websocket.get_message()
        assert await server.end(signal.SIGTERM) == 0


async def test_one_connection_may_carry_requests_for_sessions_of_every_worker(server: WorkersProcess) -> None:
    with trio.fail_after(TIMEOUT_S):
        sessions: dict[int, str] = {}
        while len(sessions) < 3:
            index, sid = await open_session(server)
            sessions[index] = sid
        before = await handovers(server)
        stream = await server.dial()
        async with stream:
            for turn in range(3):
                for sid in sessions.values():
                    body = b"40" if turn == 0 else f'42{turn}["ping",{turn}]'.encode()
                    for method, data in (("POST", body), ("GET", b"")):
                        await stream.send_all(
                            f"{method} {POLLING}&sid={sid} HTTP/1.1\r\nHost: x\r\n"
                            f"Content-Length: {len(data)}\r\n\r\n".encode()
                            + data
                        )
                        answer = await read_one(stream)
                        assert answer.status == 200, answer
                        assert "connection: close" not in answer.head
                        if method == "GET":
                            expected = b"40" if turn == 0 else f"43{turn}[{turn}]".encode()
                            assert answer.body.startswith(expected)
        assert (await handovers(server) - before)["relayed"] >= 10


async def test_a_large_post_and_a_chunked_one_arrive_whole(server: WorkersProcess) -> None:
    text = "x" * 300_000
    with trio.fail_after(TIMEOUT_S):
        sessions: dict[int, str] = {}
        while len(sessions) < 2:
            index, sid = await open_session(server)
            sessions[index] = sid
        for sid in sessions.values():
            session = RawSession(server, sid)
            await session.post("40")
            await session.poll()
        with requests.Session() as http:
            url = f"http://{server.address}{POLLING}"

            def post(sid: str, body: Any) -> None:
                assert http.post(f"{url}&sid={sid}", data=body).text == "ok"

            def pieces() -> Iterator[bytes]:
                yield f'421["ping","{text[:100_000]}'.encode()
                yield f'{text[100_000:]}"]'.encode()

            for sid in sessions.values():
                for body in (f'421["ping","{text}"]'.encode(), pieces()):
                    await in_thread(post, sid, body)
                    assert await RawSession(server, sid).poll() == [f'431["{text}"]']


async def test_a_poll_that_its_client_gives_up_ends_the_session(server: WorkersProcess) -> None:
    with trio.fail_after(TIMEOUT_S):
        for _ in range(4):
            session = await open_raw(server)
            poll = await server.start_asking("GET", session.target)
            await trio.sleep(0.1)
            await poll.aclose()
            while (await session.post("3")).status == 200:
                pass


async def test_a_second_poll_ends_the_session_whichever_worker_it_comes_to(server: WorkersProcess) -> None:
    with trio.fail_after(TIMEOUT_S):
        for _ in range(4):
            session = await open_raw(server)
            first = await server.start_asking("GET", session.target)
            await trio.sleep(0.1)
            assert (await server.ask("GET", session.target)).status == 400
            async with first:
                assert parse(await read_all(first)).body == b"1"


async def test_the_sessions_of_a_killed_worker_are_unknown_and_its_clients_begin_anew(start: Start) -> None:
    async with start() as server:
        index, sid = await open_session(server)
        other, other_sid = await open_session(server)
        while other == index:
            other, other_sid = await open_session(server)
        poll = await server.start_asking("GET", f"{POLLING}&sid={sid}")
        await trio.sleep(0.1)
        server.kill_worker(index)
        async with poll:
            assert await read_all(poll) == b""  # it had been handed over, or was accepted there
        for _ in range(6):
            answer = await server.ask("GET", f"{POLLING}&sid={sid}")
            assert (answer.status, json.loads(answer.body)["code"]) == (400, 1)
        assert (await RawSession(server, other_sid).post("40")).status == 200


async def test_a_reload_ends_polling_sessions_in_words_and_their_clients_come_back(start: Start) -> None:
    async with start(count=2) as server:
        session = await open_raw(server)
        server.reload()
        heard: list[str] = []
        while "1" not in heard:
            heard += await session.poll()
        await server.told("all workers were replaced")
        assert (await server.ask("GET", session.target)).status == 400
        await open_raw(server)


async def test_over_tls_requests_are_passed_on(tls_server: WorkersProcess) -> None:
    """Upgrades are tested above: `websocket-client` reads and writes in two threads, and Python's TLS bears that only
    since 3.13."""
    with trio.fail_after(TIMEOUT_S):
        before = await handovers(tls_server)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                talker = partial(talk, tls_server.address, ["polling"], "polling", 60, scheme="https")
                nursery.start_soon(in_thread, talker)
        counts = await handovers(tls_server) - before
        assert counts["given"] == 0
        assert counts["relayed"] >= 40


async def test_clients_of_node_upgrade_at_any_worker_while_they_talk(server: WorkersProcess) -> None:
    require_node("socket.io-client")
    with trio.fail_after(TIMEOUT_S):
        before = await handovers(server)
        talks = await run_node(Path(__file__).with_name("clients.mjs"), f"http://{server.address}", "20", "300")
        assert [talk["problems"] for talk in talks] == [[]] * 20
        assert [talk["answers"] for talk in talks] == [list(range(300))] * 20
        assert [talk["transport"] for talk in talks] == ["websocket"] * 20
        assert (await handovers(server) - before)["given"] >= 20


async def test_handovers_leave_no_descriptor_behind(server: WorkersProcess) -> None:
    if sys.platform != "linux":
        pytest.skip("this platform does not list the descriptors of a process")
    with trio.fail_after(TIMEOUT_S):
        await server.healths()
        before = sum(map(descriptors_of, server.pids.values()))
        for _ in range(8):
            session = await open_raw(server)
            for number in range(6):
                await session.post(f'42{number}["ping",{number}]')
                await session.poll()
            await session.post("1")
            assert (await server.ask("GET", session.target)).status == 400
        await until(lambda: sum(map(descriptors_of, server.pids.values())) <= before + 4)  # Postgres' come and go


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
