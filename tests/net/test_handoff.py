"""The hand-off to Hypercorn, on real sockets: plain, TLS and Unix; by itself, and with our own loop in front of it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from trio.testing import memory_stream_pair

from catfish.config import Settings
from catfish.errors import GOING_AWAY
from catfish.net.handoff import HypercornHandoff, ReplayStream
from catfish.net.listener import Listener, serve
from catfish.net.plain_http import PlainHttp
from tests.net.harness import CERTIFICATE, KEY, RecordingEndpoint, client_context

BIG = bytes(range(256)) * 80_000
"""20 MB: more than any socket buffer takes."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class App:
    """An ASGI application that says what it was asked."""

    def __init__(self) -> None:
        self.lifespan: list[str] = []
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                self.lifespan.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.scopes.append(scope)
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/fail":
            raise RuntimeError("on purpose")
        answer = BIG if scope["path"] == "/big" else json.dumps({"path": scope["path"], "length": len(body)}).encode()
        length = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})


Handler = HypercornHandoff | PlainHttp
handlers: list[str] = []


@pytest.fixture(params=["hypercorn", "plain"], autouse=True)
def _handler(request: pytest.FixtureRequest) -> None:
    handlers[:] = [request.param]


@asynccontextmanager
async def serving(app: App, **settings: Any) -> AsyncIterator[tuple[Listener, Handler]]:
    hypercorn = HypercornHandoff(app, Config())  # type: ignore[arg-type]
    own: Any = app
    settings.setdefault("bind", ("127.0.0.1:0",))
    handoff = hypercorn if handlers == ["hypercorn"] else PlainHttp(own, hypercorn, Settings(**settings))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(handoff.run)
            listener = await nursery.start(partial(serve, Settings(**settings), route, handoff))
            yield listener, handoff
            nursery.cancel_scope.cancel()


def route(head: Any) -> RecordingEndpoint | None:
    return None


def port_of(listener: Listener) -> int:
    return int(listener.addresses[0].rpartition(":")[2])


async def dial(listener: Listener) -> trio.abc.Stream:
    return await trio.open_tcp_stream("127.0.0.1", port_of(listener))


async def ask(stream: trio.abc.Stream, request: bytes) -> Any:
    await stream.send_all(request)
    return await answer(stream)


async def answer(stream: trio.abc.Stream) -> Any:
    data = b""
    while b"}" not in data:
        more = await stream.receive_some(65_536)
        assert more, data
        data += bytes(more)
    assert data.startswith(b"HTTP/1.1 200 "), data
    return json.loads(data.partition(b"\r\n\r\n")[2])


GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_requests_are_served_one_after_the_other() -> None:
    app = App()
    async with serving(app) as (listener, _):
        assert app.lifespan == ["lifespan.startup"]
        async with await dial(listener) as stream:
            for _ in range(3):
                assert await ask(stream, GET) == {"path": "/page", "length": 0}
        scope = app.scopes[0]
        assert scope["scheme"] == "http"
        assert scope["client"][0] == "127.0.0.1"
        assert scope["server"] == ("127.0.0.1", port_of(listener))
    assert app.lifespan == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_body_may_follow_the_head_at_once_or_later() -> None:
    body = bytes(200_000)
    post = b"POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(App()) as (listener, _):
        async with await dial(listener) as stream:
            assert await ask(stream, post + body) == {"path": "/in", "length": len(body)}
        async with await dial(listener) as stream:
            await stream.send_all(post + body[:10])
            await trio.sleep(0.05)
            assert await ask(stream, body[10:]) == {"path": "/in", "length": len(body)}


async def test_it_works_over_tls() -> None:
    app = App()
    async with serving(app, tls_certificate=CERTIFICATE, tls_key=KEY) as (listener, _):
        assert listener.addresses[0].startswith("https://")
        plain = await dial(listener)
        async with trio.SSLStream(
            plain, client_context(), server_hostname="localhost", https_compatible=True
        ) as stream:
            for _ in range(2):
                assert await ask(stream, GET) == {"path": "/page", "length": 0}
        assert app.scopes[0]["scheme"] == "https"
        assert app.scopes[0]["client"][0] == "127.0.0.1"


async def test_it_works_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    async with serving(App(), bind=(f"unix:{path}",)), await trio.open_unix_socket(path) as stream:
        assert await ask(stream, GET) == {"path": "/page", "length": 0}


async def test_a_fault_of_the_application_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(App()) as (listener, _):
        async with await dial(listener) as stream:
            await stream.send_all(b"GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 500 ")
        async with await dial(listener) as stream:
            assert await ask(stream, GET) == {"path": "/page", "length": 0}


async def test_when_it_terminates_idle_connections_end() -> None:
    async with serving(App()) as (listener, handoff), await dial(listener) as stream:
        await ask(stream, GET)
        listener.stop_accepting()
        await handoff.terminate()
        assert await listener.drain(GOING_AWAY, 10) == 0
        assert await stream.receive_some(1) == b""


@pytest.mark.parametrize("tls", [False, True])
async def test_a_peer_that_stops_reading_is_cut_when_the_grace_is_over(tls: bool) -> None:
    settings: dict[str, Any] = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    async with serving(App(), **settings) as (listener, handoff):
        stream: trio.abc.Stream = await dial(listener)
        if tls:
            stream = trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)
        async with stream:
            await stream.send_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some(1000)
            listener.stop_accepting()
            await handoff.terminate()
            assert await listener.drain(GOING_AWAY, 0.1) == 1
            try:
                while await stream.receive_some(65_536):
                    pass
            except trio.BrokenResourceError:
                pass
            while listener.statistics().streams:
                await trio.testing.wait_all_tasks_blocked()


async def test_a_peer_that_stops_reading_is_given_up_even_if_the_writer_is_shielded(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = ReplayStream(ours, b"", stall_s=30)
    started = trio.current_time()
    with trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"anybody?")
    assert trio.current_time() == started + 30
    assert await theirs.receive_some(100) in (b"", b"anybody?")


async def test_the_replay_comes_first_however_little_is_asked_for() -> None:
    ours, theirs = memory_stream_pair()
    stream = ReplayStream(ours, b"already", stall_s=1)
    await theirs.send_all(b"later")
    assert [await stream.receive_some(3) for _ in range(3)] == [b"alr", b"ead", b"y"]
    assert await stream.receive_some() == b"later"
    await theirs.send_eof()
    assert await stream.receive_some(10) == b""


async def test_the_socket_has_the_addresses_of_the_raw_one() -> None:
    async with serving(App()) as (listener, _), await dial(listener) as stream:
        await stream.send_all(GET)
        await answer(stream)
        [served] = listener._gate._http_streams
        assert served.socket.family == socket.AF_INET
        assert served.socket.getpeername()[0] == "127.0.0.1"
        assert served.socket.getsockname() == ("127.0.0.1", port_of(listener))
        assert not hasattr(served, "do_handshake")
