"""Two workers in one process: who gives what to whom, and what comes of it. No server stands behind them."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import memory_stream_pair

from catfish.config import Settings
from catfish.net.plain_stream import PlainStream
from catfish.telemetry.scrape import Reply
from catfish.wire.http import RequestHead, parse_request_head
from catfish.workers.board import Board
from catfish.workers.control import FROM_WORKER, Alive, Lines, Ready, Serving, build_line
from catfish.workers.neighbours import Neighbours
from catfish.workers.orders import Orders
from tests.net.harness import descriptors
from tests.workers.test_relay import Exchange


class Adopted(NamedTuple):
    sock: socket.socket
    peer: str
    read: bytes


class Listener:
    """In the place of `net.listener.Listener`: remembers what it is given."""

    def __init__(self) -> None:
        self.send, self._adopted = trio.open_memory_channel[Adopted](100)

    def adopt(self, sock: socket.socket, peer: str, read: bytes) -> None:
        self.send.send_nowait(Adopted(sock, peer, read))

    async def next(self) -> Adopted:
        return await self._adopted.receive()


class Worker(NamedTuple):
    tag: str
    neighbours: Neighbours
    listener: Listener
    parent: trio.SocketStream
    """The parent's end."""


class Town:
    def __init__(self, directory: Path, board: Board, nursery: trio.Nursery, **settings: Any) -> None:
        self._directory = directory
        self._board = board
        self._nursery = nursery
        self._settings = Settings(**settings)

    async def move_in(self, tag: str, entry: int) -> Worker:
        ours, theirs = trio.socket.socketpair()
        orders = Orders(
            index=entry,
            tag=tag,
            directory=self._directory,
            control=-1,
            board=-1,
            board_entries=4,
            entry=entry,
            settings=self._settings,
        )
        worker = Worker(
            tag, Neighbours(orders, self._board, trio.SocketStream(theirs)), Listener(), trio.SocketStream(ours)
        )
        await self._nursery.start(worker.neighbours.run, worker.listener)
        return worker


