"""A listener that has neighbours: what it gives away, what it adopts, and when it leaves connections to others."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from catfish.config import Settings
from catfish.errors import SERVICE_RESTART
from catfish.net.handoff import HypercornHandoff, replaying
from catfish.net.listener import ARRIVAL_S, Listener, serve
from catfish.net.neighbours import Hand
from catfish.net.plain_stream import PlainStream
from catfish.wire.http import RequestHead
from catfish.wire.websocket.frames import TEXT
from tests.net.harness import CERTIFICATE, HANDSHAKE, KEY, Peer, RecordingEndpoint
from tests.net.test_connection import echo
from tests.net.test_listener import answer_http, dial, shake, talk
from tests.wire.peer import client_frame


class Street:
    """Neighbours that are told what to do."""

    def __init__(self) -> None:
        self.hand: Hand | None = None
        self.asked: list[tuple[str, bool]] = []
        self.counts: list[int] = []
        self.patience = 0.0
        self.has_stopped = False

    def taker(self, head: RequestHead, stream: trio.abc.Stream, *, stopping: bool) -> Hand | None:
        self.asked.append((head.path, stopping))
        return self.hand

    def count(self, streams: int) -> None:
        self.counts.append(streams)

    def stopped(self) -> None:
        self.has_stopped = True

    def patience_s(self, streams: int) -> float:
        return self.patience


@asynccontextmanager
async def listening(street: Street, **settings: Any) -> AsyncIterator[Listener]:
    endpoint = RecordingEndpoint(echo)
    settings = {"bind": ("127.0.0.1:0",), **settings}
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            start = partial(serve, Settings(**settings), lambda head: endpoint, answer_http, neighbours=street)
            yield await nursery.start(start)
            nursery.cancel_scope.cancel()


async def test_what_a_neighbour_takes_is_closed_here_and_nothing_is_written_to_it() -> None:
    street = Street()
    given: list[bytes] = []

    async def take(stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        assert peer.startswith("127.0.0.1:")
        given.append(data)
        await trio.lowlevel.checkpoint()
        return True

    street.hand = take
    async with listening(street) as listener:
        peer = await dial(listener.addresses[0])
        await peer.send(HANDSHAKE + b"\r\nmore")
        assert await peer.rest() == b""
        await peer.leave()
    assert given == [HANDSHAKE + b"\r\nmore"]


async def test_what_a_neighbour_does_not_take_is_served_here() -> None:
    street = Street()

    async def leave(stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    street.hand = leave
    async with listening(street) as listener:
        peer = await dial(listener.addresses[0])
        await shake(peer)
        await talk(peer)
        await peer.leave()
    assert street.asked == [("/somewhere", False)]


async def test_neighbours_are_asked_for_what_comes_while_the_server_stops() -> None:
    street = Street()
    async with listening(street) as listener:
        peer = await dial(listener.addresses[0])
        while not listener.statistics().accepted:
            await trio.lowlevel.checkpoint()
        listener.stop_accepting()
        await peer.send(HANDSHAKE + b"\r\n")
        assert (await peer.rest()).startswith(b"HTTP/1.1 503 ")
        await peer.leave()
    assert street.asked == [("/somewhere", True)]
    assert street.has_stopped


async def test_an_adopted_connection_is_served_like_any_other() -> None:
    street = Street()
    async with listening(street) as listener:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        peer = Peer(PlainStream(theirs))
        listener.adopt(ours, "203.0.113.9:1", HANDSHAKE + b"\r\n" + client_frame(TEXT, b"early"))
        assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")
        assert await peer.frame() == (TEXT, b"early")
        assert [connection.peer for connection in listener.connections] == ["203.0.113.9:1"]
        await peer.leave()
    assert street.asked == []
    assert street.counts == [1, 0]


async def test_an_adopted_connection_too_many_is_answered_503() -> None:
    async with listening(Street(), connections_max=1) as listener:
        first = await dial(listener.addresses[0])
        await shake(first)
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        listener.adopt(ours, "203.0.113.9:1", HANDSHAKE + b"\r\n")
        peer = Peer(PlainStream(theirs))
        assert (await peer.reads_answer()).startswith(b"HTTP/1.1 503 ")
        await peer.leave()
        await first.leave()


async def test_what_is_given_away_for_long_is_cut_in_the_end() -> None:
    street = Street()
    seen = trio.Event()

    async def hold(stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        seen.set()
        try:
            await stream.receive_some()
        except trio.ClosedResourceError:
            return True
        raise AssertionError("it was not cut")

    street.hand = hold
    async with listening(street, tls_certificate=CERTIFICATE, tls_key=KEY) as listener:
        peer = await dial(listener.addresses[0])
        await peer.send(HANDSHAKE + b"\r\n")
        await seen.wait()
        listener.stop_accepting()
        assert await listener.drain(SERVICE_RESTART, 5) == 0
        assert await peer.rest() == b""
        await peer.leave()


async def test_connections_are_left_to_others_for_a_while_but_not_for_ever() -> None:
    street = Street()
    street.patience = 0.05
    async with listening(street) as listener:
        before = trio.current_time()
        peer = await dial(listener.addresses[0])
        await shake(peer)
        assert trio.current_time() - before >= 0.05
        await peer.leave()


async def test_what_was_accepted_is_awaited_before_the_server_ends(autojump_clock: trio.testing.MockClock) -> None:
    street = Street()
    given: list[bytes] = []

    async def take(stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        await trio.lowlevel.checkpoint()
        given.append(data)
        return True

    async with listening(street) as listener:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        nursery = listener._nursery
        assert nursery is not None
        nursery.start_soon(listener._admit, ours, ("127.0.0.1", 1), listener._bounds[0])
        await trio.testing.wait_all_tasks_blocked()
        listener.stop_accepting()
        street.hand = take
        async with trio.open_nursery() as draining:
            draining.start_soon(listener.drain, SERVICE_RESTART, 60)
            await trio.sleep(ARRIVAL_S / 2)
            theirs.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert given == [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
        theirs.close()


async def test_who_never_says_what_he_wants_is_not_awaited_for_long(autojump_clock: trio.testing.MockClock) -> None:
    async with listening(Street()) as listener:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            nursery = listener._nursery
            assert nursery is not None
            nursery.start_soon(listener._admit, ours, ("127.0.0.1", 1), listener._bounds[0])
            await trio.testing.wait_all_tasks_blocked()
            listener.stop_accepting()
            before = trio.current_time()
            await listener.drain(SERVICE_RESTART, 60)
            assert trio.current_time() - before == ARRIVAL_S


@asynccontextmanager
async def open_handoff() -> AsyncIterator[HypercornHandoff]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await trio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with trio.fail_after(60):
        yield HypercornHandoff(cast("ASGIFramework", app), Config())


def connect() -> tuple[PlainStream, Peer]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return PlainStream(ours), Peer(PlainStream(theirs))


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("checkpoints", range(12))
async def test_a_request_that_comes_around_the_end_is_answered(
    checkpoints: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_handoff() as handoff:
        ours, peer = connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handoff, replaying(ours, REQUEST, 10))
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            await handoff.terminate()
            answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        await peer.leave()


async def test_a_request_that_comes_after_the_end_was_announced_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_handoff() as handoff:
        await handoff.terminate()
        for _ in range(20):  # by itself Hypercorn closes such a stream unanswered
            ours, peer = connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handoff, replaying(ours, REQUEST, 10))
                answer = await peer.rest()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            await peer.leave()


async def test_an_idle_connection_ends_with_the_server(autojump_clock: trio.testing.MockClock) -> None:
    async with open_handoff() as handoff:
        ours, peer = connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handoff, replaying(ours, REQUEST, 10))
            assert (await peer.reads_answer()).startswith(b"HTTP/1.1 200")
            await trio.testing.wait_all_tasks_blocked()
            await handoff.terminate()
            assert await peer.rest() == b"ok"
        await peer.leave()


async def test_a_connection_that_its_client_leaves_is_closed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_handoff() as handoff:
        ours, peer = connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handoff, replaying(ours, REQUEST, 10))
            assert (await peer.reads_answer()).startswith(b"HTTP/1.1 200")
            await trio.testing.wait_all_tasks_blocked()
            answered_at = trio.current_time()
            await peer.end()
            assert await peer.rest() == b"ok"
        assert trio.current_time() == answered_at  # by itself Hypercorn keeps it for `keep_alive_timeout`
        await peer.leave()
