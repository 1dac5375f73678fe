"""Passing bytes and requests on to the worker that has the session."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from catfish.http.asgi import Scope
from catfish.net.plain_stream import PlainStream
from catfish.wire.http import parse_request_head
from catfish.workers.relay import build_request, parse_answer, pass_bytes, pass_request


def pair() -> tuple[PlainStream, PlainStream]:
    """The relay's end of the connection to a worker, and the worker's."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return PlainStream(ours), PlainStream(theirs)


async def rest(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some(65_536):
        data += more
    return data


# Bytes


async def test_bytes_pass_both_ways_until_the_worker_has_said_everything() -> None:
    client, server = memory_stream_pair()
    worker, far = pair()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: pass_bytes(server, worker, stall_s=5))
            await client.send_all(b"question")
            assert await far.receive_some(100) == b"question"
            await far.send_all(b"answer")
            assert await client.receive_some(100) == b"answer"
            await client.send_eof()
            assert await far.receive_some(100) == b""
            await far.send_all(b"last words")
            far.cut()
            assert await rest(client) == b"last words"


async def test_when_the_client_is_lost_the_worker_hears_it() -> None:
    client, server = memory_stream_pair()
    worker, far = pair()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: pass_bytes(server, worker, stall_s=5))
            await trio.testing.wait_all_tasks_blocked()
            await trio.aclose_forcefully(server)  # as `Gate.cut_http` does
            assert await far.receive_some(100) == b""
            await trio.aclose_forcefully(client)
    far.cut()


async def test_a_client_that_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    client, server = trio.testing.lockstep_stream_pair()
    worker, far = pair()
    await far.send_all(b"answer")
    await pass_bytes(server, worker, stall_s=5)
    assert trio.current_time() < 10
    assert await far.receive_some(100) == b""
    far.cut()
    await trio.aclose_forcefully(client)


# Requests


class Exchange:
    """One request that an ASGI server has for us, and what it gets."""

    def __init__(self, method: str = "GET", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": method,
            "path": "/socket.io/",
            "raw_path": b"/socket.io/",
            "query_string": b"EIO=4&sid=x",
            "headers": [(b"host", b"h:1"), *(headers or [])],
            "client": ("203.0.113.9", 1),
        }
        self.put, self._incoming = trio.open_memory_channel[dict[str, Any]](10)
        self.got: list[dict[str, Any]] = []

    def body(self, data: bytes, *, more: bool = False) -> None:
        self.put.send_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self.put.send_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._incoming.receive()

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.got.append(message)

    @property
    def answer(self) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        start, *pieces = self.got
        assert not pieces[-1]["more_body"]
        return start["status"], start["headers"], b"".join(piece["body"] for piece in pieces)


ANSWER = b"HTTP/1.1 200 \r\nContent-Type: text/plain\r\nContent-Length: 5\r\ndate: now\r\nConnection: close\r\n\r\n"


def test_a_request_goes_on_as_it_came_but_for_what_is_the_connections_own() -> None:
    exchange = Exchange(
        "POST",
        [
            (b"content-length", b"3"),
            (b"connection", b"keep-alive"),
            (b"origin", b"https://a.example"),
            (b"x-twice", b"1"),
            (b"x-twice", b"2"),
            (b"expect", b"100-continue"),
        ],
    )
    head = parse_request_head(build_request(exchange.scope))
    assert (head.method, head.target) == ("POST", "/socket.io/?EIO=4&sid=x")
    assert head.headers == {
        "host": "h:1",
        "content-length": "3",
        "origin": "https://a.example",
        "x-twice": "1, 2",
        "connection": "close",
    }


