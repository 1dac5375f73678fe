"""Which Engine.IO server a path leads to, for WebSockets and for HTTP alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from catfish.http.asgi import App, Receive, Scope, Send
from catfish.http.engineio import PollingApp
from catfish.net.connection import Endpoint
from catfish.server.engineio import EngineServer
from catfish.wire.http import RequestHead

Relay = Callable[[Scope, Receive, Send], Awaitable[bool]]
"""Has a polling request answered by another process whose session it is for. Returns False when it is to be answered
here; then nothing was sent."""


class Paths:
    """An ASGI application, and a router for the listener. A slash at the end of a path makes no difference.

    Args:
        engines: by path.
        otherwise: the ASGI application for all other paths; it gets the lifespan, too.
        relay: asked first, where several processes share their addresses.
    """

    def __init__(self, engines: Mapping[str, EngineServer], otherwise: App, relay: Relay | None = None) -> None:
        self._relay = relay
        self._engines = {path.rstrip("/"): engine for path, engine in engines.items()}
        self._polling = {path: PollingApp(engine) for path, engine in self._engines.items()}
        self._otherwise = otherwise

    def endpoint(self, head: RequestHead) -> Endpoint | None:
        """Where an upgrade request leads; None: it is not for an Engine.IO server."""
        return self._engines.get(head.path.rstrip("/"))

    def polls(self, path: str) -> bool:
        """Whether it is a path of long polling."""
        return path.rstrip("/") in self._polling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that is no upgrade."""
        polling = self._polling.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        if polling is not None and self._relay is not None and await self._relay(scope, receive, send):
            return
        await (polling or self._otherwise)(scope, receive, send)
