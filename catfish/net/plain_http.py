"""HTTP/1.1 requests without a body, answered here; everything else is Hypercorn's.

Hypercorn starts several tasks for each request, and that costs more than most answers do. A request that is only a head
needs none: it is read, the application is called, its answer is written, and the next one is read, all in the stream's
one task. The application notices no difference.

    head of a GET, HEAD, DELETE or OPTIONS, without body or upgrade  ->  answered here, then the next request
    an upgrade to a WebSocket of ours                                ->  the stream goes back (`ReplayStream.returned`)
    any other head                                                   ->  Hypercorn gets the stream, for good
    TLS                                                              ->  Hypercorn, from the beginning

Requests that come before the answer to the one before them (pipelining) wait in the buffer, which holds no more than
`request_head_bytes_max` and what one read brought. An idle stream is closed after `http_keep_alive_s`, or when the
server stops; one whose peer does not read, after `outbox_age_s_max` (`ReplayStream`).

Sources: RFC 9112 (framing, persistence), https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from socket import AF_INET, AF_INET6
from typing import Any, Final
from urllib.parse import unquote

import trio

from catfish.config import Settings
from catfish.net.handoff import HypercornHandoff, ReplayStream
from catfish.net.plain_stream import PlainStream
from catfish.net.stream_driver import BROKEN
from catfish.wire.http import HttpRefusal, RequestHead, find_head_end, parse_request_head

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI application."""

METHODS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
WITH_MORE: Final = ("transfer-encoding", "upgrade", "expect", "http2-settings")
"""Fields of requests that are more than their head."""
LINGER_S: Final = 2.0
"""Seconds for a peer to read an answer behind which the stream is closed, and to close it itself."""
FAULT_FIELDS: Final = ((b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff"))
FAULT: Final = b'{"status":"error","code":"internal","message":"A fault of the server; it is in its log."}'
STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode("ascii") for status in HTTPStatus
}


class BadAnswer(Exception):
    """The application does not answer as ASGI and HTTP have it."""


def is_simple(head: RequestHead) -> bool:
    """Whether the request is only this head, and asks for nothing but an answer."""
    headers = head.headers
    return (
        head.method in METHODS
        and head.path.startswith("/")
        and headers.get("content-length", "0") == "0"
        and not any(name in headers for name in WITH_MORE)
    )


class PlainHttp:
    """An HTTP handler for the listener, in front of Hypercorn's; it has the same interface."""

    def __init__(self, app: App, otherwise: HypercornHandoff, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.terminating = False
        self.waiting: set[trio.CancelScope] = set()
        """Around streams that wait for their next request."""
        self._otherwise = otherwise

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The application's lifespan; see `HypercornHandoff.run`."""
        await self._otherwise.run(task_status=task_status)

    async def terminate(self) -> None:
        """The server is about to stop: idle streams end, and others with their next answer."""
        self.terminating = True
        for scope in tuple(self.waiting):
            scope.cancel()
        await self._otherwise.terminate()

    async def __call__(self, stream: ReplayStream) -> None:
        """Serve one stream to its end."""
        plain = stream.plain
        if plain is None:
            await self._otherwise(stream)
            return
        rest = await _Exchange(self, stream, plain).run()
        if rest is None:
            return
        if stream.wanted is not None and stream.wanted(rest[: find_head_end(rest)]):
            stream.returned = rest
            return
        stream.put_back(rest)
        await self._otherwise(stream)


class _Exchange:
    """The requests of one stream, one after the other."""

    def __init__(self, http: PlainHttp, stream: ReplayStream, plain: PlainStream) -> None:
        self._http = http
        self._app = http.app
        self._stream = stream
        self._plain = plain
        self._bytes_max = http.settings.request_head_bytes_max
        self.buffer = stream.take()
        """What was read and not served yet."""
        named = stream.socket
        self._client = _address(named.family, named.getpeername())
        self._server = _address(named.family, named.getsockname())

    async def run(self) -> bytes | None:
        """Serve requests. Returns what was read of one that is not for us, or None when the stream is over."""
        try:
            while True:
                end = find_head_end(self.buffer)
                if end < 0 and not await self._read_head():
                    return None
                end = find_head_end(self.buffer) if end < 0 else end
                if end > self._bytes_max:
                    raise HttpRefusal(431, f"The request head is longer than {self._bytes_max} bytes.")
                head = parse_request_head(self.buffer[:end])
                if not is_simple(head):
                    return self.buffer
                self.buffer = self.buffer[end:]
                if not await self._serve(head):
                    break
                if self.buffer:
                    await trio.lowlevel.checkpoint()  # whoever sends many requests at once waits his turn between them
        except HttpRefusal as refusal:
            await self.write(refusal.response())
        await self._linger()
        return None

    async def _read_head(self) -> bool:
        """Read until there is a head, or too much to be one. Returns False when the stream is over: its peer left, or
        it was idle for too long, or the server stops."""
        settings = self._http.settings
        idle = not self.buffer
        seconds = settings.http_keep_alive_s if idle else settings.request_head_timeout_s
        waiting = self._http.waiting
        deadline = trio.current_time() + seconds
        while len(self.buffer) <= self._bytes_max:
            with trio.CancelScope(deadline=deadline) as scope:
                if idle:
                    if self._http.terminating:
                        scope.cancel()
                    waiting.add(scope)
                try:
                    await trio.lowlevel.wait_readable(self._plain.socket)
                finally:
                    waiting.discard(scope)
            try:
                # Once more also when the time is over: what has come was sent while the stream was open.
                data = self._plain.receive_nowait(65_536)
            except BlockingIOError:
                if not scope.cancelled_caught:
                    continue
                if idle:
                    return False
                raise HttpRefusal(408, f"The request head took longer than {seconds:g} s.") from None
            if not data:
                return False
            start = len(self.buffer)
            self.buffer += data
            if find_head_end(self.buffer, start) >= 0:
                return True
            if idle:
                idle, deadline = False, trio.current_time() + settings.request_head_timeout_s
                seconds = settings.request_head_timeout_s
        raise HttpRefusal(431, f"The request head is longer than {self._bytes_max} bytes.")

    async def _serve(self, head: RequestHead) -> bool:
        """Answer one request. Returns whether another may follow."""
        closes = self._http.terminating or "close" in head.headers.get("connection", "").lower()
        answer = _Answer(self, head.method, closes=closes)
        try:
            await self._app(self._scope(head), answer.receive, answer.send)
            if not (answer.complete or answer.gone):
                raise BadAnswer("it returned before its answer was complete")
        except Exception as error:
            if not answer.started:
                log.exception("serving a request failed", extra={"method": head.method, "path": head.path})
                await answer.fail()
            elif not answer.complete or isinstance(error, BadAnswer):
                log.exception("an answer was not finished", extra={"method": head.method, "path": head.path})
                self._plain.cut()
                return False
        return not (answer.closes or answer.gone)

    def _scope(self, head: RequestHead) -> Message:
        path = head.path
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": path.encode("latin-1"),
            "query_string": head.query.encode("latin-1"),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()],
            "client": self._client,
            "server": self._server,
            "extensions": {},
        }

    async def write(self, data: bytes) -> bool:
        """Write everything. Returns False when the peer is gone."""
        try:
            sent = self._plain.send_nowait(data)
            if sent < len(data):
                await self._stream.send_all(memoryview(data)[sent:])
        except BROKEN:
            return False
        return True

    async def gone(self) -> None:
        """Wait until the peer has left. What it sends meanwhile is for later."""
        while len(self.buffer) <= self._bytes_max:
            try:
                data = await self._plain.receive_some(65_536)
            except BROKEN:
                return
            if not data:
                return
            self.buffer += data
        await trio.sleep_forever()  # too much to read on before the answer

    async def _linger(self) -> None:
        """End our half, and let the peer read: closing with bytes unread would take the answer from it."""
        with trio.move_on_after(LINGER_S):
            try:
                await self._plain.send_eof()
                while await self._plain.receive_some(65_536):
                    pass
            except BROKEN:
                pass


