"""Pages of other origins: which may read answers (Fetch standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

from catfish.http.asgi import App, Headers, Receive, Scope, Send, client_of, headers_of
from catfish.server.origins import is_allowed

METHODS: Final = b"GET,HEAD,POST,PUT,PATCH,DELETE"
PREFLIGHT_AGE_S: Final = 600
"""Seconds for which a browser may remember the answer to a preflight request."""
VARY: Final = (b"vary", b"Origin")


def allowing(origin: str) -> Headers:
    """The fields that let a page of that origin read an answer."""
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        VARY,
    ]


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    return method == "OPTIONS" and "access-control-request-method" in headers


def preflight(headers: Mapping[str, str], methods: bytes = METHODS) -> Headers:
    """The fields of an answer to a preflight request, besides those of `allowing`."""
    return [
        (b"access-control-allow-methods", methods),
        (
            b"access-control-allow-headers",
            headers.get("access-control-request-headers", "content-type").encode("latin-1"),
        ),
        (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_S),
    ]


class Cors:
    """An ASGI application in front of another, whose answers pages of allowed origins may read.

    Args:
        origins: allowed besides the server's own and this machine's (`Settings.origins`).
    """

    def __init__(self, app: App, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope) if scope["type"] == "http" else {}
        origin = headers.get("origin")
        if origin is None or not is_allowed(headers, client_of(scope), self._origins):
            await self._app(scope, receive, send)
            return
        allowed = allowing(origin)
        if is_preflight(scope["method"], headers):
            await send(
                {"type": "http.response.start", "status": 204, "headers": [*allowed, *preflight(headers)]},
            )
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_allowed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowed]
            await send(message)

        await self._app(scope, receive, send_allowed)
