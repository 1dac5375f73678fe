"""Our own HTTP loop: what it answers itself, what it leaves to Hypercorn, and peers of every kind."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.net.handoff import ReplayStream
from catfish.net.plain_http import PlainHttp, is_simple
from catfish.net.plain_stream import PlainStream
from catfish.wire.http import parse_request_head

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
HELLO = [(b"content-length", b"5")]


class App:
    """Answers by path; what it notices is in `seen`."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go_on = trio.Event()
        self.sent = trio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.seen.append((scope["method"], scope["path"], scope["query_string"]))
        respond = getattr(self, scope["path"].strip("/") or "hello")
        await respond(scope, receive, send)

    async def hello(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HELLO})
        await send({"type": "http.response.body", "body": b"hello"})

    async def chunks(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def nothing(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def fault(self, scope: Any, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async def late_fault(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.chunks(scope, receive, send)
        raise ZeroDivisionError

    async def half(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HELLO})
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})

    async def silent(self, scope: Any, receive: Receive, send: Send) -> None:
        pass

    async def injected(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nset-cookie: b")]})
        await send({"type": "http.response.body"})

    async def poll(self, scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                self.seen.append((await receive())["type"])
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self.go_on.wait()
            nursery.cancel_scope.cancel()
        await self.hello(scope, receive, send)

    async def given_up(self, scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def half_given_up(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.half(scope, receive, send)
        await self.given_up(scope, receive, send)

    async def fault_in_the_end(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.given_up(scope, receive, send)
        raise ZeroDivisionError

    async def big(self, scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(20_000_000)})
        self.sent.set()


class Hypercorn:
    """In its place: notes what it is left."""

    def __init__(self) -> None:
        self.left: list[bytes] = []
        self.terminated = False

    async def __call__(self, stream: ReplayStream) -> None:
        self.left.append(await stream.receive_some())
        await stream.send_all(b"hypercorn")

    async def terminate(self) -> None:
        self.terminated = True


class Peer:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def ask(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hear(self, end: bytes) -> bytes:
        """Read up to `end`."""
        data = b""
        while not data.endswith(end):
            more = await self.stream.receive_some(65_536)
            assert more, data
            data += bytes(more)
        return data

    async def hear_all(self) -> bytes:
        data = b""
        while more := await self.stream.receive_some(65_536):
            data += bytes(more)
        return data


class Place:
    def __init__(self, **settings: Any) -> None:
        self.app = App()
        self.hypercorn = Hypercorn()
        anything: Any = self.hypercorn
        self.http = PlainHttp(self.app, anything, Settings(**settings))
        self.stall_s = 5.0

    @asynccontextmanager
    async def connected(self, read: bytes = b"") -> AsyncIterator[Peer]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        async def serve() -> None:
            plain = PlainStream(ours)
            async with plain:
                try:
                    await self.http(ReplayStream(plain, read, self.stall_s, "203.0.113.9:4711"))
                except trio.BrokenResourceError:
                    pass  # as the gate takes it

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
                    yield Peer(stream)


def get(path: str = "/", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


@pytest.mark.parametrize(
    ("head", "simple"),
    [
        (get(), True),
        (get(method="HEAD"), True),
        (get("/", "Content-Length: 0", method="DELETE"), True),
        (get("http://x/page"), True),
        (get(method="POST"), False),
        (get("/", "Content-Length: 1"), False),
        (get("/", "Content-Length: 0, 1"), False),
        (get("/", "Transfer-Encoding: chunked"), False),
        (get("/", "Upgrade: websocket", "Connection: Upgrade"), False),
        (get("/", "Expect: 100-continue"), False),
        (get("*", method="OPTIONS"), False),
    ],
)
def test_only_a_request_that_is_no_more_than_its_head_is_simple(head: bytes, simple: bool) -> None:
    assert is_simple(parse_request_head(head)) is simple


async def test_requests_follow_each_other_and_may_come_together_or_in_pieces() -> None:
    place = Place()
    async with place.connected(get("/hello?a=1")) as peer:
        await peer.hear(b"hello")
        await peer.ask(get() * 3)
        answers = await peer.hear(b"hello")
        while answers.count(b"\r\n\r\nhello") < 3:
            answers += await peer.hear(b"hello")
        for byte in get():
            await peer.ask(bytes([byte]))
        answer = await peer.hear(b"hello")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: ")
    assert place.app.seen == [("GET", "/hello", b"a=1")] + [("GET", "/", b"")] * 4


async def test_answers_are_framed_as_http_has_it() -> None:
    place = Place()
    async with place.connected() as peer:
        await peer.ask(get("/chunks"))
        assert (await peer.hear(b"0\r\n\r\n")).endswith(
            b"transfer-encoding: chunked\r\ndate: " + _date_of(place) + b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        await peer.ask(get("/hello", method="HEAD"))
        head = await peer.hear(b"\r\n\r\n")
        assert b"content-length: 5" in head
        await peer.ask(get("/nothing"))
        nothing = await peer.hear(b"\r\n\r\n")
        assert nothing.startswith(b"HTTP/1.1 204 No Content\r\ndate: ")
        await peer.ask(get("/chunks", method="HEAD"))
        assert b"chunked" not in await peer.hear(b"\r\n\r\n")
        await peer.ask(get("/", "Connection: close"))
        last = await peer.hear_all()
    assert last.endswith(b"\r\nconnection: close\r\n\r\nhello")


def _date_of(place: Place) -> bytes:
    from catfish.net import plain_http

    return plain_http._dated[1].removeprefix(b"date: ")


async def test_what_is_not_simple_goes_to_hypercorn_whole() -> None:
    place = Place()
    post = get("/in", "Content-Length: 2", method="POST") + b"{}"
    async with place.connected() as peer:
        await peer.ask(get() + post)
        assert (await peer.hear_all()).endswith(b"hellohypercorn")
    assert place.hypercorn.left == [post]


@pytest.mark.parametrize("path", ["/fault", "/silent", "/injected"])
async def test_a_fault_before_the_answer_is_answered_500(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Place().connected() as peer:
        await peer.ask(get(path))
        answer = await peer.hear_all()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer
    assert answer.endswith(b'"A fault of the server; it is in its log."}')
    assert [record.message for record in caplog.records] == ["serving a request failed"]


async def test_an_answer_that_stays_unfinished_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async with Place().connected() as peer:
        await peer.ask(get("/half"))
        assert (await peer.hear_all()).endswith(b"\r\n\r\nhel")
    assert [record.message for record in caplog.records] == ["an answer was not finished"]


async def test_a_fault_behind_the_answer_is_nobodys_concern() -> None:
    async with Place().connected() as peer:
        await peer.ask(get("/late_fault") + get())
        assert (await peer.hear(b"hello")).count(b"HTTP/1.1 200") == 2


async def test_a_client_that_leaves_while_it_waits_is_noticed() -> None:
    place = Place()
    async with place.connected() as peer:
        await peer.ask(get("/poll"))
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert place.app.seen[1:] == ["http.disconnect"]


@pytest.mark.parametrize(
    ("path", "logged"),
    [("/given_up", []), ("/half_given_up", []), ("/fault_in_the_end", ["serving a request failed"])],
)
async def test_who_has_left_needs_no_answer_but_a_fault_is_one(
    path: str, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    async with place.connected() as peer:
        await peer.ask(get("/hello") + get(path) + get("/never"))
        await peer.stream.send_eof()
        answers = await peer.hear_all()
    assert answers.count(b"HTTP/1.1 200") == (2 if "half" in path else 1)  # what was answered arrives, and nothing more
    assert answers.endswith(b"hel" if "half" in path else b"hello")
    assert [each[1] for each in place.app.seen] == ["/hello", path]
    assert [record.message for record in caplog.records] == logged


async def test_a_request_that_comes_during_another_waits_for_its_turn() -> None:
    place = Place()
    async with place.connected() as peer:
        await peer.ask(get("/poll"))
        await peer.ask(get("/hello"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(place.app.seen) == 1
        place.app.go_on.set()
        answers = await peer.hear(b"hello")
        while answers.count(b"hello") < 2:
            answers += await peer.hear(b"hello")
    assert [each[1] for each in place.app.seen] == ["/poll", "/hello"]


async def test_more_than_a_head_is_not_read_while_one_is_answered() -> None:
    place = Place(request_head_bytes_max=1_000)
    async with place.connected() as peer:
        await peer.ask(get("/poll"))
        with trio.move_on_after(1):
            while True:
                await peer.ask(bytes(100_000))  # until nothing is taken any more
        assert len(place.app.seen) == 1
        place.app.go_on.set()
        assert b"\r\n\r\nhello" in await peer.hear_all()


async def test_a_slow_or_endless_head_is_refused() -> None:
    async with Place(request_head_timeout_s=0.05).connected() as peer:
        await peer.ask(get() + b"GET / HT")
        assert b"HTTP/1.1 408 " in await peer.hear_all()
    async with Place(request_head_bytes_max=500).connected() as peer:
        await peer.ask(get() + get("/", "X: " + "x" * 1_000))
        assert b"HTTP/1.1 431 " in await peer.hear_all()
    async with Place(request_head_bytes_max=500).connected() as peer:
        await peer.ask(get() + b"x" * 1_000)
        assert b"HTTP/1.1 431 " in await peer.hear_all()
    async with Place().connected() as peer:
        await peer.ask(get() + b"what is this\r\n\r\n")
        assert b"HTTP/1.1 400 " in await peer.hear_all()


async def test_an_idle_stream_ends_after_its_time() -> None:
    async with Place(http_keep_alive_s=0.05).connected() as peer:
        await peer.ask(get())
        assert (await peer.hear_all()).endswith(b"hello")


async def test_when_the_server_stops_idle_streams_end_and_others_with_their_answer() -> None:
    place = Place()
    async with place.connected() as idle, place.connected() as busy:
        await idle.ask(get())
        await idle.hear(b"hello")
        await busy.ask(get("/poll") + get())
        await trio.testing.wait_all_tasks_blocked(0.01)
        await place.http.terminate()
        assert await idle.hear_all() == b""
        place.app.go_on.set()
        assert (await busy.hear_all()).endswith(b"connection: close\r\n\r\nhello")
    assert place.hypercorn.terminated
    async with place.connected(get()) as late:
        assert (await late.hear_all()).endswith(b"connection: close\r\n\r\nhello")


async def test_a_client_that_reads_nothing_is_given_up() -> None:
    place = Place()
    place.stall_s = 0.1
    async with place.connected() as peer:
        await peer.ask(get("/big"))
        await place.app.sent.wait()