class _Answer:
    """The answer to one request, as the application gives it."""

    __slots__ = (
        "_asked",
        "_chunked",
        "_exchange",
        "_left",
        "_method",
        "_start",
        "closes",
        "complete",
        "gone",
        "started",
    )

    def __init__(self, exchange: _Exchange, method: str, *, closes: bool) -> None:
        self._exchange = exchange
        self._method = method
        self._asked = False
        self._start: Message | None = None
        self._chunked = False
        self._left: int | None = None  # bytes of the body that the answer has announced and not sent
        self.closes = closes
        """Whether the stream ends with this answer."""
        self.started = False
        """Whether anything of it may have been written."""
        self.complete = False
        self.gone = False
        """The peer has left; what is sent is dropped, and may be left out."""

    async def receive(self) -> Message:
        """For the application: the request, which has no body; then, once that is so, that the peer has left."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not (self.complete or self.gone):
            await self._exchange.gone()
            self.gone = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """For the application.

        Raises:
            BadAnswer: that does not follow what was sent before.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
            return
        if kind != "http.response.body" or self._start is None or self.complete:
            raise BadAnswer(f"{kind} at the wrong time")
        body = message.get("body", b"")
        more = message.get("more_body", False)
        data = b"" if self.started else self._head(self._start, None if more else len(body))
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise BadAnswer("the body has another length than it was said to have")
        if self._method == "HEAD" or self._start["status"] in (204, 304):
            pass
        elif not self._chunked:
            data += body
        else:
            if body:
                data += b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                data += b"0\r\n\r\n"
        self.started = True
        self.complete = not more
        if data and not self.gone and not await self._exchange.write(data):
            self.gone = True

    async def fail(self) -> None:
        """The application failed before it answered."""
        self._start, self._left, self.closes = None, None, True
        await self.send({"type": "http.response.start", "status": 500, "headers": FAULT_FIELDS})
        await self.send({"type": "http.response.body", "body": FAULT})

    def _head(self, start: Message, length: int | None) -> bytes:
        """The head of the answer; `length` of the body, if all of it is there.

        Raises:
            BadAnswer: a field would break the head.
        """
        status: int = start["status"]
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d -" % status]
        fields: Iterable[tuple[bytes, bytes]] = start.get("headers", ())
        has_length = has_date = False
        for name, value in fields:
            lines.append(b"%b: %b" % (name, value))
            lowered = name.lower()
            if lowered == b"content-length":
                has_length = True
                if self._method != "HEAD" and status not in (204, 304):
                    self._left = int(value)
            elif lowered == b"connection" and b"close" in value.lower():
                self.closes = True
            elif lowered == b"date":
                has_date = True
        if not has_length and status not in (204, 304) and status >= 200:
            if length is not None:
                lines.append(b"content-length: %d" % length)
            elif self._method != "HEAD":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
        if not has_date:
            lines.append(_date())
        if self.closes:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise BadAnswer("a field has a line break in it")
        return head + b"\r\n\r\n"


_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The field `Date` (RFC 9110 section 6.6.1), made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = now, b"date: " + formatdate(now, usegmt=True).encode("ascii")
    return _dated[1]


def _address(family: int, name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if family in (AF_INET, AF_INET6) else None
