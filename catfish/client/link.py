"""One WebSocket connection to a server: envelopes out through one bounded outbox, envelopes in to a function.

Owns every task and every byte of the connection. Only the writer task sends messages: a send that is cancelled half-way
would corrupt the stream, so the writer is cancelled only together with the whole connection.

trio-websocket has three habits that matter here: it waits for ever when the server hangs up before it has answered the
handshake (`_Stream` notices the end), it raises a refused handshake in its reader task, and its `aclose` leaves the
socket open when the server closed first.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import trio
import trio_websocket
import wsproto.utilities
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection

from catfish.errors import CLOSES, NORMAL, Close, PeerError
from catfish.wire.native import JSON, TEXT, Codec, Event, Refusal, Reply

ABNORMAL: Final = 1006
"""RFC 6455 section 7.4.1: there was no close frame."""
NO_STATUS: Final = 1005
_READ_BYTES: Final = 65_536
_KNOWN_CLOSES: Final = {close.code: close for close in CLOSES}
_RETRY_STATUS: Final = frozenset({408, 425, 429})
"""HTTP statuses below 500 after which the same request may succeed later."""

Dial = Callable[[], Awaitable[trio.abc.Stream]]


class Address(NamedTuple):
    """Where a server is."""

    url: str
    host: str
    port: int
    resource: str
    secure: bool = False
    unix_path: str | None = None

    async def dial(self, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
        """Open the stream. Raises OSError."""
        if self.unix_path is not None:
            return await trio.open_unix_socket(self.unix_path)
        if self.secure:
            stream = await trio.open_ssl_over_tcp_stream(
                self.host, self.port, https_compatible=True, ssl_context=ssl_context or ssl.create_default_context()
            )
            try:
                await stream.do_handshake()  # here, so that a bad certificate is told apart from a lost connection
            except BaseException as error:
                await trio.aclose_forcefully(stream)
                if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise
            return stream
        return await trio.open_tcp_stream(self.host, self.port)


def parse_url(url: str) -> Address:
    """Read `ws://HOST:PORT/PATH`, `wss:`, `http:`, `https:`, a bare `HOST:PORT`, or `unix:SOCKET`.

    The path is the server's native one, `/ws`, unless the URL has another. Raises ValueError that says what is wrong.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        return Address(url, "localhost", 80, "/ws", unix_path=path)
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    if parts.scheme not in ("ws", "wss", "http", "https"):
        raise ValueError(f"{url!r}: the scheme must be ws or wss, not {parts.scheme}")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host")
    secure = parts.scheme in ("wss", "https")
    try:
        port = parts.port or (443 if secure else 80)
    except ValueError:
        raise ValueError(f"{url!r}: the port must be a number from 1 to 65535") from None
    resource = (parts.path if parts.path not in ("", "/") else "/ws") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{'wss' if secure else 'ws'}://{host}:{port}{resource}", parts.hostname, port, resource, secure)


class Ended(NamedTuple):
    """How a connection ended, or why there was none."""

    close: Close
    retry_after_s: float | None = None
    """The server's own wish for the next attempt."""
    code: str | None = None
    """Of the refused hello."""


