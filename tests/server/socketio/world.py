"""A Socket.IO server without sockets, on the Engine.IO server of `tests.server.engineio.world`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from catfish.config import Settings
from catfish.server.socketio import Namespace, NamespaceApp, Socket, SocketIOServer
from tests.server.engineio.world import SUITE, WebSocket, World, open_world

__all__ = ("SUITE", "enter", "open_socketio", "suite_namespace")


@asynccontextmanager
async def open_socketio(
    *namespaces: NamespaceApp, parser: Literal["json", "msgpack"] = "json", **settings: Any
) -> AsyncIterator[World]:
    server = SocketIOServer(Settings(**settings), namespaces, parser)
    async with open_world(server, **settings) as world:
        yield world


async def enter(world: World, namespace: str = "/", auth: str = "") -> WebSocket:
    """A WebSocket whose client has entered a namespace."""
    websocket = await world.open_websocket()
    prefix = "" if namespace == "/" else namespace + ","
    await websocket.send(f"40{prefix}{auth}")
    answer = await websocket.receive()
    assert isinstance(answer, str)
    assert answer.startswith(f"40{prefix}{{")
    assert list(json.loads(answer[2 + len(prefix) :])) == ["sid"]
    return websocket


def suite_namespace(name: str = "/") -> Namespace:
    """What the protocol's own test suite asks of a namespace."""
    namespace = Namespace(name)

    @namespace.on_connect
    def connected(socket: Socket) -> None:
        socket.emit("auth", socket.auth)

    @namespace.on("message")
    def message(socket: Socket, *args: Any) -> None:
        socket.emit("message-back", *args)

    @namespace.on("message-with-ack")
    def message_with_ack(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    return namespace
