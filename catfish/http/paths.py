"""Which Engine.IO server a path leads to, for WebSockets and for HTTP alike."""

from __future__ import annotations

from collections.abc import Mapping

from catfish.http.cors import App, Receive, Scope, Send
from catfish.http.engineio import PollingApp
from catfish.net.connection import Endpoint
from catfish.server.engineio import EngineServer
from catfish.wire.http import RequestHead


class Paths:
    """An ASGI application, and a router for the listener. A slash at the end of a path makes no difference.

    Args:
        engines: by path.
        otherwise: the ASGI application for all other paths; it gets the lifespan, too.
    """

    def __init__(self, engines: Mapping[str, EngineServer], otherwise: App) -> None:
        self._engines = {path.rstrip("/"): engine for path, engine in engines.items()}
        self._polling = {path: PollingApp(engine) for path, engine in self._engines.items()}
        self._otherwise = otherwise

    def endpoint(self, head: RequestHead) -> Endpoint | None:
        """Where an upgrade request leads; None: it is not for an Engine.IO server."""
        return self._engines.get(head.path.rstrip("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that is no upgrade."""
        polling = self._polling.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        await (polling or self._otherwise)(scope, receive, send)
