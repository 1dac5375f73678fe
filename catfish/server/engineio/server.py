"""The sessions of one Engine.IO path, and who may open one.

WebSockets come from the listener: `EngineServer` is the `net.connection.Endpoint` of its path. Polling is plain HTTP,
so it comes from Hypercorn, by way of `http.engineio.PollingApp`. Both find their session here.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

import attrs
import trio

from catfish.config import Settings
from catfish.errors import NORMAL, Close
from catfish.net.connection import Connection, Receiver
from catfish.net.timers import Timers
from catfish.server.engineio.packets import Packets
from catfish.server.engineio.refusal import EngineRefusal
from catfish.server.engineio.session import EngineReceiver, Session, transports_after
from catfish.server.engineio.states import Reason, State
from catfish.server.engineio.websocket import Stray, WebSocketTransport
from catfish.server.origins import is_allowed
from catfish.wire import engineio as wire
from catfish.wire.http import RequestHead
from catfish.wire.websocket.frames import TEXT, build_text

log = logging.getLogger(__name__)

EngineApp = Callable[[Session], EngineReceiver]
"""An application: makes the receiver of each new session. What is sent in here follows the handshake."""

QUERY_FIELDS_MAX: Final = 64

Admission = Callable[[str, Mapping[str, str], bool], int]
"""Asked with the address and the header fields of a request, and whether it opens a session: seconds after which it may
be sent again, or 0 when it is answered now."""


def admit_all(address: str, headers: Mapping[str, str], opens: bool) -> int:
    """There are no limits."""
    return 0


def draw_sid() -> str:
    """Twenty characters that nobody can guess (120 bits)."""
    return secrets.token_urlsafe(15)


def parse_query(text: str) -> dict[str, str]:
    """The parameters of a request; of those that come twice, the last.

    Raises:
        EngineRefusal: there are more than `QUERY_FIELDS_MAX`.
    """
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        raise EngineRefusal(wire.BAD_REQUEST) from None


@attrs.frozen
class EngineStatistics:
    """Sessions at one moment, by transport; those that are about to move count as polling."""

    polling: int
    websocket: int


class EngineServer:
    """Implements `net.connection.Endpoint`. Start `run` before the listener.

    Args:
        settings: limits and heartbeat; `origins` says whose pages may connect.
        timers: must be running.
        app: makes the receiver of each session.
        draw_sid: makes session ids. With several worker processes an id has to say whose it is, so that a request which
            reaches another one can be handed over.
        admission: asked for every request that is in order.
    """

    subprotocols: Sequence[str] = ()
    heartbeat = False

    def __init__(
        self,
        settings: Settings,
        timers: Timers,
        app: EngineApp,
        *,
        draw_sid: Callable[[], str] = draw_sid,
        admission: Admission = admit_all,
    ) -> None:
        self.settings = settings
        self.timers = timers
        self.sessions: dict[str, Session] = {}
        """By `sid`; change nothing here."""
        self.message_bytes_max = settings.max_payload_bytes
        self.deflate_bytes_min = settings.deflate_bytes_min
        self.ping_interval_s = settings.ping_interval_ms / 1000
        self.ping_timeout_s = settings.ping_timeout_ms / 1000
        self.ping = self.packets(wire.PING_PACKET)
        self._app = app
        self._draw_sid = draw_sid
        self._admission = admission
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks of the sessions that began with polling, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def packets(self, packet: bytes, opcode: int = TEXT, attachments: Sequence[bytes] = ()) -> Packets:
        """Packets to push to any number of sessions."""
        return Packets(packet, attachments, opcode, deflate_bytes_min=self.deflate_bytes_min)

    def close_all(self, close: Close) -> None:
        """End every session; see `Session.close`."""
        for session in tuple(self.sessions.values()):
            session.close(close)

    def statistics(self) -> EngineStatistics:
        """Counts."""
        polling = sum(session.connection is None for session in self.sessions.values())
        return EngineStatistics(polling, len(self.sessions) - polling)

    # Requests, whatever brings them

    def admit(
        self, method: str, query: Mapping[str, str], headers: Mapping[str, str], address: str, *, upgrade: bool
    ) -> Session | None:
        """The session that a request is for; None: it opens a new one.

        Args:
            address: the client's.

        Raises:
            EngineRefusal: it is neither.
        """
        transport = query.get("transport")
        if transport not in ("polling", "websocket"):
            raise EngineRefusal(wire.UNKNOWN_TRANSPORT)
        if not self.allows(headers, address):
            raise EngineRefusal(wire.FORBIDDEN)
        upgraded = transport == "websocket"
        sid = query.get("sid")
        if sid:
            session = self.sessions.get(sid)
            if session is None or session.expire():
                raise EngineRefusal(wire.UNKNOWN_SID)
            if query.get("EIO") != wire.VERSION or upgraded != upgrade:
                raise EngineRefusal(wire.BAD_REQUEST)
            if not upgrade and (session.connection is not None or method not in ("GET", "POST")):
                raise EngineRefusal(wire.BAD_REQUEST)
            return session
        if method != "GET":
            raise EngineRefusal(wire.BAD_HANDSHAKE_METHOD)
        if upgraded != upgrade:
            raise EngineRefusal(wire.BAD_REQUEST)
        if query.get("EIO") != wire.VERSION:
            raise EngineRefusal(wire.UNSUPPORTED_VERSION)
        return None

    def measure(self, address: str, headers: Mapping[str, str], *, opens: bool) -> None:
        """Ask the application's limits about a request that `admit` let through.

        Args:
            opens: whether it opens a session.

        Raises:
            EngineRefusal: 429.
        """
        retry_after_s = self._admission(address, headers, opens)
        if retry_after_s:
            raise EngineRefusal(wire.TOO_MANY_REQUESTS, (("Retry-After", str(retry_after_s)),))

    def allows(self, headers: Mapping[str, str], address: str) -> bool:
        """Whether the page that sends such a request may connect."""
        return is_allowed(headers, address, self.settings.origins)

    def open_polling(self, head: RequestHead, peer: str) -> bytes:
        """Open a session that begins with polling; the payload that answers the request.

        Raises:
            EngineRefusal: there are as many sessions as there may be connections.
        """
        if len(self.sessions) >= self.settings.connections_max:
            raise EngineRefusal(wire.TOO_MANY_SESSIONS, (("Retry-After", "5"),))
        assert self._nursery is not None, "EngineServer.run has not been started"
        session = self._open(head, peer, None)
        self._nursery.start_soon(self._live, session)
        return self._handshake(session)

    # WebSockets: `net.connection.Endpoint`

    def check(self, head: RequestHead, address: str) -> None:
        """Refuse an upgrade that is wrong before it is answered with 101."""
        session = self.admit(head.method, parse_query(head.query), head.headers, address, upgrade=True)
        self.measure(address, head.headers, opens=session is None)

    def open(self, connection: Connection) -> Receiver:
        """A WebSocket was accepted: it opens a session, or may take one over."""
        sid = parse_query(connection.head.query).get("sid")
        if sid:
            wanted = self.sessions.get(sid)
            if wanted is None or wanted.state is not State.POLLING:  # one WebSocket a session, and no second chance
                connection.close(NORMAL)
                return Stray()
            transport = WebSocketTransport(wanted, connection)
            transport.offer(self.timers.call_later(self.settings.upgrade_timeout_s, transport.abandon))
            return transport
        session = self._open(connection.head, connection.peer, connection)
        transport = WebSocketTransport(session, connection)
        transport.carry()
        return transport

    def _open(self, head: RequestHead, peer: str, connection: Connection | None) -> Session:
        session = Session(self, self._draw_sid(), head, peer, connection)
        if connection is not None:
            connection.send(build_text(self._handshake(session)))
        self.sessions[session.sid] = session
        try:
            session.receiver = self._app(session)
        except BaseException:
            session.fail(Reason.INTERNAL_ERROR)
            raise
        return session

    def _handshake(self, session: Session) -> bytes:
        settings = self.settings
        return wire.build_open(
            session.sid,
            upgrades=transports_after(session.transport),
            ping_interval_ms=settings.ping_interval_ms,
            ping_timeout_ms=settings.ping_timeout_ms,
            max_payload_bytes=settings.max_payload_bytes,
        )

    async def _live(self, session: Session) -> None:
        """The task of a session that began with polling; its crash boundary."""
        with trio.CancelScope() as session.scope:
            try:
                await session.receiver.run()
            except Exception:  # one session's fault must not reach the others
                log.exception("Task of %r failed", session)
                session.fail(Reason.INTERNAL_ERROR)
