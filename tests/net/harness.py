"""Connections without a listener: a gate with everything that it needs, and peers of every kind of stream.

    site = await start_site(driver, RecordingEndpoint())
    peer = await site.connect()
    await peer.send(client_frame(TEXT, b"hello"))
    assert await peer.frame() == (TEXT, b"hello")

Four drivers: `hub` (a socket pair and the epoll object), `memory`, `lockstep` (a write waits for the reader) and `tls`.
A socket pair delivers within the call that writes, so virtual time works with all of them.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from catfish.config import Settings
from catfish.errors import Close
from catfish.net.connection import Connection
from catfish.net.connections import Connections
from catfish.net.flusher import Flusher
from catfish.net.gate import Gate
from catfish.net.handoff import ReplayStream
from catfish.net.hub import AVAILABLE, Hub
from catfish.net.plain_stream import PlainStream
from catfish.net.watch import Watch
from catfish.wire.http import HttpRefusal, RequestHead

TLS_FILES: Final = Path(__file__).parent / "tls"
CERTIFICATE: Final = TLS_FILES / "localhost.pem"
KEY: Final = TLS_FILES / "localhost.key"

HUB: Final = pytest.param("hub", marks=pytest.mark.skipif(not AVAILABLE, reason="there is no epoll on this platform"))
DRIVERS: Final = (HUB, "memory", "lockstep", "tls")
EACH_DRIVER: Final = pytest.mark.parametrize("driver", DRIVERS)
BUFFERED_DRIVERS: Final = (HUB, "memory", "tls")
"""Those where a peer may write without the server reading."""

HANDSHAKE: Final = (
    b"GET /somewhere HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OFFER_DEFLATE: Final = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


class StartSite(Protocol):
    """The fixture `start_site`."""

    async def __call__(self, driver: str, endpoint: RecordingEndpoint | None = None, **settings: Any) -> Site: ...


class Recording:
    """A receiver that remembers; what else it does is up to the test."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages: list[str | bytes] = []
        self.closes: list[Close] = []
        self.was_closed = trio.Event()
        self.run_ended = False
        self.on_message: Callable[[str | bytes], object] = lambda message: None
        self.on_closed: Callable[[Close], object] = lambda close: None
        self.work: Callable[[], Any] | None = None

    def receive(self, message: str | bytes) -> None:
        assert not self.closes
        self.messages.append(message)
        self.on_message(message)

    def closed(self, close: Close) -> None:
        self.closes.append(close)
        self.was_closed.set()
        self.on_closed(close)

    async def run(self) -> None:
        try:
            if self.work is not None:
                await self.work()
        finally:
            self.run_ended = True


class RecordingEndpoint:
    """Makes recordings. `prepare` sees each before its connection begins."""

    subprotocols: Sequence[str] = ("one", "two")

    def __init__(self, prepare: Callable[[Recording], object] = lambda recording: None) -> None:
        self.heartbeat = True
        self.message_bytes_max = 100_000
        self.recordings: list[Recording] = []
        self.refusal: Exception | None = None
        self._prepare = prepare

    @property
    def recording(self) -> Recording:
        """That of the latest connection."""
        return self.recordings[-1]

    def check(self, head: RequestHead, address: str) -> None:
        if self.refusal is not None:
            raise self.refusal

    def open(self, connection: Connection) -> Recording:
        recording = Recording(connection)
        self.recordings.append(recording)
        self._prepare(recording)
        return recording


