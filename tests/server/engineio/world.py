"""An Engine.IO server without sockets: WebSockets on memory streams, polling straight into the ASGI application.

async with open_world(Echo) as world:
    sid = await world.open_polling()
    await world.post("4hello", sid=sid)
    assert (await world.get(sid=sid)).text == "4hello"
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio
from trio.testing import memory_stream_pair

from catfish.config import Settings
from catfish.http.engineio import PollingApp
from catfish.net.connections import Connections
from catfish.net.flusher import Flusher
from catfish.net.gate import Gate
from catfish.net.timers import Timers
from catfish.net.watch import Watch
from catfish.server.engineio import EngineReceiver, EngineServer, Packets, Reason, Session
from tests.wire.peer import client_frame

TEXT, BINARY, CLOSE, PONG = 1, 2, 8, 10
SUITE: Any = {"ping_interval_ms": 300, "ping_timeout_ms": 200}
"""What the protocol's own test suite asks of a server."""


class Echo(EngineReceiver):
    """Sends back what it receives, and remembers what happened."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.received: list[str | bytes] = []
        self.reasons: list[Reason] = []
        self.moves = 0

    def receive(self, message: str | bytes) -> None:
        self.received.append(message)
        self.session.send(message)

    def moved(self) -> None:
        self.moves += 1

    def closed(self, reason: Reason) -> None:
        self.reasons.append(reason)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Request:
    """One HTTP request under way."""

    def __init__(self, app: PollingApp, method: str, query: str, body: bytes, headers: dict[str, str]) -> None:
        self._app = app
        self._scope = {
            "type": "http",
            "method": method,
            "path": "/engine.io/",
            "raw_path": b"/engine.io/",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("203.0.113.9", 1234),
        }
        self._in, self._incoming = trio.open_memory_channel[dict[str, Any]](100)
        self._in.send_nowait({"type": "http.request", "body": body, "more_body": False})
        self._start: dict[str, Any] = {}
        self._body = b""
        self._ended = trio.Event()

    def abort(self) -> None:
        """The client goes away."""
        self._in.send_nowait({"type": "http.disconnect"})

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._incoming.receive, self._send)
        finally:
            self._in.close()
            self._incoming.close()
            self._ended.set()

    async def _send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message["body"]

    @property
    def answered(self) -> bool:
        return bool(self._start)

    async def response(self) -> Response:
        await self._ended.wait()
        assert self._start, "there was no answer"
        headers = {name.decode(): value.decode() for name, value in self._start["headers"]}
        return Response(self._start["status"], headers, self._body)


class WebSocket:
    """A client's WebSocket after its handshake. `receive` gives text, bytes, or None at the end."""

    def __init__(self, stream: trio.abc.Stream, early: bytes) -> None:
        self._stream = stream
        self._buffer = bytearray(early)
        self.close_code: int | None = None

    async def send(self, *messages: str | bytes) -> None:
        """Send messages in one write, so that they come in one pass."""
        frames = [
            client_frame(TEXT, message.encode()) if isinstance(message, str) else client_frame(BINARY, message)
            for message in messages
        ]
        await self._stream.send_all(b"".join(frames))

    async def close(self) -> None:
        await self._stream.send_all(client_frame(CLOSE, b"\x03\xe8"))

    async def cut(self) -> None:
        await self._stream.aclose()

    async def receive(self) -> str | bytes | None:
        if not await self._fill(2):
            return None
        opcode, length = self._buffer[0] & 15, self._buffer[1]
        header = {126: 4, 127: 10}.get(length, 2)
        await self._fill(header)
        if header > 2:
            length = int.from_bytes(self._buffer[2:header], "big")
        await self._fill(header + length)
        payload = bytes(self._buffer[header : header + length])
        del self._buffer[: header + length]
        if opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
            await self._stream.send_all(client_frame(CLOSE, payload[:2]))
            return None
        return payload.decode() if opcode == TEXT else payload

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = await self._stream.receive_some()
            if not data:
                return False
            self._buffer += data
        return True


class World:
    def __init__(self, app: Callable[[Session], EngineReceiver], settings: Settings, nursery: trio.Nursery) -> None:
        self.settings = settings
        self.nursery = nursery
        self.timers = Timers()
        self.engine = EngineServer(settings, self.timers, app)
        self.http = PollingApp(self.engine)
        self.flusher = Flusher()
        self.watch = Watch(settings)
        self.gate = Gate(
            settings,
            router=lambda head: self.engine,
            http_handler=self._no_http,
            connections=Connections(),
            flusher=self.flusher,
            watch=self.watch,
            hub=None,
        )

    async def _no_http(self, stream: object) -> None:
        raise AssertionError("polling goes straight to the application here")

    async def start(self) -> None:
        await self.nursery.start(self.timers.run)
        await self.nursery.start(self.flusher.run)
        await self.nursery.start(self.watch.run)
        await self.nursery.start(self.engine.run)

    # Polling

    def request(
        self, method: str, *, body: bytes = b"", headers: dict[str, str] | None = None, **query: str | None
    ) -> Request:
        """Start a request; parameters that are None are left out."""
        fields = {"EIO": "4", "transport": "polling", **query}
        text = urlencode({name: value for name, value in fields.items() if value is not None})
        request = Request(self.http, method, text, body, headers or {})
        self.nursery.start_soon(request.run)
        return request

    async def get(self, **query: Any) -> Response:
        return await self.request("GET", **query).response()

    async def post(self, body: str | bytes, **query: Any) -> Response:
        data = body.encode() if isinstance(body, str) else body
        return await self.request("POST", body=data, **query).response()

    async def open_polling(self) -> str:
        sid = json.loads((await self.get()).text[1:])["sid"]
        assert isinstance(sid, str)
        return sid

    # WebSocket

    async def upgrade(
        self, *, headers: dict[str, str] | None = None, **query: str | None
    ) -> tuple[int, bytes, trio.abc.Stream]:
        """Ask for a WebSocket: the status, what followed the head of the answer, and the stream."""
        fields = {"EIO": "4", "transport": "websocket", **query}
        text = urlencode({name: value for name, value in fields.items() if value is not None})
        client, server = memory_stream_pair()
        self.nursery.start_soon(self.gate.admit, server, "203.0.113.9:1234")
        lines = [
            f"GET /engine.io/?{text} HTTP/1.1",
            "Host: catfish.test",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        await client.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await client.receive_some()
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 101:
            while data := await client.receive_some():
                rest += data
            await client.aclose()
        return status, rest, client

    async def websocket(self, *, headers: dict[str, str] | None = None, **query: str | None) -> WebSocket:
        status, early, stream = await self.upgrade(headers=headers, **query)
        assert status == 101
        return WebSocket(stream, early)

    async def open_websocket(self) -> WebSocket:
        websocket = await self.websocket()
        opened = await websocket.receive()
        assert isinstance(opened, str)
        assert opened.startswith("0")
        return websocket

    def packets(self, text: str) -> Packets:
        return self.engine.packets(text.encode())


@asynccontextmanager
async def open_world(app: Callable[[Session], EngineReceiver] = Echo, **settings: Any) -> AsyncIterator[World]:
    """A running server; everything in it ends with the block."""
    async with trio.open_nursery() as nursery:
        world = World(app, Settings(**settings), nursery)
        await world.start()
        yield world
        nursery.cancel_scope.cancel()