async def test_the_answer_comes_back() -> None:
    exchange = Exchange()
    worker, far = pair()
    exchange.body(b"")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def relay() -> None:
                assert await pass_request(exchange.scope, exchange.receive, exchange.send, worker)

            nursery.start_soon(relay)
            await trio.testing.wait_all_tasks_blocked()
            assert exchange.got == []
            await far.send_all(ANSWER[:30])
            await trio.testing.wait_all_tasks_blocked()
            await far.send_all(ANSWER[30:] + b"he")
            await far.send_all(b"llo")
    assert exchange.answer == (200, [(b"content-type", b"text/plain"), (b"content-length", b"5")], b"hello")
    assert await far.receive_some(100) == b""
    far.cut()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_goes_on_as_it_comes(chunked: bool) -> None:
    field = (b"Transfer-Encoding", b"chunked") if chunked else (b"content-length", b"6")
    exchange = Exchange("POST", [field])
    worker, far = pair()
    head = parse_request_head(build_request(exchange.scope))
    assert head.headers.get("transfer-encoding") == ("chunked" if chunked else None)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_request, exchange.scope, exchange.receive, exchange.send, worker)
            exchange.body(b"abc", more=True)
            await trio.testing.wait_all_tasks_blocked()
            exchange.body(b"", more=True)
            exchange.body(b"def")
            await trio.testing.wait_all_tasks_blocked()
            expected = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" if chunked else b"abcdef"
            assert await far.receive_some(100) == expected
            await far.send_all(ANSWER + b"hello")
    assert exchange.answer[2] == b"hello"
    far.cut()


@pytest.mark.parametrize("before", ["body", "answer"])
async def test_when_the_client_leaves_the_worker_hears_it(before: str) -> None:
    exchange = Exchange("POST", [(b"content-length", b"6")])
    worker, far = pair()
    if before == "answer":
        exchange.body(b"abcdef")
    exchange.leave()
    with trio.fail_after(10):
        assert await pass_request(exchange.scope, exchange.receive, exchange.send, worker)
    assert await rest(far) == (b"abcdef" if before == "answer" else b"")
    assert exchange.got == []
    far.cut()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"x" * 100_000])
async def test_a_worker_that_is_lost_before_it_answers_has_not(said: bytes) -> None:
    exchange = Exchange()
    worker, far = pair()
    exchange.body(b"")

    async def die() -> None:
        await far.send_all(said)
        far.cut()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            assert not await pass_request(exchange.scope, exchange.receive, exchange.send, worker)
    assert exchange.got == []


async def test_an_answer_that_is_cut_off_is_cut_off_for_the_client_as_well() -> None:
    exchange = Exchange()
    worker, far = pair()
    exchange.body(b"")
    await far.send_all(ANSWER + b"hel")
    far.cut()
    with trio.fail_after(10):
        assert await pass_request(exchange.scope, exchange.receive, exchange.send, worker)
    assert exchange.got[-1]["more_body"]


async def test_the_end_of_an_answer_is_not_interrupted_by_the_word_that_it_has_ended() -> None:
    """Hypercorn says `http.disconnect` from within the last `send`, and has to close the connection after that."""
    exchange = Exchange()
    worker, far = pair()
    exchange.body(b"")
    ended = []

    async def send(message: Any) -> None:
        if not message.get("more_body", True):
            exchange.leave()
            await trio.testing.wait_all_tasks_blocked()
            ended.append(message)

    await far.send_all(ANSWER + b"hello")
    with trio.fail_after(10):
        assert await pass_request(exchange.scope, exchange.receive, send, worker)
    assert len(ended) == 1
    far.cut()


async def test_an_empty_answer_has_an_end() -> None:
    exchange = Exchange()
    worker, far = pair()
    exchange.body(b"")
    await far.send_all(b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n")
    with trio.fail_after(10):
        assert await pass_request(exchange.scope, exchange.receive, exchange.send, worker)
    assert exchange.answer == (204, [(b"content-length", b"0")], b"")
    far.cut()


def test_an_answer_without_a_length_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="length"):
        parse_answer(b"HTTP/1.1 200 \r\n\r\n")
