"""Connecting, closing, and who is told what when that fails.

Against a scripted server, over memory streams, in virtual time.
"""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.client import (
    ConnectFailed,
    State,
    connect,
)
from tests.client.fake_server import FakeServer
from tests.client.helpers import URL, next_event, open_client, refuse, swallow


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_a_client_says_hello_and_requests_are_answered(
    autojump_clock: MockClock, server: FakeServer, codec: Any
) -> None:
    async with open_client(server, name="Me", token="secret", codec=codec) as client:
        assert (client.state, client.user, client.name, client.session) == (State.OPEN, "u-me", "Me", "s-1")
        assert server.session.heard == [("hello", {"user": "u-me", "name": "Me", "token": "secret"})]
        assert await client.request("ping", {"any": ["thing"]}) == {"any": ["thing"]}
    assert client.state is State.CLOSED
    await wait_all_tasks_blocked()
    assert server.all_sessions[0].closed == (1000, "bye")


async def test_without_a_user_one_is_drawn_and_kept(autojump_clock: MockClock, server: FakeServer) -> None:
    async with connect(URL, dial=server.dial) as client:
        user = client.user
        assert len(user) > 10
        await server.session.cut()
        await next_event(client, "client:open")
        assert client.user == user


async def test_a_token_can_be_fetched_for_every_connection(autojump_clock: MockClock, server: FakeServer) -> None:
    tokens = iter(["first", "second"])

    async def fetch() -> str:
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async with connect(URL, dial=server.dial, token=fetch) as client:
        await server.session.cut()
        await next_event(client, "client:open")
    assert [session.heard[0][1] for session in server.all_sessions] == [{"token": "first"}, {"token": "second"}]


async def failure(server: FakeServer, **options: Any) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with open_client(server, **options):
            raise AssertionError("it is open")
    return caught.value


async def test_nobody_there_is_said_at_once(autojump_clock: MockClock, server: FakeServer) -> None:
    server.down = True
    error = await failure(server)
    assert "Connection refused" in str(error)
    assert error.close.reconnect
    assert len(server.dialled) == 1


async def test_a_refused_hello_is_said_with_its_code(autojump_clock: MockClock, server: FakeServer) -> None:
    server.handlers["hello"] = refuse("unauthorized")
    error = await failure(server)
    assert error.code == "unauthorized"
    assert not error.close.reconnect


@pytest.mark.parametrize(("status", "reconnect"), [(403, False), (404, False), (503, True), (429, True)])
async def test_a_refused_handshake_is_said_with_its_status_and_text(
    autojump_clock: MockClock, server: FakeServer, status: int, reconnect: bool
) -> None:
    server.http_refusal = (status, b"not this origin", [])
    error = await failure(server)
    assert f"HTTP {status} (not this origin)" in str(error)
    assert error.close.reconnect is reconnect


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\x00\xff" * 40,
        b"HTTP/1.1 101 x",
    ],
    ids=repr,
)
async def test_a_server_that_is_none_is_noticed(autojump_clock: MockClock, server: FakeServer, answer: bytes) -> None:
    server.raw_answer = answer
    begun = trio.current_time()
    assert (await failure(server)).close.code == 1006
    assert trio.current_time() == begun


async def test_a_server_with_another_protocol_is_noticed(autojump_clock: MockClock, server: FakeServer) -> None:
    server.speaks_subprotocols = False
    error = await failure(server)
    assert "does not speak catfish.v1.msgpack" in str(error)
    assert not error.close.reconnect


@pytest.mark.parametrize("silent", ["handshake", "hello"])
async def test_a_server_that_does_not_answer_is_given_up(
    autojump_clock: MockClock, server: FakeServer, silent: str
) -> None:
    server.mute_handshake = silent == "handshake"
    server.handlers["hello"] = swallow
    begun = trio.current_time()
    error = await failure(server)
    assert "within 10 s" in str(error)
    assert trio.current_time() - begun == pytest.approx(10)


async def test_waiting_for_a_connection_can_be_cancelled(autojump_clock: MockClock, server: FakeServer) -> None:
    server.mute_handshake = True
    with trio.move_on_after(1) as patience:
        async with open_client(server):
            raise AssertionError("it is open")
    assert patience.cancelled_caught


@pytest.mark.parametrize("url", ["ftp://x", "ws://", "ws://host:99999", "http://[::1"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        async with connect(url):
            pass


async def test_an_exception_in_the_block_comes_out_as_it_is(autojump_clock: MockClock, server: FakeServer) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_client(server):
            raise KeyError("mine")
    await wait_all_tasks_blocked()
    assert server.session.closed == (1000, "bye")


async def test_goodbye_is_said_even_when_the_block_is_cancelled(autojump_clock: MockClock, server: FakeServer) -> None:
    with trio.move_on_after(1):
        async with open_client(server):
            await trio.sleep_forever()
    await wait_all_tasks_blocked()
    assert server.session.closed == (1000, "bye")


TLS = Path(__file__).parents[1] / "net" / "tls"


async def test_over_tls_the_certificate_is_checked(server: FakeServer, nursery: trio.Nursery) -> None:
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    serve = partial(trio.serve_ssl_over_tcp, server.serve, 0, ours, host="127.0.0.1", https_compatible=True)
    listeners: list[Any] = await nursery.start(serve)
    port = listeners[0].transport_listener.socket.getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(TLS / "localhost.pem"))
    async with connect(f"wss://localhost:{port}", ssl_context=trusting) as client:
        assert await client.request("ping", "over TLS") == "over TLS"
    with pytest.raises(ConnectFailed) as caught:
        async with connect(f"wss://localhost:{port}"):
            pass
    assert "self-signed certificate" in str(caught.value)
    assert not caught.value.close.reconnect
    with pytest.raises(ConnectFailed, match="no connection"):
        async with connect(f"wss://127.0.0.1:{await silent_port(nursery)}"):
            pass
    nursery.cancel_scope.cancel()


async def silent_port(nursery: trio.Nursery) -> int:
    """Where somebody answers who does not speak TLS."""

    async def babble(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 smtp.example ESMTP\r\n" * 10)

    listeners: list[Any] = await nursery.start(partial(trio.serve_tcp, babble, 0, host="127.0.0.1"))
    return int(listeners[0].socket.getsockname()[1])
