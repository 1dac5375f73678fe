"""The WebSocket half of a session: from its handshake on, or first as a probe that takes over from polling."""

from __future__ import annotations

from typing import Final

from catfish.errors import (
    INTERNAL_ERROR,
    MESSAGE_TOO_BIG,
    NORMAL,
    PROTOCOL_ERROR,
    SLOW_CONSUMER_BYTES,
    SLOW_CONSUMER_TIME,
    Close,
    PeerError,
)
from catfish.net.connection import Connection
from catfish.net.timers import Timer
from catfish.server.engineio.session import EngineReceiver, Session
from catfish.server.engineio.states import Reason
from catfish.wire import engineio as wire
from catfish.wire.websocket.frames import build_text

PROBE_ANSWER_FRAME: Final = build_text(wire.PROBE_ANSWER)

REASONS: Final = {
    SLOW_CONSUMER_BYTES.code: Reason.SLOW_CONSUMER,
    SLOW_CONSUMER_TIME.code: Reason.SLOW_CONSUMER,
    INTERNAL_ERROR.code: Reason.INTERNAL_ERROR,
    MESSAGE_TOO_BIG.code: Reason.TRANSPORT_ERROR,
    PROTOCOL_ERROR.code: Reason.TRANSPORT_ERROR,
}
"""By the close code with which a connection ended; every other one is `TRANSPORT_CLOSE`."""


class Stray:
    """Receiver of a WebSocket that came for a session which it cannot have: it is accepted and closed."""

    __slots__ = ()

    def receive(self, message: str | bytes) -> None:
        """Nothing is expected."""

    def closed(self, close: Close) -> None:
        """It was ours to close."""

    async def run(self) -> None:
        """Nothing has to wait."""


class WebSocketTransport:
    """Implements `net.connection.Receiver`."""

    __slots__ = ("_connection", "_receiver", "_session", "_timer")

    def __init__(self, session: Session, connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._receiver: EngineReceiver | None = None
        self._timer: Timer | None = None

    def carry(self) -> None:
        """The session is carried by this WebSocket from now on."""
        self._receiver = self._session.receiver

    def offer(self, timer: Timer) -> None:
        """The WebSocket may take over until `timer` says that it takes too long."""
        self._timer = timer
        self._session.probe(self)

    def abandon(self) -> None:
        """It will not take over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._session.probe_lost()
        self._connection.close(NORMAL)

    def receive(self, message: str | bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._negotiate(message)
            return
        try:
            if message[:1] == wire.MESSAGE:
                receiver.receive(message[1:])
            elif isinstance(message, bytes):
                receiver.receive(message)
            else:
                kind, data = wire.parse_packet(message)
                if kind == wire.MESSAGE:  # base64, which there is no need for here
                    receiver.receive(data)
                else:
                    self._session.control(kind)
        except PeerError:
            self._session.reason = self._session.reason or Reason.PARSE_ERROR
            raise

    def closed(self, close: Close) -> None:
        if self._receiver is not None:
            self._session.websocket_closed(REASONS.get(close.code, Reason.TRANSPORT_CLOSE))
        elif self._timer is not None:
            self.abandon()

    async def run(self) -> None:
        if self._receiver is not None:  # else the session has a task already
            await self._receiver.run()

    def _negotiate(self, message: str | bytes) -> None:
        """What comes before the WebSocket has taken over."""
        if self._timer is None:
            return
        if message == wire.PROBE_PACKET:
            self._connection.send(PROBE_ANSWER_FRAME)
            self._session.probed()
        elif message == wire.UPGRADE and self._session.may_upgrade():
            self._timer.cancel()
            self._timer = None
            self.carry()
            self._session.upgrade(self._connection)
        else:
            self.abandon()
