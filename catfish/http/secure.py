"""Header fields by which browsers are told to be careful, on every answer over HTTP.

A route that wants another value sets the field itself, as pages do with their Content Security Policy; what is set
stays.
"""

from __future__ import annotations

from typing import Final

from catfish.config import Settings
from catfish.http.asgi import App, Message, Receive, Scope, Send
from catfish.server.origins import LOCAL_HOSTS

FIELDS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # Of an answer that is no page nothing is ever to be run or framed, should a browser show it as one.
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)
HSTS: Final = b"strict-transport-security"


class Secure:
    """An ASGI application around all others. Who came by HTTPS, to us or to a trusted proxy, is told to keep to it
    (RFC 6797), unless the server was called `localhost`: that name is used for many servers, and is no risk."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._hsts = (HSTS, b"max-age=%d" % settings.hsts_s) if settings.hsts_s else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added: tuple[tuple[bytes, bytes], ...] = FIELDS
        if self._hsts is not None and scope.get("scheme") == "https" and not _is_local(scope):
            added = (*FIELDS, self._hsts)

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *(field for field in added if field[0] not in there)]
            await send(message)

        await self._app(scope, receive, send_secured)


def _is_local(scope: Scope) -> bool:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() in LOCAL_HOSTS