@asynccontextmanager
async def open_town(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers, `aaaa` and `bbbb`."""
    with tempfile.TemporaryFile() as file:
        Board.prepare(file.fileno(), 4)
        with Board(file.fileno(), 4) as board, trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                town = Town(tmp_path, board, nursery, **settings)
                workers = await town.move_in("aaaa", 0), await town.move_in("bbbb", 1)
                yield workers
                nursery.cancel_scope.cancel()
            for worker in workers:
                await worker.parent.aclose()
                await worker.neighbours._control.aclose()
    assert os.listdir(tmp_path) == []


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


def head(query: str, *, path: str = "/socket.io/", upgrade: bool = False) -> RequestHead:
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\n" if upgrade else ""
    return parse_request_head(f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())


def plain() -> tuple[PlainStream, socket.socket]:
    """The server's end of a client's connection, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return PlainStream(ours), theirs


async def test_only_requests_for_sessions_of_others_are_given_away(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        stream, client = plain()
        for query, path in (
            ("EIO=4&transport=polling", "/socket.io/"),
            (f"EIO=4&sid={here.neighbours.draw_sid()}", "/socket.io/"),
            (f"EIO=4&sid={there.neighbours.draw_sid()}", "/ws"),
            ("sid=", "/socket.io/"),
            ("sid=../", "/socket.io/"),
            ("sid=%2e%2e%2f%2e", "/socket.io/"),
            ("&".join(f"a{number}=1" for number in range(100)) + "&sid=bbbbx", "/socket.io/"),
        ):
            assert here.neighbours.taker(head(query, path=path), stream, stopping=False) is None, query
        for path in ("/socket.io/", "/socket.io", "/api/v1/chat-service/socket.io/", "/socket.io-msgpack/"):
            assert here.neighbours.taker(head("sid=bbbbx", path=path), stream, stopping=False) is not None
        tls, _ = memory_stream_pair()
        assert here.neighbours.taker(head("sid=bbbbx"), tls, stopping=False) is None
        assert here.neighbours.taker(head("sid=bbbbx", upgrade=True), tls, stopping=False) is not None
        stream.cut()
        client.close()


async def test_a_plain_connection_is_handed_over_whole(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        stream, client = plain()
        hand = here.neighbours.taker(head("sid=bbbbx"), stream, stopping=False)
        assert hand is not None
        assert await hand(stream, b"GET and more", "203.0.113.9:1")
        stream.cut()
        adopted = await there.listener.next()
        assert (adopted.peer, adopted.read) == ("203.0.113.9:1", b"GET and more")
        adopted.sock.send(b"hello")
        adopted.sock.close()
        assert client.recv(10) == b"hello"
        client.close()
        assert (here.neighbours.handovers.given, there.neighbours.handovers.taken) == (1, 1)


async def test_what_is_for_a_process_that_is_gone_is_served_here(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, _):
        stream, client = plain()
        hand = here.neighbours.taker(head("sid=gonex"), stream, stopping=False)
        assert hand is not None
        assert not await hand(stream, b"x", "unix")
        exchange = Exchange()
        exchange.scope["query_string"] = b"sid=gonex"
        assert not await here.neighbours.relay(exchange.scope, exchange.receive, exchange.send)
        assert here.neighbours.handovers.failed == 2
        stream.cut()
        client.close()


async def test_a_process_that_hangs_is_waited_for_only_so_long(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_town(tmp_path, handover_timeout_s=2) as (here, _):
        with socket.socket(socket.AF_UNIX) as hangs:
            hangs.bind(str(tmp_path / "hang"))
            hangs.listen()
            stream, client = plain()
            hand = here.neighbours.taker(head("sid=hangx"), stream, stopping=False)
            assert hand is not None
            assert not await hand(stream, b"x", "unix")
            stream.cut()
            client.close()
        (tmp_path / "hang").unlink()


async def test_a_tls_connection_is_passed_on(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        client, tls = memory_stream_pair()
        hand = here.neighbours.taker(head("sid=bbbbx", upgrade=True), tls, stopping=False)
        assert hand is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand, tls, b"GET", "203.0.113.9:1")
            adopted = await there.listener.next()
            assert (adopted.peer, adopted.read) == ("203.0.113.9:1", b"GET")
            await client.send_all(b"question")
            far = PlainStream(adopted.sock)
            assert await far.receive_some() == b"question"
            await far.send_all(b"answer")
            far.cut()
            assert await client.receive_some() == b"answer"
            assert await client.receive_some() == b""
        assert here.neighbours.handovers.relayed == 1


async def test_a_later_request_of_a_connection_is_passed_on(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        exchange = Exchange()
        exchange.scope["query_string"] = b"EIO=4&sid=bbbbx"
        exchange.body(b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.neighbours.relay, exchange.scope, exchange.receive, exchange.send)
            adopted = await there.listener.next()
            assert adopted.peer == "203.0.113.9:1"
            assert parse_request_head(adopted.read).target == "/socket.io/?EIO=4&sid=bbbbx"
            adopted.sock.send(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok")
            adopted.sock.close()
        assert exchange.answer[2] == b"ok"


async def test_preflight_requests_are_answered_here(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, _):
        exchange = Exchange("OPTIONS")
        exchange.scope["query_string"] = b"EIO=4&sid=bbbbx"
        assert not await here.neighbours.relay(exchange.scope, exchange.receive, exchange.send)


async def test_who_stops_gives_what_is_not_for_its_sessions_to_who_serves(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        stream, client = plain()
        assert here.neighbours.taker(head("EIO=4"), stream, stopping=True) is None  # nobody serves
        assert [worker.neighbours.others_serve for worker in (here, there)] == [False, False]
        await here.parent.send_all(build_line(Serving(("aaaa", "bbbb"))))
        while not here.neighbours.serving:
            await trio.lowlevel.checkpoint()
        assert [worker.neighbours.others_serve for worker in (here, there)] == [True, False]
        assert here.neighbours.taker(head("EIO=4"), stream, stopping=False) is None
        assert here.neighbours.taker(head("sid=aaaax"), stream, stopping=True) is None
        for query, path in (("EIO=4", "/socket.io/"), ("", "/ws"), ("", "/health")):
            hand = here.neighbours.taker(head(query, path=path), stream, stopping=True)
            assert hand is not None
            assert await hand(stream, b"x", "unix")
            (await there.listener.next()).sock.close()
        stream.cut()
        client.close()


async def test_a_stranger_at_the_door_does_no_harm(tmp_path: Path) -> None:
    async with open_town(tmp_path, handover_timeout_s=0.05) as (here, there):
        for data in (b"", b"\0\0\0\1x", b"\xff" * 100):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(tmp_path / "bbbb"))
                stranger.send(data)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(tmp_path / "bbbb"))
            silent.setblocking(False)
            await trio.lowlevel.wait_readable(silent)
            assert silent.recv(1) == b""
        stream, client = plain()
        hand = here.neighbours.taker(head("sid=bbbbx"), stream, stopping=False)
        assert hand is not None
        assert await hand(stream, b"x", "unix")
        (await there.listener.next()).sock.close()
        stream.cut()
        client.close()


async def test_the_parent_hears_that_a_worker_is_ready_and_then_that_it_lives(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_town(tmp_path, worker_silence_s=20) as (here, _):
        here.neighbours.count(7)
        lines = Lines(here.parent, FROM_WORKER)
        assert [await lines.next() for _ in range(3)] == [Ready(), Alive(7), Alive(7)]
        assert trio.current_time() == pytest.approx(10)


async def test_others_leave_connections_to_a_new_worker_until_it_stops(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        assert here.neighbours.patience_s(10) > 0
        there.neighbours.count(9)
        assert here.neighbours.patience_s(10) == 0
        there.neighbours.count(2)
        assert here.neighbours.patience_s(10) > 0
        there.neighbours.stopped()
        there.neighbours.count(1)
        assert here.neighbours.patience_s(10) == 0


async def test_a_worker_asks_the_others_and_those_that_know_no_answer_say_nothing(tmp_path: Path) -> None:
    async with open_town(tmp_path) as (here, there):
        here.neighbours.serving = ("aaaa", "bbbb", "cccc")
        assert await here.neighbours.ask("how") == [None, None]
        there.neighbours.reply = lambda question: question.encode() * 100_000
        assert await here.neighbours.ask("how") == [Reply(1, b"how" * 100_000), None]
        assert there.neighbours.handovers.taken == here.neighbours.handovers.relayed == 0