class _Stream(trio.abc.Stream):
    """The stream as it is; besides, when it was last heard of, and that it has ended."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.heard_at = trio.current_time()
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._inner.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if data:
            self.heard_at = trio.current_time()
        else:
            self.ended.set()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


class Link:
    """One attempt to connect, and the connection that comes of it.

    Args:
        dial: opens the stream; raises OSError.
        receive: is called with each envelope, in order, and must not wait; a `PeerError` from it ends the link.
        message_bytes_max: of one message from the server; a larger one ends the link with 1009.
        close_timeout_s: for the server to answer a close frame, and for what is in the outbox before it.
    """

    def __init__(
        self,
        dial: Dial,
        address: Address,
        codec: Codec,
        receive: Callable[[Event | Reply | Refusal], None],
        *,
        message_bytes_max: int,
        close_timeout_s: float,
    ) -> None:
        self.opened = trio.Event()
        """The handshake is done."""
        self.outbox_bytes = 0
        self._dial = dial
        self._address = address
        self._codec = codec
        self._receive = receive
        self._message_bytes_max = message_bytes_max
        self._close_timeout_s = close_timeout_s
        self._outbox: deque[bytes] = deque()
        self._wake = trio.Event()
        self._stream: _Stream | None = None
        self._scope = trio.CancelScope()
        self._ending: Ended | None = None

    @property
    def heard_at(self) -> float:
        """When the last byte came, in Trio's time; minus infinity before there is a stream."""
        return self._stream.heard_at if self._stream is not None else float("-inf")

    def send(self, payload: bytes) -> None:
        """Queue one encoded envelope. Never waits; once the link is ending it is dropped."""
        if self._ending is None:
            self._outbox.append(payload)
            self.outbox_bytes += len(payload)
            self._wake.set()

    def close(self, ended: Ended) -> None:
        """Send what is queued and a close frame, then end. The first word counts."""
        if self._ending is None:
            self._ending = ended
            self._wake.set()
            if not self.opened.is_set():
                self._scope.cancel()

    def abort(self, ended: Ended) -> None:
        """End at once, without a word to the peer."""
        if self._ending is None:
            self._ending = ended
        self._scope.cancel()

    async def run(self) -> Ended:
        """Connect and carry envelopes until the end."""
        ended = None
        with self._scope:
            try:
                self._stream = stream = _Stream(await self._dial())
            except OSError as error:
                trusted = not isinstance(error, ssl.SSLCertVerificationError)
                return Ended(Close(ABNORMAL, f"no connection to {self._address.url}: {_reason(error)}", trusted))
            except trio.BrokenResourceError:
                return Ended(Close(ABNORMAL, f"{self._address.url} hung up during the TLS handshake", True))
            try:
                ended = await self._converse(stream)
            finally:
                await trio.aclose_forcefully(stream)
        return self._ending or ended or Ended(understand_close(ABNORMAL, ""))

    async def _converse(self, stream: _Stream) -> Ended:
        ended = Ended(Close(ABNORMAL, f"{self._address.url} hung up before the WebSocket was open", True))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_handshake, stream, nursery.cancel_scope)
                websocket = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # any stream does
                    self._host_header(),
                    self._address.resource,
                    subprotocols=[self._codec.name],
                    message_queue_size=16,
                    max_message_size=self._message_bytes_max,
                    receive_buffer_size=_READ_BYTES,
                )
                spoken = websocket.subprotocol
                if spoken == self._codec.name or (spoken is None and self._codec is JSON):
                    self.opened.set()
                    nursery.start_soon(self._write, websocket)
                    ended = await self._read(websocket)
                else:
                    ended = Ended(Close(ABNORMAL, f"{self._address.url} does not speak {self._codec.name}", False))
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Before the handshake is done only foreign code runs here, and what it raises is the server's answer.
            expected = wsproto.utilities.ProtocolError if self.opened.is_set() else Exception
            theirs, others = group.split(expected)
            if theirs is None or others is not None:
                raise
            if not self.opened.is_set():
                return _refused(self._address.url, _leaf(theirs))
            return Ended(understand_close(ABNORMAL, ""))
        return ended

    async def _watch_handshake(self, stream: _Stream, scope: trio.CancelScope) -> None:
        await stream.ended.wait()
        if not self.opened.is_set():
            scope.cancel()

    def _host_header(self) -> str:
        host, port = self._address.host, self._address.port
        host = f"[{host}]" if ":" in host else host
        return host if port == (443 if self._address.secure else 80) else f"{host}:{port}"

    async def _read(self, websocket: WebSocketConnection) -> Ended:
        while True:
            try:
                message = await websocket.get_message()
            except ConnectionClosed:
                reason = websocket.closed
                code = reason.code if reason is not None else ABNORMAL
                return self._ending or Ended(understand_close(code, (reason.reason if reason else None) or ""))
            if self._ending is not None:
                continue
            try:
                self._receive(self._codec.decode(message))
            except PeerError as error:
                self.close(Ended(error.close))

    async def _write(self, websocket: WebSocketConnection) -> None:
        try:
            while self._ending is None or self._outbox:
                while self._outbox:
                    payload = self._outbox.popleft()
                    await websocket.send_message(payload.decode() if self._codec.opcode == TEXT else payload)
                    self.outbox_bytes -= len(payload)
                if self._ending is None:
                    self._wake = trio.Event()
                    await self._wake.wait()
        except ConnectionClosed:
            return  # the reader has the reason
        with trio.move_on_after(self._close_timeout_s):
            code = self._ending.close.code
            await websocket.aclose(code if code != ABNORMAL else NORMAL.code, self._ending.close.reason[:120])
        self._scope.cancel()


def understand_close(code: int, reason: str) -> Close:
    """A close code with what it means for coming back. An unknown one, or none, is worth another attempt."""
    known = _KNOWN_CLOSES.get(code)
    if known is not None:
        return known._replace(reason=reason) if reason else known
    return Close(code, reason or ("connection lost" if code in (ABNORMAL, NO_STATUS) else f"closed with {code}"), True)


def _refused(url: str, error: BaseException) -> Ended:
    if not isinstance(error, ConnectionRejected):
        return Ended(Close(ABNORMAL, f"{url} does not answer as a WebSocket server: {error}", False))
    status = error.status_code
    text = (error.body or b"").decode("utf-8", "replace").strip()[:200]
    retry = status >= 500 or status in _RETRY_STATUS
    headers = {name.lower(): value for name, value in error.headers}
    wish = headers.get(b"retry-after", b"").decode("ascii", "replace")
    close = Close(ABNORMAL, f"{url} refused: HTTP {status}" + (f" ({text})" if text else ""), retry)
    return Ended(close, float(wish) if wish.isdecimal() and retry else None)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: OSError) -> str:
    """Trio reports the attempts on several addresses together; one reason is enough."""
    cause: BaseException | None = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = _leaf(cause)
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or cause.reason or str(cause)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno)
    return str(cause)
