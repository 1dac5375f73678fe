"""Handing an accepted stream to Hypercorn, with what was read from it already put back in front.

Facts found with Hypercorn 0.18: its Trio `TCPServer` needs `receive_some`, `send_all`, `send_eof`, `aclose` and
`.socket`; it takes a stream with `do_handshake` for TLS, and then asks for `selected_alpn_protocol` and
`transport_stream.socket`; its `send_all` is shielded and has no deadline; whoever makes it runs the application's
lifespan, and sets `context.terminated` when idle connections are to end. That closes also a connection that has just
begun, before what was asked is read; so here each connection has a context of its own, which is told once there was a
request. And a connection whose client has left lives until it would have been idle for too long; so its context is told
the same when the end of file is read.

A proxy that keeps its connections (HAProxy, nginx with `keepalive`) may ask for a WebSocket on one that carried
requests before. Hypercorn would speak WebSocket itself then; so a head that comes between two requests is looked at
first, and one that is ours ends Hypercorn's part, while the stream lives on (`ReplayStream.returned`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from socket import AF_INET, AF_INET6, AF_UNIX
from typing import Any, Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from catfish.net.plain_stream import PlainStream
from catfish.wire.addresses import UNIX, address_of
from catfish.wire.http import find_head_end

BODY_HEADERS: Final = frozenset((b"content-length", b"transfer-encoding"))


def transport_of(stream: trio.abc.Stream) -> Any:
    """What a TLS stream speaks over; any other stream itself."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def cut(stream: trio.abc.Stream) -> None:
    """Close the raw socket below at once, whatever is going on with it. A stream without one is left alone."""
    transport = transport_of(stream)
    if isinstance(transport, PlainStream):
        transport.cut()


class NamedSocket:
    """Stands for a socket where its addresses are asked for; the peer's is what a PROXY header or another process said.

    Args:
        peer: `203.0.113.9:1234`, `[2001:db8::1]:1234`, or `unix`, who has no address.
    """

    def __init__(self, sock: Any, peer: str) -> None:
        self._sock = sock
        self._peer = peer
        self.family = AF_UNIX if peer == UNIX else AF_INET6 if peer.startswith("[") else AF_INET

    def getpeername(self) -> Any:
        return "" if self._peer == UNIX else (address_of(self._peer), int(self._peer.rpartition(":")[2]))

    def getsockname(self) -> Any:
        name = self._sock.getsockname()
        return name[:2] if isinstance(name, tuple) else ("localhost", 80)  # a request without Host is for that


class ReplayStream(trio.abc.Stream):
    """A stream that begins with bytes that were read from it before.

    Args:
        stream: owned by this one from now on.
        replay: what `receive_some` gives first.
        stall_s: seconds without progress after which a peer that does not read is given up.
        peer: the name of the other side, which need not be who the socket is connected to.
    """

    def __init__(self, stream: trio.abc.Stream, replay: bytes, stall_s: float, peer: str = UNIX) -> None:
        self._stream = stream
        self._peer = peer
        self._replay = replay
        self._stall_s = stall_s
        self.on_end: Callable[[], Awaitable[None]] | None = None
        """Called when the end of file is read."""
        self.exchange: Exchange | None = None
        """What the requests and answers on this stream have come to."""
        self.wanted: Callable[[bytes], bool] | None = None
        """Whether a request is not for who serves this stream; given its head."""
        self.head_bytes_max = 0
        """Of a head that is looked at."""
        self.returned = b""
        """What was read for a request that is not for who serves this stream, a whole head at least. From then on the
        stream seems to be at its end, and closing it does nothing."""

    @property
    def plain(self) -> PlainStream | None:
        """The stream itself, where it is over a raw socket; what was put in front of it is not in it."""
        return self._stream if isinstance(self._stream, PlainStream) else None

    def take(self) -> bytes:
        """What `receive_some` would give first; it will not any more."""
        data, self._replay = self._replay, b""
        return data

    def put_back(self, data: bytes) -> None:
        """Have `receive_some` give this first."""
        self._replay = data + self._replay

    @property
    def socket(self) -> Any:
        """The raw socket, as far as its addresses go."""
        return NamedSocket(self._transport().socket, self._peer)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The replay first, then what comes."""
        if self._replay:
            await trio.lowlevel.checkpoint()
            data = self._replay if max_bytes is None else self._replay[:max_bytes]
            self._replay = self._replay[len(data) :]
            return data
        data = b"" if self.returned else bytes(await self._stream.receive_some(max_bytes))
        if data and self.wanted is not None and self.exchange is not None and await self.exchange.ended():
            data = await self._sort(data, self.wanted)
            if data:
                self.exchange.begin()
        if not data and self.on_end is not None:
            await self.on_end()
        return data

    async def _sort(self, data: bytes, wanted: Callable[[bytes], bool]) -> bytes:
        """A request begins with `data`: keep it back if it is wanted elsewhere."""
        buffer = bytearray(data)
        while (end := find_head_end(buffer)) < 0 and len(buffer) <= self.head_bytes_max:
            more = await self._stream.receive_some()
            if not more:
                break
            buffer += more
        if end >= 0 and wanted(bytes(buffer[:end])):
            self.returned = bytes(buffer)
            return b""
        return bytes(buffer)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything.

        Raises:
            trio.BrokenResourceError: also when the peer takes nothing for `stall_s`: a caller that shields this call
                from its own cancellation would otherwise wait for ever.
        """
        if self.returned:
            raise trio.BrokenResourceError("the stream is somebody else's")
        with memoryview(data) as view:
            for start in range(0, len(view), 65_536) or (0,):
                with trio.move_on_after(self._stall_s) as scope:
                    await self._stream.send_all(view[start : start + 65_536])
                if scope.cancelled_caught:
                    await trio.aclose_forcefully(self._stream)
                    raise trio.BrokenResourceError(f"the peer took nothing for {self._stall_s:g} s")

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End our half, where the stream can do that."""
        if not self.returned and isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the stream."""
        self._replay = b""
        if self.returned:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._stream.aclose()
        except trio.BrokenResourceError:
            pass  # TLS says goodbye to a peer that has gone

    def cut(self) -> None:
        """Close the raw socket at once, whatever is going on with it."""
        cut(self._stream)

    def _transport(self) -> Any:
        return transport_of(self._stream)