class Peer:
    """The other side of one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.answer = b""
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def frame(self) -> tuple[int, bytes]:
        """The server's next frame: first byte without FIN, and payload."""
        await self._fill(2)
        assert self._buffer[0] & 0x80, "the server never fragments"
        assert not self._buffer[1] & 0x80, "the server never masks"
        length, start = self._buffer[1], 2
        if length == 126:
            start = 4
            await self._fill(start)
            length = int.from_bytes(self._buffer[2:4], "big")
        elif length == 127:
            start = 10
            await self._fill(start)
            length = int.from_bytes(self._buffer[2:10], "big")
        await self._fill(start + length)
        first, payload = self._buffer[0] & 0x7F, self._buffer[start : start + length]
        self._buffer = self._buffer[start + length :]
        return first, payload

    async def close_frame(self) -> tuple[int, str]:
        """The server's next frame, which is a close frame: its code and reason."""
        opcode, payload = await self.frame()
        assert opcode == 8, f"opcode {opcode} with {payload[:40]!r}"
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def rest(self) -> bytes:
        """Everything until the end of file (or the reset)."""
        data = self._buffer
        self._buffer = b""
        try:
            while more := await self.stream.receive_some(65_536):
                data += more
        except trio.BrokenResourceError:
            pass
        return data

    async def reads_answer(self) -> bytes:
        """The head of the answer to a handshake."""
        while b"\r\n\r\n" not in self._buffer:
            await self._fill(len(self._buffer) + 1)
        self.answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return self.answer

    async def end(self) -> None:
        """Send nothing more, but go on reading, where that is possible."""
        if isinstance(self.stream, trio.abc.HalfCloseableStream):
            await self.stream.send_eof()

    async def leave(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data = await self.stream.receive_some(65_536)
            if not data:
                raise EOFError(f"the stream ends after {self._buffer[:80]!r}")
            self._buffer += data


class Site:
    """A gate, and what a listener would give it."""

    def __init__(self, nursery: trio.Nursery, driver: str, endpoint: RecordingEndpoint, settings: Settings) -> None:
        self.nursery = nursery
        self.driver = driver
        self.endpoint = endpoint
        self.connections = Connections()
        self.flusher = Flusher()
        self.watch = Watch(settings)
        self.hub = Hub(self.flusher, settings.read_bytes_per_turn) if driver == "hub" else None
        self.http_requests: list[bytes] = []
        self.gate = Gate(
            settings,
            router=self.route,
            http_handler=self.serve_http,
            connections=self.connections,
            flusher=self.flusher,
            watch=self.watch,
            hub=self.hub,
        )
        self.streams: list[trio.abc.Stream] = []
        """The server's ends, in the order in which they were dialled."""
        self.peers: list[Peer] = []

    async def start(self) -> None:
        await self.nursery.start(self.flusher.run)
        await self.nursery.start(self.watch.run)
        if self.hub is not None:
            await self.nursery.start(self.hub.run)

    async def close(self) -> None:
        """After its nursery has ended."""
        assert len(self.connections) == 0
        for peer in self.peers:
            await peer.leave()
        if self.hub is not None:
            assert self.hub.statistics().connections == 0
            self.hub.close()

    def route(self, head: RequestHead) -> RecordingEndpoint | None:
        return None if head.path == "/elsewhere" else self.endpoint

    async def serve_http(self, stream: ReplayStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(100)
        self.http_requests.append(data)
        await stream.send_all(HttpRefusal(404, "Nothing.").response())

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        while len(self.connections):
            await self.connections._empty.park()

    async def dial(self) -> Peer:
        """A stream that the server has accepted."""
        server, client = await self._pair()
        self.streams.append(server)
        self.nursery.start_soon(self.gate.admit, server, "192.0.2.1:1234")
        self.peers.append(Peer(client))
        return self.peers[-1]

    async def connect(self, extra: bytes = b"") -> Peer:
        """A connection whose handshake is done."""
        peer = await self.dial()
        await peer.send(HANDSHAKE + extra + b"\r\n")
        answer = await peer.reads_answer()
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return peer

    async def _pair(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        match self.driver:
            case "hub":
                ours, theirs = socket.socketpair()
                for sock in (ours, theirs):
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
                return PlainStream(ours), PlainStream(theirs)
            case "memory":
                return memory_stream_pair()
            case "lockstep":
                return lockstep_stream_pair()
        ours_plain, theirs_plain = memory_stream_pair()
        ours_tls = trio.SSLStream(ours_plain, server_context(), server_side=True, https_compatible=True)
        theirs_tls = trio.SSLStream(theirs_plain, client_context(), server_hostname="localhost", https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours_tls.do_handshake)
            nursery.start_soon(theirs_tls.do_handshake)
        return ours_tls, theirs_tls


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd").iterdir()))
