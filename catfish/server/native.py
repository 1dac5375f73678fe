"""Sessions of the native protocol: a WebSocket, an envelope codec, and the native vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from catfish.auth.tokens import Expired
from catfish.contracts import native
from catfish.contracts.interface import Participant as ParticipantPort
from catfish.contracts.interface import Reply
from catfish.errors import TOKEN_EXPIRED, UNAUTHORIZED, Close, PeerError, Rejected
from catfish.net.connection import Connection
from catfish.net.outgoing import Outgoing
from catfish.rooms.events import Event
from catfish.rooms.room import Audience, LiveRoom
from catfish.server.identification import token_in
from catfish.server.inbox import Gauge, Inbox, Work
from catfish.server.instance import Instance
from catfish.server.origins import check_origin
from catfish.server.participant import Participant
from catfish.wire.http import RequestHead
from catfish.wire.native import BINARY, SUBPROTOCOLS, TEXT, Codec, by_subprotocol
from catfish.wire.websocket.frames import build_binary, build_text

BUILD: Final = {TEXT: build_text, BINARY: build_binary}
UNTRUSTED: Final = frozenset(("hello", "ping"))
"""Events for which nobody needs a token."""


class NativeEncoder:
    """Encodes events in one codec; an event that goes to several audiences is encoded once."""

    __slots__ = ("_codec", "_event", "_payload")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._event: Event | None = None
        self._payload: bytes | None = None

    def encode(self, event: Event) -> bytes | None:
        """The envelope; None when natively there is no such event."""
        if event is not self._event:
            rendered = native.render(event)
            self._payload = None if rendered is None else self._codec.encode_event(*rendered)
            self._event = event
        return self._payload


class NativeAudience:
    """Sessions of one codec that are sent plain frames."""

    __slots__ = ("_build", "_encode")

    def __init__(self, encoder: NativeEncoder, opcode: int) -> None:
        self._encode = encoder.encode
        self._build = BUILD[opcode]

    def encode(self, event: Event, room: LiveRoom, /) -> bytes | None:
        payload = self._encode(event)
        return None if payload is None else self._build(payload)


class DeflatingAudience:
    """Sessions of one codec that negotiated compression."""

    __slots__ = ("_deflate_bytes_min", "_encode", "_opcode")

    def __init__(self, encoder: NativeEncoder, opcode: int, deflate_bytes_min: int) -> None:
        self._encode = encoder.encode
        self._opcode = opcode
        self._deflate_bytes_min = deflate_bytes_min

    def encode(self, event: Event, room: LiveRoom, /) -> bytes | None:
        payload = self._encode(event)
        return None if payload is None else Outgoing(payload, self._opcode, self._deflate_bytes_min).frame(True)


class NativeEndpoint:
    """What the path `/ws` leads to. Implements `net.connection.Endpoint`."""

    subprotocols: Sequence[str] = SUBPROTOCOLS
    heartbeat = True

    def __init__(self, instance: Instance) -> None:
        settings = instance.settings
        self.instance = instance
        self.message_bytes_max = settings.message_bytes_max
        self._audiences: dict[tuple[str, bool], Audience] = {}
        self._handlers: dict[str, Handlers] = {}
        for name in SUBPROTOCOLS:
            codec = by_subprotocol(name)
            encoder = NativeEncoder(codec)
            self._handlers[name] = {
                event: (codec.decoder(handler.request), handler.handle) for event, handler in native.HANDLERS.items()
            }
            self._audiences[name, False] = NativeAudience(encoder, codec.opcode)
            self._audiences[name, True] = DeflatingAudience(encoder, codec.opcode, settings.deflate_bytes_min)

    def check(self, head: RequestHead, address: str) -> None:
        check_origin(head, address, self.instance.settings.origins)
        self.instance.limits.refuse_handshake(address, head.headers)

    def open(self, connection: Connection) -> NativeSession:
        codec = by_subprotocol(connection.subprotocol)
        audience = self._audiences[codec.name, connection.compresses]
        return NativeSession(self.instance, connection, codec, audience, self._handlers[codec.name])


Handlers = dict[str, tuple[Callable[[Any], Any], Callable[[ParticipantPort, Any, Reply], Any]]]
"""By event: what decodes its data, and what handles it."""


class NativeSession:
    """One client. Implements `net.connection.Receiver` and `server.instance.Session`."""

    __slots__ = (
        "_build",
        "_closed",
        "_codec",
        "_connection",
        "_handlers",
        "_inbox",
        "_instance",
        "_parked",
        "participant",
    )

    def __init__(
        self, instance: Instance, connection: Connection, codec: Codec, audience: Audience, handlers: Handlers
    ) -> None:
        self._instance = instance
        self._connection = connection
        self._codec = codec
        self._build = BUILD[codec.opcode]
        self._handlers = handlers
        self._closed = False
        self._parked: trio.lowlevel.Task | None = None
        gauge = Gauge(connection, instance.settings.requests_waiting_max)
        address = connection.address
        self.participant = Participant(
            instance,
            audience,
            gauge,
            address,
            instance.limits.meter(address, connection.head.headers),
            connection.send,
            self.emit,
            connection.close,
        )
        self.participant.hear = self._hear
        self._inbox = Inbox(self._handle, self._perform, self._wake, gauge)
        instance.sessions.add(self)
        token = token_in(connection.head)
        if token is not None:
            self._inbox.begin(Work(self.participant.recognise(token), self._turn_away))

    # The connection's calls

    def receive(self, message: str | bytes) -> None:
        self._inbox.receive(message)

    def closed(self, close: Close) -> None:
        self._closed = True
        self._wake()

    async def run(self) -> None:
        try:
            while not (self._closed and self._inbox.idle):
                try:
                    await self._inbox.drain()
                except PeerError as error:
                    self._connection.close(error.close)
                if self._inbox.idle and not self._closed:
                    self._parked = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._unpark)
        finally:
            self.participant.end()
            self._instance.sessions.discard(self)

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    # Requests

    def _handle(self, message: str | bytes) -> Work | None:
        meter = self.participant.meter
        excess = None if meter is None else meter.event()
        try:
            request = self._codec.decode_request(message)
        except Rejected as refusal:
            self._instance.refusals[refusal.code] += 1
            self.send(self._codec.encode_refusal(None, refusal))
            return None
        event = request.event
        reply = NativeReply(self, request.id, event)
        handler = self._handlers.get(event)
        try:
            if excess is not None:
                raise excess
            if handler is None:
                raise Rejected("unknown_event", f"there is no event {event[:64]!r}")
            if not self.participant.trusted and event not in UNTRUSTED:
                raise Rejected("unauthorized", "hello with a token comes first")
            decode, handle = handler
            coroutine = handle(self.participant, decode(request.data), reply)
        except Rejected as refusal:
            reply(refusal)
            return None
        return None if coroutine is None else Work(coroutine, reply)

    async def _perform(self, work: Work) -> None:
        try:
            await work.coroutine
        except Rejected as refusal:
            self.participant.withdraw()
            work.context(refusal)
        self.participant.settle()

    def _turn_away(self, refusal: Rejected) -> None:
        """The token that came with the connection is a bad one. One that cannot be checked now, or comes too often, may
        come again."""
        self.refuse(None, refusal, "hello")
        if refusal.retry_after_ms is None and refusal.code != "unavailable":
            close = TOKEN_EXPIRED if isinstance(refusal, Expired) else UNAUTHORIZED
            self._connection.close(close)

    # Sending

    def send(self, payload: bytes) -> None:
        """Queue one encoded envelope."""
        connection = self._connection
        if connection.compresses:
            outgoing = Outgoing(payload, self._codec.opcode, self._instance.settings.deflate_bytes_min)
            connection.send(outgoing.frame(True))
        else:
            connection.send(self._build(payload))

    def emit(self, event: str, *args: Any) -> None:
        """Send an event to this client alone."""
        self.send(self._codec.encode_event(event, args[0] if args else None))

    def _hear(self, event: Event) -> None:
        rendered = native.render(event)
        if rendered is not None:
            self.emit(*rendered)

    def drain(self, reconnect_after_ms: int) -> None:
        self.emit("server:draining", native.Draining(reconnect_after_ms=reconnect_after_ms))

    def reply(self, id: int, data: Any) -> None:
        self.send(self._codec.encode_reply(id, data))

    def refuse(self, id: int | None, refusal: Rejected, event: str) -> None:
        self._instance.refusals[refusal.code] += 1
        self.send(self._codec.encode_refusal(id, refusal, event))


class NativeReply:
    """Answers one request; see `contracts.interface.Reply`."""

    __slots__ = ("_event", "_id", "_session")

    def __init__(self, session: NativeSession, id: int | None, event: str) -> None:
        self._session = session
        self._id = id
        self._event = event

    def __call__(self, answer: Any) -> None:
        if isinstance(answer, Rejected):
            self._session.refuse(self._id, answer, self._event)
        elif self._id is not None:
            self._session.reply(self._id, answer)
