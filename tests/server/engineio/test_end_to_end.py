"""Over TCP, with Hypercorn in between, and with a client that is not ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from engineio import Client  # type: ignore[import-untyped]

from catfish.config import Settings
from catfish.http.standalone import serve_apps
from catfish.server.engineio import EngineReceiver, Session
from tests.server.engineio.world import Echo


@asynccontextmanager
async def open_server(app: Callable[[Session], EngineReceiver] = Echo, **settings: Any) -> AsyncIterator[str]:
    """A server on a port of the kernel's choice; its URL."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            effective = Settings(bind=("127.0.0.1:0",), **settings)
            listener = await nursery.start(partial(serve_apps, effective, {"/engine.io": app}))
            yield listener.addresses[0]
            nursery.cancel_scope.cancel()


async def ask(url: str, method: str, query: str, body: bytes = b"") -> tuple[int, bytes]:
    """One HTTP request on a connection of its own."""
    answer = await read_all(await start_asking(url, method, query, body))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content


async def start_asking(url: str, method: str, query: str, body: bytes = b"") -> trio.SocketStream:
    host, port = url.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    head = f"{method} /engine.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return stream


async def read_all(stream: trio.SocketStream) -> bytes:
    answer = b""
    while data := await stream.receive_some():
        answer += data
    await stream.aclose()
    return answer


async def open_polling(url: str) -> str:
    _, content = await ask(url, "GET", "")
    return "&sid=" + str(json.loads(content[1:])["sid"])


async def test_polling_through_hypercorn() -> None:
    async with open_server() as url:
        sid = await open_polling(url)
        assert await ask(url, "POST", sid, "4hé\x1ebAQ==".encode()) == (200, b"ok")
        assert await ask(url, "GET", sid) == (200, "4hé\x1ebAQ==".encode())
        assert (await ask(url, "GET", "&sid=nobody"))[0] == 400
        assert (await ask(url, "PUT", ""))[0] == 400
        assert (await ask(url, "POST", sid, b"x"))[0] == 400


async def test_a_poll_that_the_client_gives_up_ends_the_session() -> None:
    sessions: list[Echo] = []

    def remember(session: Session) -> Echo:
        sessions.append(Echo(session))
        return sessions[-1]

    async with open_server(remember) as url:
        sid = await open_polling(url)
        stream = await start_asking(url, "GET", sid)
        while sessions[0].session._poll is None:
            await trio.lowlevel.checkpoint()
        await stream.aclose()
        while not sessions[0].reasons:
            await trio.lowlevel.checkpoint()
        assert sessions[0].reasons == ["transport error"]
        assert (await ask(url, "GET", sid))[0] == 400


async def test_a_poll_and_a_close_that_are_sent_together_end_each_other() -> None:
    async with open_server() as url:
        for _ in range(20):
            sid = await open_polling(url)
            poll = await start_asking(url, "GET", sid)
            assert await ask(url, "POST", sid, b"1") == (200, b"ok")
            assert (await read_all(poll)).endswith(b"\r\n\r\n6")
            assert (await ask(url, "GET", sid))[0] == 400


async def test_an_unknown_path_is_not_found() -> None:
    async with open_server() as url:
        stream = await trio.open_tcp_stream(*split(url))
        await stream.send_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 404")
        await stream.aclose()


def split(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


class OrderedClient(Client):  # type: ignore[misc]
    """Calls its handlers one after the other; else it starts a thread for each message, and those race."""

    def _trigger_event(self, event: str, *args: object, **kwargs: object) -> object:
        kwargs.pop("run_async", None)
        return super()._trigger_event(event, *args, run_async=False, **kwargs)


class Messages:
    """What a client of `python-engineio`, which has threads, has heard."""

    def __init__(self) -> None:
        self.client = OrderedClient()
        self.heard: list[str | bytes] = []
        self._send, self._receive = trio.open_memory_channel[str | bytes](1000)
        token = trio.lowlevel.current_trio_token()
        self.client.on("message", lambda data: token.run_sync_soon(self._send.send_nowait, data))

    async def next(self, count: int) -> list[str | bytes]:
        return [await self._receive.receive() for _ in range(count)]


@pytest.mark.parametrize(
    ("transports", "transport"),
    [(["polling"], "polling"), (["websocket"], "websocket"), (["polling", "websocket"], "websocket")],
)
async def test_python_engineio_talks_to_it(transports: list[str], transport: str) -> None:
    async with open_server(ping_interval_ms=200, ping_timeout_ms=1000) as url:
        messages = Messages()
        client = messages.client
        await trio.to_thread.run_sync(partial(client.connect, url, transports=transports))
        assert client.transport() == transport
        sent: list[str | bytes] = [*(f"message {number}" for number in range(100)), b"\0\1\2"]
        for each in sent:
            client.send(each)
        assert await messages.next(101) == sent
        await trio.sleep(0.5)  # two heartbeats
        client.send("still here")
        assert await messages.next(1) == ["still here"]
        await trio.to_thread.run_sync(client.disconnect)
