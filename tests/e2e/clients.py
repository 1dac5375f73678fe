"""The native protocol over WebSocket clients that are not ours: `websockets` (its own frames, in a thread) and
trio-websocket (wsproto's frames)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import trio
import trio_websocket
import websockets.sync.client

HANDSHAKE_S = 10.0
LOST = (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, trio.TooSlowError, OSError)
"""What a client gets from a server that goes away."""


class Pipe(Protocol):
    """Messages either way."""

    async def send(self, message: str | bytes) -> None: ...

    async def receive(self) -> str | bytes: ...


class TrioWebsocketPipe:
    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        await self._connection.send_message(message)

    async def receive(self) -> str | bytes:
        message: str | bytes = await self._connection.get_message()
        return message


class WebsocketsPipe:
    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        await trio.to_thread.run_sync(self._connection.send, message)

    async def receive(self) -> str | bytes:
        while True:
            # In slices, so that a cancelled test does not wait for a message that never comes.
            try:
                message: str | bytes = await trio.to_thread.run_sync(self._connection.recv, 0.2)
            except TimeoutError:
                continue
            return message


class Talker:
    """A client: requests are answered, events are collected."""

    def __init__(self, pipe: Pipe, *, binary: bool) -> None:
        self._pipe = pipe
        self._encode: Callable[[Any], Any] = (
            msgspec.msgpack.encode if binary else lambda value: msgspec.json.encode(value).decode()
        )
        self._decode: Callable[[Any], Any] = msgspec.msgpack.decode if binary else msgspec.json.decode
        self._next_id = 0
        self._answers: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._send_events, self.events = trio.open_memory_channel[tuple[str, Any]](math.inf)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            envelope = self._decode(await self._pipe.receive())
            if isinstance(envelope[0], int):
                answered, answer = self._answers.pop(envelope[0])
                answer += envelope[1:]
                answered.set()
            else:
                self._send_events.send_nowait((envelope[0], envelope[1]))

    async def ask(self, event: str, data: Any) -> Any:
        """What the request is answered; a refusal is an AssertionError."""
        self._next_id += 1
        answered = trio.Event()
        answer: list[Any] = []
        self._answers[self._next_id] = answered, answer
        await self._pipe.send(self._encode([event, data, self._next_id]))
        await answered.wait()
        assert len(answer) == 1, answer
        return answer[0]

    async def hear(self, name: str) -> Any:
        """Data of the next event of that name; others before it are dropped."""
        async for event, data in self.events:
            if event == name:
                return data
        raise AssertionError("the connection has ended")


@asynccontextmanager
async def open_trio_websocket(url: str, subprotocol: str | None) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    address = urlsplit(url)
    stream = await trio.open_tcp_stream(str(address.hostname), address.port or 80)
    # The library forgets its socket when the connection is reset, so it is closed here.
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(HANDSHAKE_S):  # it also waits for ever when the server dies during the handshake
            connection = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                address.netloc,
                f"{address.path}?{address.query}" if address.query else address.path,
                subprotocols=None if subprotocol is None else [subprotocol],
            )
        yield connection
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def talk_by_trio_websocket(url: str, *, binary: bool) -> AsyncIterator[Talker]:
    subprotocol = f"catfish.v1.{'msgpack' if binary else 'json'}"
    async with open_trio_websocket(url, subprotocol) as connection, trio.open_nursery() as nursery:
        talker = Talker(TrioWebsocketPipe(connection), binary=binary)
        await nursery.start(talker.run)
        yield talker
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def talk_by_websockets(url: str, *, binary: bool) -> AsyncIterator[Talker]:
    subprotocol: Any = f"catfish.v1.{'msgpack' if binary else 'json'}"
    manager = await trio.to_thread.run_sync(
        lambda: websockets.sync.client.connect(url, subprotocols=[subprotocol], compression="deflate")
    )
    connection = await trio.to_thread.run_sync(manager.__enter__)
    try:
        async with trio.open_nursery() as nursery:
            talker = Talker(WebsocketsPipe(connection), binary=binary)
            await nursery.start(talker.run)
            yield talker
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)
