"""Two clients that are not ours, on real sockets: `websockets`, and wsproto through trio-websocket."""

from __future__ import annotations

import random
import ssl
from typing import Any

import pytest
import trio
import trio_websocket
import websockets.exceptions
import websockets.sync.client

from catfish.config import Settings
from catfish.errors import SERVICE_RESTART
from catfish.net.echo import serve_echo
from catfish.net.listener import Listener
from tests.net.harness import CERTIFICATE, KEY, client_context

MESSAGES: list[str | bytes] = ["", "grüß dich", "x" * 125, "x" * 126, "ä" * 40_000, b"", b"\x00\xff", bytes(70_000)]


async def start_echo(nursery: trio.Nursery, **settings: Any) -> Listener:
    async def run(task_status: trio.TaskStatus[Listener]) -> None:
        await serve_echo(Settings(bind=("127.0.0.1:0",), **settings), task_status=task_status)

    listener: Listener = await nursery.start(run)
    return listener


def url_of(listener: Listener) -> str:
    return listener.addresses[0].replace("http", "ws", 1).replace("127.0.0.1", "localhost") + "/any"


def with_websockets(url: str, compression: str | None, context: ssl.SSLContext | None) -> None:
    with websockets.sync.client.connect(url, compression=compression, max_size=None, ssl=context) as client:
        for message in MESSAGES:
            client.send(message)
            assert client.recv(timeout=20) == message
        client.send(["frag", "ment", "ed"])
        assert client.recv(timeout=20) == "fragmented"
        assert client.ping().wait(20)
        for message in MESSAGES:  # all at once
            client.send(message)
        assert [client.recv(timeout=20) for _ in MESSAGES] == MESSAGES
        client.close(4321, "enough")
        assert client.protocol.close_rcvd is not None
        assert client.protocol.close_rcvd.code == 4321


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("tls", [False, True])
async def test_websockets_talks_to_us(compression: str | None, tls: bool, nursery: trio.Nursery) -> None:
    files = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    listener = await start_echo(nursery, deflate_bytes_min=0, **files)
    context = client_context() if tls else None
    with trio.fail_after(60):
        await trio.to_thread.run_sync(with_websockets, url_of(listener), compression, context)
    closes = listener.statistics().connections.closes
    while not closes:
        await trio.testing.wait_all_tasks_blocked(0.01)
        closes = listener.statistics().connections.closes
    assert closes == {4321: 1}


@pytest.mark.parametrize("tls", [False, True])
async def test_trio_websocket_talks_to_us(tls: bool, nursery: trio.Nursery) -> None:
    files = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    listener = await start_echo(nursery, **files)
    with trio.fail_after(60):
        async with trio_websocket.open_websocket_url(
            url_of(listener), ssl_context=client_context() if tls else None
        ) as client:
            for message in MESSAGES:
                await client.send_message(message)
                assert await client.get_message() == message
            await client.ping(b"are you there?")
            await client.aclose(4321, "enough")
        assert client.closed is not None
        assert client.closed.code == 4321


async def test_a_hundred_clients_at_once(nursery: trio.Nursery) -> None:
    listener = await start_echo(nursery)

    async def chat(seed: int) -> None:
        chance = random.Random(seed)
        async with trio_websocket.open_websocket_url(url_of(listener)) as client:
            for _ in range(10):
                message = chance.randbytes(chance.choice((1, 100, 1_000, 30_000)))
                await client.send_message(message)
                assert await client.get_message() == message

    with trio.fail_after(60):
        async with trio.open_nursery() as clients:
            for seed in range(100):
                clients.start_soon(chat, seed)
    assert listener.statistics().connections.opened == 100


async def test_draining_tells_both_why(nursery: trio.Nursery) -> None:
    listener = await start_echo(nursery)
    reasons: list[tuple[int, str]] = []

    def read_with_websockets(url: str) -> None:
        with websockets.sync.client.connect(url) as client:
            try:
                client.recv(timeout=20)
            except websockets.exceptions.ConnectionClosed as error:
                assert error.rcvd is not None
                reasons.append((error.rcvd.code, error.rcvd.reason))

    async def read_with_trio_websocket(url: str) -> None:
        async with trio_websocket.open_websocket_url(url) as client:
            try:
                await client.get_message()
            except trio_websocket.ConnectionClosed as closed:
                assert closed.reason is not None
                reasons.append((closed.reason.code, str(closed.reason.reason)))
        await trio.aclose_forcefully(client._stream)  # it leaves that to us when the server has closed

    with trio.fail_after(30):
        async with trio.open_nursery() as clients:
            clients.start_soon(trio.to_thread.run_sync, read_with_websockets, url_of(listener))
            clients.start_soon(read_with_trio_websocket, url_of(listener))
            while len(listener.connections) < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
            listener.stop_accepting()
            assert await listener.drain(SERVICE_RESTART, 10) == 0
    assert reasons == [(1012, "server restarts")] * 2
