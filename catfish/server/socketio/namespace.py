"""A namespace with handlers, for applications that do not want to be one themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

from catfish.server.inbox import Work
from catfish.server.socketio.socket import Recovery, Socket
from catfish.wire.socketio import MAIN, RESERVED_EVENTS

F = TypeVar("F", bound=Callable[..., Any])


class _Handler(NamedTuple):
    function: Callable[..., Any]
    arity: int | None
    """Arguments that it takes; what a client leaves out is None, what it adds is dropped. None: it takes all."""


class Namespace:
    """Implements `NamespaceApp`.

        chat = Namespace("/chat")

        @chat.on_connect
        def enter(socket): socket.emit("welcome")

        @chat.on("say")
        def say(socket, text): chat.emit("said", text)

    What a handler returns acknowledges the event, if the client wants that: a tuple is several values, None is none. A
    handler that is a coroutine runs in the connection's own task; what the client sends meanwhile waits.
    """

    def __init__(self, name: str = MAIN, recovery: Recovery | None = None) -> None:
        self.name = name
        self.recovery = recovery
        self.sockets: dict[str, Socket] = {}
        """Who is in, by id."""
        self.unknown = 0
        """Events that nobody handles, which are ignored."""
        self._handlers: dict[str, _Handler] = {}
        self._guard: Callable[[Socket], Coroutine[Any, Any, None] | None] | None = None
        self._on_connect: Callable[[Socket], None] | None = None
        self._on_disconnect: Callable[[Socket, str], None] | None = None

    def on(self, event: str) -> Callable[[F], F]:
        """Decorate the handler of an event: `handler(socket, *args)`, a function or a coroutine function."""
        if event in RESERVED_EVENTS:
            raise ValueError(f"{event!r} is a name that events cannot have")

        def register(function: F) -> F:
            self._handlers[event] = _Handler(function, _count_arguments(function))
            return function

        return register

    def guard(self, function: F) -> F:
        """Decorate what decides who comes in: `guard(socket)`, a function or a coroutine function.

        It raises `ConnectRefused` to refuse a client; nothing may be sent yet.
        """
        self._guard = function
        return function

    def on_connect(self, function: F) -> F:
        """Decorate what is called when a client has come in: `handler(socket)`."""
        self._on_connect = function
        return function

    def on_disconnect(self, function: F) -> F:
        """Decorate what is called when a client has left: `handler(socket, reason)`."""
        self._on_disconnect = function
        return function

    def emit(self, event: str, *args: Any, to: Iterable[Socket] | None = None) -> None:
        """Send an event to everyone, or to some; it is encoded once."""
        sockets = tuple(self.sockets.values() if to is None else to)
        if sockets:
            packets = sockets[0].client.codec.event(event, args, self.name)
            for socket in sockets:
                socket.send(packets)

    # `NamespaceApp`

    def admit(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        def handle(event: str, args: list[Any], id: int | None) -> Work | None:
            return self._handle(socket, event, args, id)

        def end(reason: str) -> None:
            self.sockets.pop(socket.id, None)
            if self._on_disconnect is not None:
                self._on_disconnect(socket, reason)

        socket.handler = handle
        socket.ended = end
        return None if self._guard is None else self._guard(socket)

    def connected(self, socket: Socket) -> None:
        self.sockets[socket.id] = socket
        if self._on_connect is not None:
            self._on_connect(socket)

    # Inside

    def _handle(self, socket: Socket, event: str, args: list[Any], id: int | None) -> Work | None:
        handler = self._handlers.get(event)
        if handler is None:
            self.unknown += 1
            return None
        if handler.arity is not None:
            del args[handler.arity :]
            args += [None] * (handler.arity - len(args))
        result = handler.function(socket, *args)
        if inspect.iscoroutine(result):
            return Work(self._finish(socket, result, id), None)
        _acknowledge(socket, id, result)
        return None

    async def _finish(self, socket: Socket, coroutine: Coroutine[Any, Any, Any], id: int | None) -> None:
        _acknowledge(socket, id, await coroutine)


def _acknowledge(socket: Socket, id: int | None, result: Any) -> None:
    if id is not None:
        socket.ack(id, result if isinstance(result, tuple) else () if result is None else (result,))


def _count_arguments(function: Callable[..., Any]) -> int | None:
    """How many positional arguments it takes behind the socket; None when there is no limit."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters) - 1