class TlsReplayStream(ReplayStream):
    """The same over TLS: what Hypercorn asks a `trio.SSLStream` for."""

    @property
    def transport_stream(self) -> ReplayStream:
        """Whoever asks wants its `.socket`."""
        return self

    async def do_handshake(self) -> None:
        """It is done."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """The listener offers HTTP/1.1 alone."""
        return "http/1.1"


def replaying(stream: trio.abc.Stream, replay: bytes, stall_s: float, peer: str = UNIX) -> ReplayStream:
    """Wrap a stream, whose handshake is done if it is a TLS one."""
    kind = TlsReplayStream if isinstance(stream, trio.SSLStream) else ReplayStream
    return kind(stream, replay, stall_s, peer)


class HypercornHandoff:
    """An HTTP handler for the listener that lets Hypercorn serve an ASGI application.

    `run` is the application's lifespan: start it before the listener, and cancel it after. `terminate` lets idle
    connections end and answers further requests, the first of a new stream among them, with `Connection: close`.

    Args:
        app: the ASGI application.
        config: Hypercorn's; its binds are of no concern here.
    """

    def __init__(self, app: ASGIFramework, config: Config) -> None:
        self._app = ASGIWrapper(app)
        self._config = copy(config)
        self._contexts: set[StreamContext] = set()
        self._terminating = False
        self._state: LifespanState = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the application, and stop it when cancelled; that takes at most `Config.shutdown_timeout`."""
        lifespan = Lifespan(self._app, self._config, self._state)
        alive = trio.CancelScope(shield=True)  # the application is told to stop; our own cancellation must not reach it

        async def live(task_status: trio.TaskStatus[None]) -> None:
            with alive:
                await lifespan.handle_lifespan(task_status=task_status)

        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(live)
                await lifespan.wait_for_startup()
                task_status.started()
                await trio.sleep_forever()
            finally:
                alive.deadline = trio.current_time() + self._config.shutdown_timeout
                with trio.CancelScope(shield=True, deadline=alive.deadline):
                    await lifespan.wait_for_shutdown()
                alive.cancel()

    async def terminate(self) -> None:
        """The server is about to stop."""
        self._terminating = True
        self._config.keep_alive_max_requests = 0
        for context in tuple(self._contexts):
            await context.end()

    async def __call__(self, stream: ReplayStream) -> None:
        """Serve one stream to its end."""
        context = StreamContext(terminating=self._terminating)
        self._contexts.add(context)
        stream.on_end = context.terminated.set
        exchange = stream.exchange = Exchange(self._app)
        try:
            state = ConnectionState(self._state.copy())
            await TCPServer(exchange, self._config, context, state, stream)  # type: ignore[arg-type]
        finally:
            self._contexts.remove(context)


class Exchange:
    """Requests and answers on one stream, seen from between Hypercorn and the application. It does not pipeline: a
    request that comes before the last one was answered is Hypercorn's."""

    def __init__(self, app: ASGIWrapper) -> None:
        self._app = app
        self._answering = 0
        self._ending = False
        self._torn = False
        self._over = trio.lowlevel.ParkingLot()

    async def ended(self) -> bool:
        """Whether what has come begins a request: the last one was answered, and its whole body was read. The end of
        an answer that is being written is waited for: its reader may be faster than its writer."""
        while self._ending and self._answering:
            await self._over.park()
        return self._ending and not self._torn

    def begin(self) -> None:
        """Hypercorn gets the head of a request. What follows is its body, also before the application is called."""
        self._ending = False

    async def __call__(self, scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        """As `ASGIWrapper`."""
        whole = scope["type"] == "http" and BODY_HEADERS.isdisjoint(name for name, _ in scope["headers"])

        async def receive_too() -> Any:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                whole = True
            return message

        async def send_too(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._ending = True
            await send(message)

        self._torn = self._torn or scope.get("http_version") == "2"  # frames follow, not heads
        self._answering += 1
        self._ending = False
        try:
            await self._app(scope, receive if whole else receive_too, send_too, sync_spawn, call_soon)
        finally:
            self._answering -= 1
            self._torn = self._torn or not whole
            self._over.unpark_all()


class StreamContext(WorkerContext):
    """What one stream is told of the server: that it is about to stop, but not before there was a request."""

    def __init__(self, *, terminating: bool) -> None:
        super().__init__(None)
        self._terminating = terminating
        self._asked = False

    async def mark_request(self) -> None:
        """Hypercorn has read the head of a request."""
        self._asked = True
        if self._terminating:
            await self.terminated.set()

    async def end(self) -> None:
        """The server is about to stop."""
        self._terminating = True
        if self._asked:
            await self.terminated.set()
