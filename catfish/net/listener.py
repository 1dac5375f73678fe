"""Accepting connections, on every address, until told to stop.

`serve` is all that a program needs:

    listener = await nursery.start(serve, settings, router, http_handler)
    ...
    listener.stop_accepting()
    await listener.drain(errors.SERVICE_RESTART, settings.drain_grace_s)
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from catfish.config import Settings
from catfish.errors import PROTOCOL_ERROR, Close, PeerError
from catfish.net import hub as hubs
from catfish.net.binds import Bound, name_of, open_binds
from catfish.net.census import CROWDED
from catfish.net.connections import Connections, ConnectionsStatistics
from catfish.net.flusher import Flusher
from catfish.net.gate import Gate, HttpHandler, Router
from catfish.net.hub import Hub, HubStatistics
from catfish.net.neighbours import Neighbours
from catfish.net.plain_stream import PlainStream
from catfish.net.proxies import read_proxy_header
from catfish.net.stream_driver import BROKEN
from catfish.net.traffic import Traffic
from catfish.net.watch import Watch
from catfish.wire.addresses import address_of
from catfish.wire.http import HttpRefusal

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN: Final = 64
"""Connections accepted before other tasks have their turn."""
OVERLOADED: Final = HttpRefusal(503, "The server has as many connections as it may.", (("Retry-After", "5"),))
REFUSALS_MAX: Final = 256
"""Connections too many that are answered at a time; a further one is just closed."""
ARRIVAL_S: Final = 2.0
"""Seconds for the requests of connections that were accepted just before, and can be given to neighbours."""
BACKOFF_S: Final = 0.1
"""Seconds without accepting after the kernel ran out of descriptors or memory."""

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ONE_CONNECTION_ONLY: Final = frozenset(
    # accept(2): errors of the connection that was to be accepted, not of the listening socket
    {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT}
)


@attrs.frozen
class ListenerStatistics:
    """A listener at this moment, and since its start."""

    addresses: tuple[str, ...]
    accepting: bool
    streams: int
    """Accepted and not closed yet: WebSocket connections, HTTP, and requests being read."""
    accepted: int
    overloaded: int
    """Refused because there were `connections_max` streams."""
    crowded: int
    """Refused because their address had `connections_per_address_max`."""
    unannounced: int
    """Closed because a proxy of `proxy_protocol` sent no proper PROXY header."""
    refused: Mapping[int, int]
    """Requests and handshakes that were refused before they reached an application, by status."""
    http: int
    """Streams that the HTTP handler serves."""
    connections: ConnectionsStatistics
    traffic: Traffic
    """The live counters."""
    hub: HubStatistics | None


class Listener:
    """All addresses of one server and what was accepted on them. Made by `serve`."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        http_handler: HttpHandler,
        bounds: list[Bound],
        neighbours: Neighbours | None,
    ) -> None:
        self.connections = Connections()
        """The WebSocket connections."""
        self._settings = settings
        self._bounds = bounds
        self.addresses = tuple(bound.address for bound in bounds)
        """What is listened on, with the ports that the kernel picked: `http://127.0.0.1:8080`, `unix:/run/it.sock`."""
        self._accepting = trio.CancelScope()
        self._flusher = Flusher()
        self._watch = Watch(settings)
        self._hub = Hub(self._flusher, settings.read_bytes_per_turn) if hubs.AVAILABLE else None
        self._gate = Gate(
            settings,
            router=router,
            http_handler=http_handler,
            connections=self.connections,
            flusher=self._flusher,
            watch=self._watch,
            hub=self._hub,
            neighbours=neighbours,
        )
        self._neighbours = neighbours
        self._nursery: trio.Nursery | None = None  # of the streams
        self._streams = 0
        self._refusals = 0
        self._accepted = 0
        self._overloaded = 0
        self._unannounced = 0
        self._exhausted = False

    def stop_accepting(self) -> None:
        """Close the listening sockets. Those who try to connect are refused by the kernel from now on."""
        self._gate.stopping = True
        self._accepting.cancel()
        if self._neighbours is not None:
            self._neighbours.stopped()
        for bound in self._bounds:
            if bound.sock.fileno() >= 0:
                trio.lowlevel.notify_closing(bound.sock)
                bound.close()

    def adopt(self, sock: socket.socket, peer: str, read: bytes) -> None:
        """Serve a connection that a neighbour accepted, as if we had. Returns at once.

        Args:
            sock: non-blocking; ours from now on.
            peer: the name of the other side.
            read: what was read from it, a whole request head at least.
        """
        nursery = self._nursery
        if nursery is None or nursery.cancel_scope.cancel_called:
            sock.close()
        elif self._streams < self._settings.connections_max:
            nursery.start_soon(self._admit_adopted, sock, peer, read)
        else:
            self._overloaded += 1
            nursery.start_soon(self._gate.turn_away, PlainStream(sock), OVERLOADED)

    def tell_written(self, tell: Callable[[], None]) -> None:
        """Call `tell` once what was sent until now has been offered to the kernel; of several only the last one."""
        self._flusher.tell_written(tell)

    async def drain(self, close: Close, grace_s: float) -> int:
        """End every WebSocket connection in order, and cut whatever is left after `grace_s` seconds, HTTP included.

        Returns how many were cut. Call `stop_accepting` first.
        """
        deadline = trio.current_time() + grace_s
        cut = await self.connections.drain(close, grace_s)
        with trio.CancelScope(deadline=deadline):
            if self._neighbours is not None:  # they do not stop, so what is on its way here must not be lost
                with trio.move_on_after(ARRIVAL_S):
                    await self._gate.settled()
            await self._gate.http_ended()
        return cut + self._gate.cut_http()

    def statistics(self) -> ListenerStatistics:
        """Counts."""
        return ListenerStatistics(
            addresses=self.addresses,
            accepting=not self._accepting.cancel_called,
            streams=self._streams,
            accepted=self._accepted,
            overloaded=self._overloaded,
            crowded=self._gate.census.refused,
            unannounced=self._unannounced,
            refused=dict(self._gate.refused),
            http=self._gate.http_count,
            traffic=self._flusher.traffic,
            connections=self.connections.statistics(),
            hub=None if self._hub is None else self._hub.statistics(),
        )

    async def _run(self, task_status: trio.TaskStatus[Listener]) -> None:
        try:
            async with trio.open_nursery() as services:
                await services.start(self._flusher.run)
                await services.start(self._watch.run)
                if self._hub is not None:
                    await services.start(self._hub.run)
                async with trio.open_nursery() as streams:
                    self._nursery = streams
                    streams.start_soon(self._accept_everywhere, streams)
                    task_status.started(self)
                    await trio.sleep_forever()
        finally:
            self.stop_accepting()
            if self._hub is not None:
                self._hub.close()

    async def _accept_everywhere(self, streams: trio.Nursery) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for bound in self._bounds:
                    nursery.start_soon(self._accept, bound, streams)

    async def _accept(self, bound: Bound, streams: trio.Nursery) -> None:
        neighbours = self._neighbours
        accepts_max = ACCEPTS_PER_TURN if neighbours is None else 1
        while True:
            await trio.lowlevel.wait_readable(bound.sock)
            if neighbours is not None and (patience_s := neighbours.patience_s(self._streams)):
                await trio.sleep(patience_s)
            if not self._accept_waiting(bound, streams, accepts_max):
                await trio.sleep(BACKOFF_S)

    def _accept_waiting(self, bound: Bound, streams: trio.Nursery, accepts_max: int) -> bool:
        """Accept what waits. Returns whether the kernel had the means to."""
        for _ in range(accepts_max):
            try:
                sock, address = bound.sock.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    if not self._exhausted:  # said once, not ten times a second
                        self._exhausted = True
                        why = {"address": bound.address, "error": error.strerror}
                        log.error("cannot accept connections; trying again", extra=why)
                    return False
                if error.errno in ONE_CONNECTION_ONLY:
                    continue
                raise
            self._exhausted = False
            self._accepted += 1
            sock.setblocking(False)
            if sys.platform != "linux" and sock.family != socket.AF_UNIX:  # there the listening socket's is inherited
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._streams < self._settings.connections_max:
                streams.start_soon(self._admit, sock, address, bound)
            else:
                self._overloaded += 1
                if self._refusals < REFUSALS_MAX:
                    streams.start_soon(self._refuse, sock, address, bound)
                else:
                    sock.close()
        return True

    def _count(self, change: int) -> None:
        self._streams += change
        if self._neighbours is not None:
            self._neighbours.count(self._streams)

    async def _admit_adopted(self, sock: socket.socket, peer: str, read: bytes) -> None:
        gate = self._gate
        seat = gate.census.connected(peer)
        if gate.census.is_full(seat):
            await gate.turn_away(PlainStream(sock), CROWDED)
            return
        gate.census.enter(seat)
        self._count(1)
        try:
            await gate.admit(PlainStream(sock), peer, read)
        finally:
            self._count(-1)
            gate.census.leave(seat)

    async def _admit(self, sock: socket.socket, address: object, bound: Bound) -> None:
        gate, peer, seat = self._gate, name_of(address), None
        self._count(1)
        try:
            if gate.proxies.expects_headers and gate.proxies.announces(address_of(peer)):
                client = await self._introduced(PlainStream(sock), peer)
                if client is None:
                    return
                peer = client
            counted = gate.census.connected(peer)
            if gate.census.is_full(counted):
                if self._refusals < REFUSALS_MAX:
                    await self._turn_away(sock, bound, CROWDED)
                else:
                    sock.close()
                return
            gate.census.enter(counted)
            seat = counted
            stream = PlainStream(sock) if bound.tls is None else await self._secured(sock, bound)
            if stream is not None:
                life = gate.admit(stream, peer)
                del sock, address, stream  # this frame lives as long as the connection
                await life
        finally:
            self._count(-1)
            gate.census.leave(seat)

    async def _refuse(self, sock: socket.socket, address: object, bound: Bound) -> None:
        proxies, peer = self._gate.proxies, name_of(address)
        announced = proxies.expects_headers and proxies.announces(address_of(peer))
        if not announced or await self._introduced(PlainStream(sock), peer) is not None:
            await self._turn_away(sock, bound, OVERLOADED)

    async def _turn_away(self, sock: socket.socket, bound: Bound, refusal: HttpRefusal) -> None:
        self._refusals += 1
        try:
            stream = PlainStream(sock) if bound.tls is None else await self._secured(sock, bound)
            if stream is not None:
                await self._gate.turn_away(stream, refusal)
        finally:
            self._refusals -= 1

    async def _introduced(self, stream: PlainStream, peer: str) -> str | None:
        """Read the PROXY header, within the time that a request head may take: who the client is. None: there was
        none, or a wrong one, and the stream is closed (a proxy's peer would not understand an answer)."""
        client = None
        settings = self._settings
        try:
            with self._gate.arriving(), trio.move_on_after(settings.request_head_timeout_s) as scope:
                client = await read_proxy_header(stream, bytes_max=settings.request_head_bytes_max) or peer
            if scope.cancelled_caught:
                raise PeerError(PROTOCOL_ERROR, "PROXY header: it does not come")
        except PeerError as error:
            # The first is the operator's concern: most likely the proxy is not set up to send any.
            level = logging.DEBUG if self._unannounced else logging.WARNING
            log.log(level, "closed a connection of a proxy", extra={"peer": peer, "why": str(error)})
            self._unannounced += 1
        except (EOFError, *BROKEN):
            pass  # it left
        finally:
            if client is None:
                await trio.aclose_forcefully(stream)
        return client

    async def _secured(self, sock: socket.socket, bound: Bound) -> trio.SSLStream[PlainStream] | None:
        """Do the TLS handshake, within the time that a request head may take. None: there was none."""
        assert bound.tls is not None
        stream = trio.SSLStream(PlainStream(sock), bound.tls, server_side=True, https_compatible=True)
        done = False
        try:
            with self._gate.arriving(), trio.move_on_after(self._settings.request_head_timeout_s):
                await stream.do_handshake()
                done = True
        except BROKEN as error:
            log.debug("a TLS handshake failed", extra={"error": str(error)})
        finally:
            if not done:
                await trio.aclose_forcefully(stream)
        return stream if done else None


async def serve(
    settings: Settings,
    router: Router,
    http_handler: HttpHandler,
    *,
    neighbours: Neighbours | None = None,
    task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen and serve until cancelled; start it with `nursery.start`, which gives the `Listener`.

    When cancelled, connections are cut without a word: stop and drain first.

    Args:
        settings: addresses and limits.
        router: where an upgrade request leads; called once per handshake, synchronously.
        http_handler: serves every stream that is no WebSocket of the router's, such as `handoff.HypercornHandoff`.
        neighbours: other processes that accept on the same sockets.

    Raises:
        BindError: an address cannot be listened on.
    """
    bounds = await open_binds(settings)
    await Listener(settings, router, http_handler, bounds, neighbours)._run(task_status)
