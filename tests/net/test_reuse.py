"""A connection that carried HTTP requests before a WebSocket is asked for on it, as proxies do that keep theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from trio.testing import memory_stream_pair

from catfish.config import Settings
from catfish.net.handoff import Exchange, HypercornHandoff, ReplayStream
from catfish.net.listener import Listener, serve
from catfish.net.plain_http import PlainHttp
from catfish.wire.http import RequestHead
from catfish.wire.websocket.frames import TEXT
from tests.e2e.process import until
from tests.net.harness import CERTIFICATE, HANDSHAKE, KEY, RecordingEndpoint, client_context
from tests.net.test_handoff import App, answer, ask, port_of
from tests.wire.peer import client_frame

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = HANDSHAKE + b"\r\n"


@asynccontextmanager
async def serving(endpoint: RecordingEndpoint, *, plain: bool = True, **settings: Any) -> AsyncIterator[Listener]:
    def route(head: RequestHead) -> RecordingEndpoint | None:
        return endpoint if head.path == "/somewhere" else None

    settings = {"bind": ("127.0.0.1:0",), **settings}
    app = App()
    hypercorn = HypercornHandoff(app, Config())  # type: ignore[arg-type]
    http = PlainHttp(app, hypercorn, Settings(**settings)) if plain else hypercorn  # type: ignore[arg-type]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(http.run)
            yield await nursery.start(partial(serve, Settings(**settings), route, http))
            nursery.cancel_scope.cancel()


async def dial(listener: Listener, *, tls: bool = False) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(listener))
    if tls:
        return trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)
    return stream


async def head_of_answer(stream: trio.abc.Stream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65_536)
        assert more, data
        data += bytes(more)
    return data


@pytest.mark.parametrize(("tls", "plain"), [(False, True), (False, False), (True, False)])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_websocket_after_requests(tls: bool, plain: bool, pieces: int) -> None:
    endpoint = RecordingEndpoint()
    settings: dict[str, Any] = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    async with serving(endpoint, plain=plain, **settings) as listener, await dial(listener, tls=tls) as stream:
        for _ in range(2):
            await ask(stream, GET)
        size = len(UPGRADE) // pieces + 1
        for start in range(0, len(UPGRADE), size):
            await stream.send_all(UPGRADE[start : start + size])
            await trio.sleep(0.01)
        assert (await head_of_answer(stream)).startswith(b"HTTP/1.1 101 ")
        await stream.send_all(client_frame(TEXT, b"hello"))
        [receiver] = endpoint.recordings
        await until(lambda: bool(receiver.messages))
        assert receiver.messages == ["hello"]
        assert listener.statistics().streams == 1


async def test_after_a_request_with_a_body() -> None:
    endpoint = RecordingEndpoint()
    async with serving(endpoint) as listener, await dial(listener) as stream:
        await ask(stream, b"POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
        await stream.send_all(UPGRADE)
        assert (await head_of_answer(stream)).startswith(b"HTTP/1.1 101 ")


async def test_what_looks_like_a_handshake_within_a_body_is_a_body() -> None:
    endpoint = RecordingEndpoint()
    async with serving(endpoint) as listener, await dial(listener) as stream:
        await ask(stream, GET)
        length = 10 + len(UPGRADE)
        await stream.send_all(b"POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length)
        await trio.sleep(0.05)
        await stream.send_all(bytes(10))
        await trio.sleep(0.05)
        await stream.send_all(UPGRADE)
        assert await answer(stream) == {"path": "/in", "length": length}
        assert not endpoint.recordings


async def test_requests_for_others_and_malformed_ones_are_answered_as_ever() -> None:
    endpoint = RecordingEndpoint()
    async with serving(endpoint) as listener:
        async with await dial(listener) as stream:
            await ask(stream, GET)
            await stream.send_all(b"GET /bad\r\nupgrade: websocket\r\n\r\n")
            assert (await head_of_answer(stream)).startswith(b"HTTP/1.1 400 ")
        async with await dial(listener) as stream:
            await ask(stream, GET)
            assert await ask(stream, GET.replace(b"\r\n\r\n", b"\r\nUpgrade: x\r\n\r\n")) == {
                "path": "/page",
                "length": 0,
            }
        async with await dial(listener) as stream:
            await ask(stream, GET)
            await stream.send_all(UPGRADE.replace(b"13", b"12"))
            assert (await head_of_answer(stream)).startswith(b"HTTP/1.1 426 ")
        assert not endpoint.recordings


async def test_a_client_that_leaves_in_the_middle_of_a_head_is_gone() -> None:
    endpoint = RecordingEndpoint()
    async with serving(endpoint) as listener:
        async with await dial(listener) as stream:
            await ask(stream, GET)
            await stream.send_all(UPGRADE[:20])
        await until(lambda: not listener.statistics().streams)
        assert not endpoint.recordings


async def test_a_body_that_comes_before_the_application_is_called_is_no_head() -> None:
    ours, theirs = memory_stream_pair()
    stream = ReplayStream(ours, b"", 5)
    app: Any = None
    stream.exchange = Exchange(app)
    stream.exchange._ending = True  # the request before it was answered
    stream.wanted = lambda head: False
    stream.head_bytes_max = 1_000
    head = b"POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    with trio.fail_after(5):
        await theirs.send_all(head)
        assert await stream.receive_some() == head
        await theirs.send_all(b"{}")
        assert await stream.receive_some() == b"{}"
