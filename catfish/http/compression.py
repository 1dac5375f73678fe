"""Larger texts over HTTP are compressed for those who take gzip (RFC 9110 section 12.5.3).

Answers that are not to be stored are left alone: these are the ones with tokens in them, and a compressed answer that
holds a secret beside something that the asker chose gives the secret away by its length (BREACH). Long polling does not
come through here.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import trio

from catfish.http.asgi import App, Message, Receive, Scope, Send

TYPES: Final = ("application/json", "application/javascript", "application/manifest+json", "image/svg+xml", "text/")
LEVEL: Final = 5
GZIP_WBITS: Final = 31
INLINE_BYTES_MAX: Final = 65_536
"""A longer body is compressed in a thread: meanwhile others have their turn."""


class Compressed:
    """An ASGI application in front of another.

    Args:
        bytes_min: shorter bodies are sent as they are.
    """

    def __init__(self, app: App, bytes_min: int) -> None:
        self._app = app
        self._bytes_min = bytes_min

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "HEAD":
            await self._app(scope, receive, send)
        else:
            answer = _Answer(send, self._bytes_min, takes_gzip=_takes_gzip(scope))
            await self._app(scope, receive, answer.send)


class _Answer:
    """One answer on its way. The head waits for the first piece of the body, which tells how it goes on."""

    def __init__(self, send: Send, bytes_min: int, *, takes_gzip: bool) -> None:
        self._send = send
        self._bytes_min = bytes_min
        self._takes_gzip = takes_gzip
        self._start: Message | None = None
        self._compressor: Any = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            body, more = message.get("body", b""), message.get("more_body", False)
            headers = {name.lower(): value for name, value in start["headers"]}
            if self._is_worth_it(start["status"], headers, body, more=more):
                start["headers"] = [*start["headers"], (b"vary", b"Accept-Encoding")]
                if self._takes_gzip:
                    await self._send_compressed(start, message, body, more=more)
                    return
            await self._send(start)
        elif self._compressor is not None:
            message = await self._compress(message)
        await self._send(message)

    def _is_worth_it(self, status: int, headers: dict[bytes, bytes], body: bytes, *, more: bool) -> bool:
        size = int(headers.get(b"content-length", b"0")) if more else len(body)
        return (
            200 <= status < 300
            and status != 206
            and size >= self._bytes_min
            and headers.get(b"content-type", b"").decode("latin-1").startswith(TYPES)
            and b"content-encoding" not in headers
            and b"no-store" not in headers.get(b"cache-control", b"")
        )

    async def _send_compressed(self, start: Message, message: Message, body: bytes, *, more: bool) -> None:
        self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_WBITS)
        message = await self._compress(message)
        kept = []
        for name, value in start["headers"]:
            if name.lower() == b"etag" and not value.startswith(b"W/"):
                kept.append((name, b"W/" + value))  # not the same bytes any more (RFC 9110 section 8.8.1)
            elif name.lower() != b"content-length":
                kept.append((name, value))
        if not more:
            kept.append((b"content-length", b"%d" % len(message["body"])))
        start["headers"] = [*kept, (b"content-encoding", b"gzip")]
        await self._send(start)
        await self._send(message)

    async def _compress(self, message: Message) -> Message:
        body, more = message.get("body", b""), message.get("more_body", False)

        def compress() -> bytes:
            data: bytes = self._compressor.compress(body)
            return data if more else data + self._compressor.flush()

        data = await trio.to_thread.run_sync(compress) if len(body) > INLINE_BYTES_MAX else compress()
        return {**message, "body": data}


def _takes_gzip(scope: Scope) -> bool:
    fields = (value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-encoding")
    chosen: dict[str, str] = {}
    for each in ",".join(fields).split(","):
        name, _, parameters = each.partition(";")
        chosen[name.strip().lower()] = parameters.replace(" ", "").lower()
    weight = chosen.get("gzip", chosen.get("x-gzip", chosen.get("*", "q=0")))
    return weight not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
