"""One connection of a client, and the sockets that it has in namespaces.

Packets are handled as they come, in the hub's pass. Only when something has to wait (a namespace that asks a database
whether the client may come in, a handler that is a coroutine) an `Inbox` is made, and everything that the connection
sends waits behind it in order, but for answers to what we asked. A client may send an event and disconnect in one
breath: the event counts.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import trio

from catfish.errors import PROTOCOL_ERROR, PeerError
from catfish.server.engineio import EngineReceiver, Reason, Session
from catfish.server.inbox import Gauge, Inbox, Work
from catfish.server.socketio.socket import CLIENT_LEFT, ConnectRefused, NamespaceApp, Restored, Socket
from catfish.wire.socketio import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet

if TYPE_CHECKING:
    from catfish.server.socketio.server import SocketIOServer

log = logging.getLogger(__name__)

INVALID_NAMESPACE: Final = "Invalid namespace"
TOO_MANY_NAMESPACES: Final = "Too many namespaces"


class Client(EngineReceiver):
    """Made by `SocketIOServer` for each session.

    Attributes:
        session: of Engine.IO.
        codec: builds the packets that `Socket.send` takes.
        sockets: by namespace.
        data: the application's own.
    """

    __slots__ = (
        "_decoder",
        "_inbox",
        "_left",
        "_parked",
        "_pauses",
        "_reason",
        "_timer",
        "codec",
        "data",
        "server",
        "session",
        "sockets",
    )

    def __init__(self, server: SocketIOServer, session: Session) -> None:
        self.server = server
        self.session = session
        self.codec = server.codec
        self.sockets: dict[str, Socket] = {}
        self.data: Any = None
        self._decoder = server.codec.decoder()
        self._inbox: Inbox | None = None
        self._parked: trio.lowlevel.Task | None = None
        self._pauses = 0
        self._reason: Reason | None = None
        self._left: set[str] | None = None  # namespaces that we ended, so that what is on its way is no fault
        self._timer = session.engine.timers.call_later(server.settings.connect_timeout_s, session.close)

    def __repr__(self) -> str:
        return f"<Client {self.session!r}>"

    # Reading, for everyone who has reasons to stop it: it goes on when all have agreed to that.

    def pause_reading(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self.session.pause_reading()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self.session.resume_reading()

    # The session's calls

    def receive(self, message: str | bytes) -> None:
        packet = self._decoder.receive(message)
        if packet is None:
            return
        inbox = self._inbox
        if inbox is not None and packet.type != ACK:  # what waits may be waiting for that very answer
            inbox.receive(packet)
            return
        work = self._handle(packet)
        if work is not None:
            gauge = Gauge(self, self.server.settings.requests_waiting_max)
            self._inbox = Inbox(self._handle_queued, self._perform, self._wake, gauge)
            self._inbox.receive(work)

    def moved(self) -> None:
        for socket in tuple(self.sockets.values()):
            socket.moved()

    def closed(self, reason: Reason) -> None:
        self._reason = reason
        self._timer.cancel()
        if self._inbox is None or self._inbox.idle:
            self._end()
        self._wake()

    async def run(self) -> None:
        try:
            while True:
                if self._inbox is not None:
                    await self._drain(self._inbox)
                elif self._reason is not None:
                    return
                else:
                    self._parked = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._unpark)
        finally:
            if self._reason is not None:
                self._end()

    async def _drain(self, inbox: Inbox) -> None:
        try:
            await inbox.drain()
        except PeerError:
            self.session.fail(Reason.PARSE_ERROR)
        self._inbox = None  # there is none while nothing waits

    def _wake(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _end(self) -> None:
        sockets, self.sockets = self.sockets, {}
        for socket in sockets.values():
            try:
                socket.end(self._reason or Reason.TRANSPORT_CLOSE)
            except Exception:  # a crash boundary between namespaces; the connection has ended anyway
                log.exception("the end of %r failed", socket)

    # Packets

    def _handle_queued(self, packet: Packet | Work) -> Work | None:
        return packet if isinstance(packet, Work) else self._handle(packet)

    def _handle(self, packet: Packet) -> Work | None:
        socket = self.sockets.get(packet.namespace)
        if socket is not None and packet.type == EVENT:
            args = packet.data
            return socket.handler(args.pop(0), args, packet.id)
        return self._handle_other(packet, socket)

    def _handle_other(self, packet: Packet, socket: Socket | None) -> Work | None:
        kind = packet.type
        if socket is None:
            if kind == CONNECT:
                return self._connect(packet)
            if kind == CONNECT_ERROR:
                raise PeerError(PROTOCOL_ERROR, "a CONNECT_ERROR from a client")
            if kind != DISCONNECT and not (self._left and packet.namespace in self._left):
                raise PeerError(PROTOCOL_ERROR, "a packet for a namespace that the client has not entered")
        elif kind == ACK:
            socket.acknowledged(packet.id, packet.data)
        elif kind == DISCONNECT:
            del self.sockets[packet.namespace]
            socket.end(CLIENT_LEFT)
        else:
            raise PeerError(PROTOCOL_ERROR, "a CONNECT for a namespace that the client is in")
        return None

    def disconnect(self) -> None:
        """End every socket from the server's side, and then the connection."""
        for socket in tuple(self.sockets.values()):
            socket.disconnect()
        self.session.close()

    def left(self, socket: Socket) -> None:
        """The server ended this socket: what the client has sent to it by then is no fault."""
        del self.sockets[socket.namespace]
        if self._left is None:
            self._left = set()
        self._left.add(socket.namespace)

    # Entering a namespace

    def _connect(self, packet: Packet) -> Work | None:
        name = packet.namespace
        namespace = self.server.namespaces.get(name)
        if namespace is None:
            self._refuse(name, ConnectRefused(INVALID_NAMESPACE))
            return None
        if len(self.sockets) >= self.server.settings.namespaces_max:
            self._refuse(name, ConnectRefused(TOO_MANY_NAMESPACES))
            return None
        socket = Socket(self, name, packet.data or {}, packet.query)
        try:
            admission = namespace.admit(socket)
        except ConnectRefused as refusal:
            socket.dropped()
            self._refuse(name, refusal)
            return None
        if admission is not None or (namespace.recovery is not None and isinstance(socket.auth.get("pid"), str)):
            return Work(self._admit(namespace, socket, admission), None)
        self._enter(namespace, socket, None)
        return None

    async def _admit(
        self, namespace: NamespaceApp, socket: Socket, admission: Coroutine[Any, Any, None] | None
    ) -> None:
        restored: Restored | None = None
        entered = False
        try:
            if admission is not None:
                await admission
            pid, offset = socket.auth.get("pid"), socket.auth.get("offset")
            if namespace.recovery is not None and isinstance(pid, str):
                restored = await namespace.recovery.restore(socket, pid, offset if isinstance(offset, str) else None)
            if self._reason is None:
                entered = True
                self._enter(namespace, socket, restored)
        except ConnectRefused as refusal:
            self._refuse(namespace.name, refusal)
        finally:
            if not entered:  # it was refused, or the connection has ended meanwhile
                socket.dropped()

    def _enter(self, namespace: NamespaceApp, socket: Socket, restored: Restored | None) -> None:
        if restored is not None:
            socket.id, socket.pid, socket.recovered = restored.sid, restored.pid, True
        elif namespace.recovery is not None:
            socket.pid = namespace.recovery.begin(socket)
        self.sockets[socket.namespace] = socket
        if self._left is not None:
            self._left.discard(socket.namespace)
        self._timer.cancel()
        answer = {"sid": socket.id} if socket.pid is None else {"sid": socket.id, "pid": socket.pid}
        self.session.push(self.codec.packet(CONNECT, answer, socket.namespace))
        socket.is_connected = True
        for missed in restored.missed if restored is not None else ():
            self.session.push(missed)
        namespace.connected(socket)

    def _refuse(self, name: str, refusal: ConnectRefused) -> None:
        problem = {"message": refusal.message}
        if refusal.data is not None:
            problem["data"] = refusal.data
        self.session.push(self.codec.packet(CONNECT_ERROR, problem, name))

    async def _perform(self, work: Work) -> None:
        await (work.coroutine if work.context is None else work.context(work.coroutine))
