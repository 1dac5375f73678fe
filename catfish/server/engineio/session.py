"""One Engine.IO session: what it is to the application, whichever transport carries it.

How it moves from state to state is told in `states`. Packets to the client go straight to the WebSocket's outbox, or
wait in `Buffer` for the next poll. Packets from the client come from the WebSocket in the hub's pass, or with a POST in
its own task; one POST at a time, so there is one order.

Heartbeats have absolute deadlines: a ping is due `ping_interval_ms` after the handshake or the last pong, and the end
`ping_timeout_ms` after that, whatever else came meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from catfish.errors import NORMAL, PROTOCOL_ERROR, Close, PeerError
from catfish.net.connection import Connection
from catfish.net.timers import Timer
from catfish.server.engineio.packets import Packets
from catfish.server.engineio.polling import Buffer, Poll
from catfish.server.engineio.refusal import TOO_LARGE, ClientGone, EngineRefusal
from catfish.server.engineio.states import CLOSES, LIVE, MOVES, Event, Reason, State
from catfish.wire import engineio as wire
from catfish.wire.addresses import address_of
from catfish.wire.http import HttpRefusal, RequestHead
from catfish.wire.websocket.frames import BINARY, TEXT, build_text

if TYPE_CHECKING:
    from catfish.server.engineio.server import EngineServer
    from catfish.server.engineio.websocket import WebSocketTransport

log = logging.getLogger(__name__)

NOOP_INTERVAL_S: Final = 0.1
"""While the answer to the probe is under way the client keeps polling; so often it is told that there is nothing."""
PACKETS_PER_TURN: Final = 256
"""Packets of one POST that are received before other tasks have their turn."""
POLL_PATIENCE_S: Final = 0.02
"""A client that sends a poll, and then a close with a POST, may see the POST arrive first: the poll has so long to come
and get its answer."""


class EngineReceiver:
    """What the application puts on a session: override what it needs."""

    __slots__ = ()

    def receive(self, message: str | bytes) -> None:
        """One message, in order. Called synchronously: in the hub's pass, or in the task of the POST that brought it.

        `PeerError` ends the session (parse error). Any other exception is logged with its traceback and ends it, too.
        """

    def moved(self) -> None:
        """The session has a WebSocket from now on: `Session.connection`."""

    def closed(self, reason: Reason) -> None:
        """Nothing more will be received, and nothing sent from now on arrives.

        Called exactly once, and never from inside a method of the session that the application calls.
        """

    async def run(self) -> None:
        """The body of the session's own task: whatever has to wait happens here.

        It may return early; it is cancelled `Settings.close_timeout_s` after `closed`. An exception is logged with its
        traceback and ends the session.
        """


NOBODY: Final = EngineReceiver()


class Session:
    """A client, from its handshake to its end. Made by `EngineServer`.

    Attributes:
        sid: known to the client and to nobody else: whoever has it can speak for the client.
        head: of the request that opened it.
        peer: where that came from: `203.0.113.9:1234` or `unix`.
        address: the client's, without a port; see `Connection.address`.
        connection: the WebSocket; None while polling.
        receiver: the application's.
    """

    __slots__ = (
        "_announced",
        "_buffer",
        "_deadline",
        "_noop_at",
        "_paused",
        "_pinged",
        "_poll",
        "_polled",
        "_post",
        "_probe",
        "_resumed",
        "_timer",
        "address",
        "connection",
        "engine",
        "head",
        "peer",
        "reason",
        "receiver",
        "scope",
        "sid",
        "state",
    )

    def __init__(
        self, engine: EngineServer, sid: str, head: RequestHead, peer: str, connection: Connection | None
    ) -> None:
        self.sid = sid
        self.head = head
        self.peer = peer
        self.address = address_of(peer) if connection is None else connection.address
        self.connection = connection
        self.receiver = NOBODY
        self.state = State.POLLING if connection is None else State.WEBSOCKET
        self.reason: Reason | None = None
        """Why it ended or is ending."""
        self.scope: trio.CancelScope | None = None
        """Around `EngineReceiver.run`, where that is not a WebSocket connection's own task."""
        self.engine = engine
        self._buffer = Buffer(engine.settings.outbox_bytes_max) if connection is None else None
        self._poll: Poll | None = None
        self._polled: trio.Event | None = None  # somebody waits for a poll
        self._post: trio.CancelScope | None = None
        self._probe: WebSocketTransport | None = None
        self._noop_at: float | None = None  # when a poll gets its next noop; None: no probe was answered
        self._paused = False
        self._resumed: trio.Event | None = None
        self._announced = False
        self._pinged = False
        self._deadline = 0.0
        self._timer: Timer
        self._beat()

    def __repr__(self) -> str:
        return f"<Session {self.sid[:4]}… {self.peer} {self.state.name}>"

    # For the application

    @property
    def transport(self) -> str:
        """`polling` or `websocket`."""
        return "polling" if self.connection is None else "websocket"

    @property
    def is_open(self) -> bool:
        """Whether messages still flow; once false it stays so."""
        return self.state in LIVE

    def send(self, message: str | bytes) -> None:
        """Send one message. Never blocks, raises or calls back; dropped when the session is ending."""
        self.push(self.engine.packets(wire.build_message(message), TEXT if isinstance(message, str) else BINARY))

    def send_text(self, packet: bytes) -> None:
        """Send one text packet that already has its type in front; for what only this session gets."""
        connection = self.connection
        if connection is not None and (not connection.compresses or len(packet) < self.engine.deflate_bytes_min):
            connection.send(build_text(packet))
        else:
            self.push(self.engine.packets(packet))

    def push(self, packets: Packets) -> None:
        """Send packets that others may be sent as well.

        While polling, what waits is limited like the outbox of a connection (`outbox_bytes_max`): beyond it the session
        ends (slow consumer).
        """
        connection = self.connection
        if connection is not None:
            connection.send(packets.frames(connection.compresses))
        elif self._buffer is not None and self.state in LIVE:
            if not self._buffer.put(packets):
                self._buffer.clear()
                self._finish(Reason.SLOW_CONSUMER)
                self._announce_soon()
            elif self._poll is not None:
                self._poll.answer()

    def close(self, close: Close = NORMAL) -> None:
        """End the session: what waits is delivered, then the client hears of it. Returns at once.

        Args:
            close: for the WebSocket's close frame.
        """
        if self.state not in LIVE:
            return
        self.state = MOVES[self.state, Event.CLOSE]
        self.reason = Reason.FORCED_CLOSE
        self._stop_beating()
        if self.connection is not None:
            self.connection.close(close)  # tells when it has ended: `websocket_closed`
            return
        self._timer = self.engine.timers.call_later(
            self.engine.settings.close_timeout_s, lambda: self._finish(Reason.FORCED_CLOSE)
        )
        if self._poll is not None:
            self._poll.answer()
        self._announce_soon()

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`; the answer to a POST waits as long."""
        self._paused = True
        if self.connection is not None:
            self.connection.pause_reading()
        elif self._resumed is None:
            self._resumed = trio.Event()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._paused = False
        if self.connection is not None:
            self.connection.resume_reading()
        self._release_post()

    # For the transports. These are called by a driver: the hub, a timer, the task of a request.

    def fail(self, reason: Reason, poll_body: bytes = wire.CLOSE_PACKET) -> None:
        """End the session now; a poll that is open gets `poll_body`."""
        if self.state is State.CLOSED:
            return
        self._finish(reason, poll_body)
        if self.connection is None:
            self._announce()
        else:
            self.connection.close(CLOSES.get(reason, NORMAL))

    def expire(self) -> bool:
        """End the session if its last pong is overdue at this moment, even if the timer has not run yet."""
        if self.state in LIVE and trio.current_time() >= self._deadline:
            self.fail(Reason.PING_TIMEOUT)
            return True
        return False

    def control(self, kind: str) -> None:
        """A packet from the client that is no message.

        Raises:
            PeerError: a client does not ping.
        """
        if kind == wire.PONG:
            if self._pinged:
                self._pinged = False
                self._timer.cancel()
                self._beat()
        elif kind == wire.CLOSE:
            self.fail(Reason.TRANSPORT_CLOSE, wire.NOOP_PACKET)
        elif kind == wire.PING:
            self.reason = Reason.TRANSPORT_ERROR
            raise PeerError(PROTOCOL_ERROR, "a ping from a client")

    async def poll(self) -> bytes:
        """Wait for packets; the payload that answers one poll.

        Raises:
            EngineRefusal: another poll is open; the session is over.
        """
        if self._poll is not None:
            self.fail(Reason.TRANSPORT_ERROR)
            raise EngineRefusal(wire.BAD_REQUEST)
        if self._polled is not None:
            self._polled.set()
        payload = self._payload()
        if payload is not None:
            await trio.lowlevel.checkpoint()
            return payload
        poll = self._poll = Poll()
        self._nudge()
        try:
            await poll.answered()
        finally:
            self._poll = None
        return self._payload() or poll.body or wire.NOOP_PACKET

    async def post(self, read: Callable[[], Awaitable[bytes | None]]) -> None:
        """Receive the packets of one POST.

        Args:
            read: gives the next piece of the body, None at its end.

        Raises:
            EngineRefusal: another POST is under way, or a packet is wrong, or the session ended meanwhile; it is over.
                413 when the body is too long; the session goes on.
            ClientGone: the client ended the request early; the session is over.
        """
        if self._post is not None:
            self.fail(Reason.TRANSPORT_ERROR)
            raise EngineRefusal(wire.BAD_REQUEST)
        settings = self.engine.settings
        payload = wire.Payload(bytes_max=settings.max_payload_bytes, packets_max=settings.payload_packets_max)
        try:
            with trio.CancelScope() as self._post:  # cancelled when the session ends
                await self._collect(read, payload)
                await self._receive(payload)
                return
        except PeerError:
            self.fail(self.reason or Reason.PARSE_ERROR)
        except HttpRefusal:
            raise
        except ClientGone:
            self.fail(Reason.TRANSPORT_ERROR)
            raise
        except Exception:
            self.fail(Reason.INTERNAL_ERROR)
            raise
        finally:
            self._post = None
        raise EngineRefusal(wire.BAD_REQUEST)

    def probe(self, transport: WebSocketTransport) -> None:
        """A WebSocket came that may take over."""
        self.state = MOVES[self.state, Event.PROBE]
        self._probe = transport

    def probed(self) -> None:
        """It has asked and was answered: no poll is kept open any more."""
        self._noop_at = trio.current_time()
        self._nudge()

    def probe_lost(self) -> None:
        """It will not take over: polling goes on as before."""
        self._probe = self._noop_at = None
        self.state = MOVES[self.state, Event.PROBE_LOST]

    def may_upgrade(self) -> bool:
        """Whether the client may stop polling now: it has to wait for the end of its POST."""
        return self._post is None

    def upgrade(self, connection: Connection) -> None:
        """The WebSocket takes over."""
        assert self._buffer is not None
        self.state = MOVES[self.state, Event.UPGRADE]
        self._probe = self._noop_at = None
        self.connection = connection
        for frame in self._buffer.drain(connection.compresses):
            connection.send(frame)
        self._buffer = None
        if self._poll is not None:
            self._poll.answer(wire.NOOP_PACKET)
        if self.state is State.DRAINING:
            connection.close(NORMAL)
            return
        if self._paused:
            connection.pause_reading()
        self.receiver.moved()

    def websocket_closed(self, reason: Reason) -> None:
        """The WebSocket that carries the session has ended."""
        self._finish(reason)
        self._announce()

    # Inside

    def _beat(self) -> None:
        """The client gave a sign of life just now: when the next ping is due, and when its pong."""
        engine = self.engine
        due = trio.current_time() + engine.ping_interval_s
        self._deadline = due + engine.ping_timeout_s
        self._timer = engine.timers.call_at(due, self._ping)

    def _ping(self) -> None:
        self._pinged = True
        self._timer = self.engine.timers.call_at(self._deadline, self._silent)
        self.push(self.engine.ping)

    def _silent(self) -> None:
        self.fail(Reason.PING_TIMEOUT)

    def _stop_beating(self) -> None:
        self._timer.cancel()
        self._deadline = float("inf")

    def _payload(self) -> bytes | None:
        """What a poll can be answered with at once."""
        if self._buffer is None:
            return None
        entries = self._buffer.take(self.engine.settings.poll_packets_max)
        if self.state is State.DRAINING and not self._buffer:
            entries.append(wire.CLOSE_PACKET)
            self._finish(Reason.FORCED_CLOSE)
        return wire.build_payload(entries) if entries else None

    def _nudge(self) -> None:
        """While a WebSocket is about to take over, an open poll gets a noop, if it is time for one."""
        if self._noop_at is None or self._poll is None:
            return
        now = trio.current_time()
        if now >= self._noop_at:
            self._noop_at = now + NOOP_INTERVAL_S
            self._poll.answer()
        else:
            self.engine.timers.call_at(self._noop_at, self._nudge)

    async def _collect(self, read: Callable[[], Awaitable[bytes | None]], payload: wire.Payload) -> None:
        try:
            while (piece := await read()) is not None:
                payload.receive(piece)
        except PeerError:
            raise EngineRefusal(TOO_LARGE) from None

    async def _receive(self, payload: wire.Payload) -> None:
        for index, (kind, data) in enumerate(payload.finish()):
            if index % PACKETS_PER_TURN == PACKETS_PER_TURN - 1:
                await trio.lowlevel.checkpoint()
            while self._paused and self._resumed is not None:
                await self._resumed.wait()
            if self.state not in LIVE:
                return
            if kind == wire.MESSAGE:
                self.receiver.receive(data)
                continue
            if kind == wire.CLOSE and self._poll is None:
                await self._await_poll()
            self.control(kind)
        if payload.failure is not None:
            raise payload.failure

    async def _await_poll(self) -> None:
        self._polled = trio.Event()
        with trio.move_on_after(POLL_PATIENCE_S):
            await self._polled.wait()
        self._polled = None

    def _release_post(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set()

    def _finish(self, reason: Reason, poll_body: bytes = wire.CLOSE_PACKET) -> None:
        """Forget the session. Whoever calls this sees to it that the receiver hears of it."""
        if self.state is State.CLOSED:
            return
        self.state = MOVES[self.state, Event.END]
        self.reason = self.reason or reason
        self.engine.sessions.pop(self.sid, None)
        self._stop_beating()
        if self._poll is not None:
            self._poll.answer(poll_body)
        if self._post is not None:
            self._post.cancel()
        if self._probe is not None:
            self._probe.abandon()

    def _announce_soon(self) -> None:
        """From a driver of its own: the application may be in the middle of a loop over sessions."""
        self.engine.timers.call_at(trio.current_time(), self._announce)

    def _announce(self) -> None:
        if self._announced:
            return
        self._announced = True
        self._release_post()
        if self.scope is not None:
            self.scope.deadline = trio.current_time() + self.engine.settings.close_timeout_s
        receiver, self.receiver = self.receiver, NOBODY
        try:
            receiver.closed(self.reason or Reason.TRANSPORT_CLOSE)
        except Exception:  # the crash boundary; the session has ended anyway
            log.exception("Receiver of %r failed while closing", self)


def transports_after(transport: str) -> Sequence[str]:
    """What a session can move to from there, as the handshake says."""
    return ("websocket",) if transport == "polling" else ()
