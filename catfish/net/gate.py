"""What happens to an accepted stream until it is a WebSocket connection or somebody else's.

    accepted -> head read under a deadline and a limit -> upgrade, and the router knows where to?
                      |                                        | yes: handshake -> Connection (hub or stream driver)
                      |                                        | no:  HTTP handler, bytes read put back in front
                      +-> another process has to serve it: given away, bytes read and all
                      +-> 400, 408, 431, 503, or what the handshake was refused with; then closed

An answer that is followed by a close is read only if the socket is not reset, and it is reset when it is closed with
bytes unread. So our half is shut down first, and what still comes is thrown away for a while (`refuse`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from catfish.config import Settings
from catfish.net.census import CROWDED, Census
from catfish.net.connection import Connection, Endpoint, Receiver
from catfish.net.connections import Connections
from catfish.net.flusher import Flusher
from catfish.net.handoff import ReplayStream, cut, replaying
from catfish.net.hub import Hub, HubConnection
from catfish.net.neighbours import Neighbours
from catfish.net.plain_stream import PlainStream
from catfish.net.proxies import Proxies
from catfish.net.stream_driver import BROKEN, StreamConnection
from catfish.net.watch import Watch
from catfish.wire.addresses import address_of
from catfish.wire.http import HttpRefusal, RequestHead, find_head_end, parse_request_head
from catfish.wire.websocket.deflate import Inflater
from catfish.wire.websocket.frames import FrameParser
from catfish.wire.websocket.handshake import accept, is_upgrade

log = logging.getLogger(__name__)

Router = Callable[[RequestHead], Endpoint | None]
"""Where an upgrade request leads; None: it is not ours, and goes to the HTTP handler."""

HttpHandler = Callable[[ReplayStream], Awaitable[None]]
"""Serves a stream that is no WebSocket of ours, to its end. It is closed afterwards in any case."""

LINGER_S: Final = 2.0
"""Seconds for which a refused peer is listened to, so that it can read why."""


async def read_head(
    stream: trio.abc.Stream, *, bytes_max: int, timeout_s: float
) -> tuple[RequestHead, bytes, int] | None:
    """Read a request head.

    Returns:
        the head, everything that was read, and how much of it the head is; None when the peer left without a word.

    Raises:
        HttpRefusal: 400 malformed, 408 not complete within `timeout_s`, 431 longer than `bytes_max`.
    """
    data: bytes | bytearray = b""
    end = -1
    try:
        if isinstance(stream, PlainStream):  # most clients send it at once: then nothing has to wait
            try:
                data = stream.receive_nowait(bytes_max)
                end = find_head_end(data)
            except BlockingIOError:
                pass
        if end < 0:
            with trio.move_on_after(timeout_s) as scope:
                data, end = await _read_head_slowly(stream, bytearray(data), bytes_max)
            if scope.cancelled_caught:
                raise HttpRefusal(408, f"The request head took longer than {timeout_s:g} s.")
    except BROKEN:
        return None
    if end > bytes_max:
        raise HttpRefusal(431, f"The request head is longer than {bytes_max} bytes.")
    if end < 0:
        if not data:
            return None
        raise HttpRefusal(400, "The request ends before its head does.")
    return parse_request_head(data[:end]), bytes(data), end


async def _read_head_slowly(stream: trio.abc.Stream, buffer: bytearray, bytes_max: int) -> tuple[bytearray, int]:
    """Read until there is a head, or too much, or nothing more. Returns what was read and where the head ends."""
    while len(buffer) <= bytes_max:
        data = await stream.receive_some(bytes_max)
        if not data:
            return buffer, -1
        start = len(buffer)
        buffer += data
        end = find_head_end(buffer, start)
        if end >= 0:
            return buffer, end
    return buffer, len(buffer)


async def refuse(stream: trio.abc.Stream, response: bytes) -> None:
    """Send an answer, and listen until the peer has closed or `LINGER_S` is over. The caller closes the stream."""
    with trio.move_on_after(LINGER_S):
        try:
            await stream.send_all(response)
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            while await stream.receive_some(65_536):
                pass
        except BROKEN:
            pass  # it left


class Gate:
    """Admits streams. One for a listener.

    Args:
        hub: None where every connection is to be driven as a stream.
        neighbours: other processes that serve the same addresses.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        router: Router,
        http_handler: HttpHandler,
        connections: Connections,
        flusher: Flusher,
        watch: Watch,
        hub: Hub | None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.stopping = False
        """Whether requests are given to neighbours, or else handshakes refused with 503."""
        self._settings = settings
        self.proxies = Proxies(settings)
        self.census = Census(settings, self.proxies)
        self._router = router
        self._http_handler = http_handler
        self._connections = connections
        self._flusher = flusher
        self._watch = watch
        self._hub = hub
        self._neighbours = neighbours
        self._given: set[trio.abc.Stream] = set()
        self._arriving = 0
        self._settled = trio.lowlevel.ParkingLot()
        self.refused: Counter[int] = Counter()
        """Requests and handshakes that were refused here, by status."""
        self._http_streams: set[ReplayStream] = set()
        self._http_idle = trio.lowlevel.ParkingLot()

    async def admit(self, stream: trio.abc.Stream, peer: str, read: bytes = b"") -> None:
        """The life of one accepted stream. Closes it; raises nothing that is the peer's fault or an application's.

        `read`: what a neighbour that gave us the stream has read from it, a whole request head at least.
        """
        opened = await self._receive(stream, peer, read)
        if opened is None:
            return
        connection, receiver, early = opened
        del stream, opened  # this frame lives as long as the connection
        seat = self.census.represented(peer, connection.address)
        self.census.enter(seat)
        self._connections.add(connection)
        try:
            await connection.run(receiver, early)
        finally:
            self._connections.remove(connection)
            self.census.leave(seat)

    async def turn_away(self, stream: trio.abc.Stream, refusal: HttpRefusal) -> None:
        """Answer one stream too many. Closes it."""
        self.refused[refusal.status] += 1
        try:
            await refuse(stream, refusal.response())
        finally:
            await trio.aclose_forcefully(stream)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While it is not known yet what a stream is for."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._settled.unpark_all()

    @property
    def http_count(self) -> int:
        """Streams that the HTTP handler serves."""
        return len(self._http_streams)

    async def settled(self) -> None:
        """Wait until it is known what each accepted stream is for."""
        while self._arriving:
            await self._settled.park()

    async def http_ended(self) -> None:
        """Wait until the HTTP handler serves nothing."""
        while self._http_streams:
            await self._http_idle.park()

    def cut_http(self) -> int:
        """Close the raw sockets of what the HTTP handler still serves, and of what only passes through here on its way
        to a neighbour. Returns how many the HTTP handler had."""
        for given in tuple(self._given):
            cut(given)
        streams = tuple(self._http_streams)
        for stream in streams:
            stream.cut()
        return len(streams)

    async def _receive(
        self, stream: trio.abc.Stream, peer: str, data: bytes
    ) -> tuple[Connection, Receiver, bytes] | None:
        """Read the request and do what it asks for; what it opened is returned, anything else is over afterwards."""
        keeps = False
        given = bool(data)
        try:
            while True:
                arrived = await self._arrive(stream, peer, data, given)
                if arrived is None:
                    return None
                head, data, end = arrived
                endpoint = self._router(head) if is_upgrade(head) else None
                if endpoint is not None and self.stopping:
                    raise HttpRefusal(503, "The server is about to stop.", (("Retry-After", "1"),))
                if endpoint is not None:
                    connection, receiver = self._open(stream, peer, head, endpoint)
                    keeps = True
                    return connection, receiver, data[end:]
                data = await self._hand_off(replaying(stream, data, self._settings.outbox_age_s_max, peer))
                if not data:
                    return None
                given = False
        except HttpRefusal as refusal:
            self.refused[refusal.status] += 1
            log.debug("refused a request", extra={"peer": peer, "status": refusal.status, "why": refusal.text})
            await refuse(stream, refusal.response())
        except Exception:  # the crash boundary: a route's or a handler's fault must not end the listener
            log.exception("serving a request failed", extra={"peer": peer})
            await refuse(stream, HttpRefusal(500, "The server failed to handle the request.").response())
        finally:
            if not keeps:
                await trio.aclose_forcefully(stream)
        return None

    async def _arrive(
        self, stream: trio.abc.Stream, peer: str, data: bytes, given: bool
    ) -> tuple[RequestHead, bytes, int] | None:
        """Read the head of a request, as `read_head`, unless it is in `data` already; None when nothing is to be done
        here. `given`: by a neighbour, so it is not given away again."""
        settings = self._settings
        with self.arriving():
            if data:
                end = find_head_end(data)
                head = parse_request_head(data[:end])
            else:
                read = await read_head(
                    stream, bytes_max=settings.request_head_bytes_max, timeout_s=settings.request_head_timeout_s
                )
                if read is None:
                    return None
                head, data, end = read
            if not given and await self._give_away(stream, head, data, peer):
                return None
        return head, data, end

    async def _give_away(self, stream: trio.abc.Stream, head: RequestHead, data: bytes, peer: str) -> bool:
        """Let the neighbour have it that has to serve it. Returns whether there is one, and it took it."""
        if self._neighbours is None:
            return False
        hand = self._neighbours.taker(head, stream, stopping=self.stopping)
        if hand is None:
            return False
        self._given.add(stream)
        try:
            return await hand(stream, data, peer)
        finally:
            self._given.remove(stream)

    async def _hand_off(self, stream: ReplayStream) -> bytes:
        """Have the HTTP handler serve a stream. What is returned was read for a WebSocket that is asked for on it."""
        stream.wanted = self._is_ours
        stream.head_bytes_max = self._settings.request_head_bytes_max
        self._http_streams.add(stream)
        try:
            await self._http_handler(stream)
        except* BROKEN:
            pass  # the peer left, or `cut_http` closed it
        finally:
            self._http_streams.remove(stream)
            if not self._http_streams:
                self._http_idle.unpark_all()
        return stream.returned

    def _is_ours(self, head: bytes) -> bool:
        if b"upgrade" not in head.lower():
            return False
        try:
            request = parse_request_head(head)
        except HttpRefusal:
            return False  # whoever serves the stream says so
        return is_upgrade(request) and self._router(request) is not None

    def _open(
        self, stream: trio.abc.Stream, peer: str, head: RequestHead, endpoint: Endpoint
    ) -> tuple[Connection, Receiver]:
        settings = self._settings
        accepted = accept(head, subprotocols=endpoint.subprotocols, deflate=settings.deflate)
        address = self.proxies.client(address_of(peer), head.headers)
        if self.census.is_full(self.census.represented(peer, address)):
            raise CROWDED
        endpoint.check(head, address)
        deflate = accepted.deflate
        common = {
            "settings": settings,
            "parser": FrameParser(
                message_bytes_max=endpoint.message_bytes_max,
                fragments_max=settings.fragments_max,
                inflate=None if deflate is None else Inflater(),
            ),
            "head": head,
            "peer": peer,
            "address": address,
            "subprotocol": accepted.subprotocol,
            "compresses": deflate is not None and deflate.compresses,
            "flusher": self._flusher,
            "watch": self._watch,
        }
        connection: Connection
        if self._hub is not None and isinstance(stream, PlainStream):
            connection = HubConnection(self._hub, stream.socket, **common)
        else:
            connection = StreamConnection(stream, **common)
        connection.respond(accepted.response)
        try:
            receiver = endpoint.open(connection)
        except BaseException:
            connection.disown()
            raise
        if endpoint.heartbeat:
            self._watch.add(connection)
        return connection, receiver
