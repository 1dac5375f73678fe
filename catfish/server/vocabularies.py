"""Rooms for Socket.IO clients: sockets that speak one of the vocabularies of `catfish.contracts`.

`RoomsNamespace` is the application on a namespace. A socket is in no vocabulary until its first event that one of them
claims. What happens in a room is rendered once per vocabulary and packed once per codec; sessions on a plain WebSocket
are handed the finished frame.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from catfish.contracts import registry
from catfish.contracts.common import PING, first
from catfish.contracts.interface import Reply, Unknown, Vocabulary
from catfish.errors import NORMAL, TOKEN_EXPIRED, UNAUTHORIZED, Close, Rejected
from catfish.rooms.events import Event
from catfish.rooms.policy import bad_request
from catfish.rooms.room import Audience, LiveRoom
from catfish.server.engineio import Packets
from catfish.server.identification import token_in, token_in_query
from catfish.server.inbox import Gauge, Work
from catfish.server.instance import Instance
from catfish.server.participant import Participant
from catfish.server.recovery import SessionRecovery, format_offset
from catfish.server.socketio import Codec, ConnectRefused, Socket

log = logging.getLogger(__name__)

REFRESH: Final = "auth:refresh"
"""A client sends a fresh token: `{token}`, acknowledged with `{ok, expiresAt}` or `{ok, code, message}`."""
EXPIRED: Final = "auth:expired"
"""What it hears right before its connection is closed because its token has run out."""
REFUSED: Final = "auth:refused"
"""What it hears of a fresh token that is none, where it did not ask for an acknowledgement."""


class Encoder:
    """Events in one vocabulary and one codec; what goes to several audiences is encoded once."""

    __slots__ = ("_codec", "_event", "_namespace", "_packets", "_recovers", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, codec: Codec, namespace: str, *, recovers: bool) -> None:
        self._vocabulary = vocabulary
        self._recovers = recovers
        self._codec = codec
        self._namespace = namespace
        self._event: Event | None = None
        self._packets: Packets | None = None

    def encode(self, event: Event, room: LiveRoom, /) -> Packets | None:
        if event is not self._event:
            rendered = self._vocabulary.render(event, room)
            self._packets = None
            if rendered is not None:
                name, args = rendered
                offset = format_offset({room.number: room.told}) if self._recovers else None
                self._packets = self._codec.event(name, args, self._namespace, offset=offset)
            self._event = event
        return self._packets


class FrameAudience:
    """Sessions on WebSockets that all negotiated compression, or all did not: they are pushed frames."""

    __slots__ = ("_compresses", "_encode")

    def __init__(self, encoder: Encoder, compresses: bool) -> None:
        self._encode = encoder.encode
        self._compresses = compresses

    def encode(self, event: Event, room: LiveRoom, /) -> bytes | None:
        packets = self._encode(event, room)
        return None if packets is None else packets.frames(self._compresses)


class PollingAudience:
    """Sessions that poll: they are pushed packets."""

    __slots__ = ("_encode",)

    def __init__(self, encoder: Encoder) -> None:
        self._encode = encoder.encode

    def encode(self, event: Event, room: LiveRoom, /) -> Packets | None:
        return self._encode(event, room)


class PersonalAudience:
    """One session that can be recovered and is in several rooms: each event carries its own position in all of them."""

    __slots__ = ("_compresses", "_speaker")

    def __init__(self, speaker: Speaker, compresses: bool | None) -> None:
        self._speaker = speaker
        self._compresses = compresses

    def encode(self, event: Event, room: LiveRoom, /) -> bytes | Packets | None:
        speaker = self._speaker
        packets = speaker.pack(event, room, format_offset({**speaker.who.positions(), room.number: room.told}))
        return packets if packets is None or self._compresses is None else packets.frames(self._compresses)


class NoAudience:
    """Of a socket that speaks no vocabulary yet. It is in no room either."""

    def encode(self, event: Event, room: LiveRoom, /) -> None:
        return None


NOBODY: Final = NoAudience()


class RoomsNamespace:
    """Implements `server.socketio.NamespaceApp`.

    Args:
        name: of the namespace.
        vocabularies: in the order in which they are asked whose a first event is.
    """

    def __init__(
        self,
        instance: Instance,
        name: str,
        vocabularies: Sequence[Vocabulary],
        recovery: SessionRecovery | None = None,
    ) -> None:
        self.name = name
        self.instance = instance
        self.recovery = recovery
        self.ignored: Counter[str] = Counter()
        """Events that nobody knows, and refusals, by vocabulary."""
        self.vocabularies = vocabularies
        self._audiences: dict[tuple[str, str, bool | None], Audience] = {}
        self._encoders: dict[tuple[str, str], Encoder] = {}

    def admit(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        speaker = Speaker(self, socket)
        if speaker.who.meter is not None and (excess := speaker.who.meter.event()):
            self.instance.refusals[excess.code] += 1
            raise _connect_refused(excess)
        token = _token_of(socket)
        if token is not None or self.instance.tokens.required:
            return self._recognise(speaker, token)
        return None

    async def _recognise(self, speaker: Speaker, token: str | None) -> None:
        try:
            await speaker.who.recognise(token)
        except Rejected as refusal:
            self.instance.refusals[refusal.code] += 1
            raise _connect_refused(refusal) from None

    def connected(self, socket: Socket) -> None:
        """A new client hears nothing until it speaks; one that came back is in its rooms already."""
        speaker: Speaker = socket.data
        speaker.who.settle()

    def audience(self, vocabulary: Vocabulary, socket: Socket) -> Audience:
        """The form in which a socket gets events."""
        codec, connection = socket.client.codec, socket.client.session.connection
        compresses = None if connection is None else connection.compresses
        key = (vocabulary.name, codec.name, compresses)
        audience = self._audiences.get(key)
        if audience is None:
            encoder = self._encoders.get(key[:2])
            if encoder is None:
                recovers = self.recovery is not None
                encoder = self._encoders[key[:2]] = Encoder(vocabulary, codec, self.name, recovers=recovers)
            audience = PollingAudience(encoder) if compresses is None else FrameAudience(encoder, compresses)
            self._audiences[key] = audience
        return audience


class Speaker:
    """A socket and its vocabulary.

    Attributes:
        who: its identity and its rooms.
        vocabulary: None until it has spoken.
        secret: under which the session is saved; None when it cannot be recovered.
        saved: what is remembered of it.
    """

    __slots__ = ("_held", "_namespace", "saved", "secret", "socket", "vocabulary", "who")

    def __init__(self, namespace: RoomsNamespace, socket: Socket) -> None:
        self._namespace = namespace
        self._held: list[Callable[[], None]] | None = None
        self.socket = socket
        self.vocabulary: Vocabulary | None = None
        self.secret: str | None = None
        self.saved: Any = None
        self.who = self._make_participant()
        socket.data = self
        socket.handler = self._handle
        socket.moved = self._move
        socket.ended = self._end
        socket.dropped = self._drop

    def _make_participant(self) -> Participant:
        instance, socket = self._namespace.instance, self.socket
        gauge = Gauge(socket.client, instance.settings.requests_waiting_max)
        client, session = socket.client, socket.client.session
        if client.data is None:
            client.data = {}  # what limits it, it has in common with the connection's other sockets
        meter = instance.limits.meter(session.address, session.head.headers, client.data)
        return Participant(instance, NOBODY, gauge, session.address, meter, socket.send, self.emit, self._hang_up)

    async def start_over(self) -> None:
        """The session that the client asked for cannot be had: be a new one, which is in no room."""
        former, self.who = self.who, self._make_participant()
        self.who.trusted, self.vocabulary, self.saved = former.trusted, None, None
        if former.identified:
            self.who.resume(
                former.user, former.name, identified=True, grants=former.grants, expires_at=former.expires_at
            )
        former.end()

    def speak(self, vocabulary: Vocabulary) -> None:
        """From now on this is the socket's vocabulary."""
        self.vocabulary = vocabulary
        self._move()

    def _move(self) -> None:
        """The transport or the number of rooms changed, or the vocabulary is known now."""
        if self.vocabulary is None:
            return
        connection = self.socket.client.session.connection
        push: Callable[[Any], None] = self.socket.send if connection is None else connection.send
        audience: Audience
        if self._namespace.recovery is not None and len(self.who.rooms) > 1:
            audience = PersonalAudience(self, None if connection is None else connection.compresses)
        else:
            audience = self._namespace.audience(self.vocabulary, self.socket)
        self.who.move(audience, push)

    def _end(self, reason: str) -> None:
        if self._namespace.recovery is not None:
            self._namespace.recovery.ended(self)
        self.who.end()

    def _drop(self) -> None:
        self._end("")

    def _hang_up(self, close: Close) -> None:
        if close is NORMAL:
            self.socket.disconnect()
        elif close.code in (TOKEN_EXPIRED.code, UNAUTHORIZED.code):
            # A page sees of a closed connection that it is closed, and, when it polls, nothing else.
            self._emit(EXPIRED if close.code == TOKEN_EXPIRED.code else REFUSED, ({"message": close.reason},))
            self.socket.client.session.close(close)
        else:
            self.socket.client.session.close(close)

    # Sending

    def pack(self, event: Event, room: LiveRoom, offset: str | None) -> Packets | None:
        """An event for this socket alone."""
        assert self.vocabulary is not None
        rendered = self.vocabulary.render(event, room)
        if rendered is None:
            return None
        return self.socket.client.codec.event(*rendered, self.socket.namespace, offset=offset)

    def emit(self, event: str, *args: Any) -> None:
        """Send an event to this socket alone, that is not told to a room."""
        if self._held is not None:
            self._held.append(lambda: self._emit(event, args))
        else:
            self._emit(event, args)

    def _emit(self, event: str, args: tuple[Any, ...]) -> None:
        socket = self.socket
        offset = None if self._namespace.recovery is None else format_offset(self.who.positions())
        socket.send(socket.client.codec.event(event, args, socket.namespace, offset=offset))

    def acknowledge(self, id: int, values: Sequence[Any]) -> None:
        if self._held is not None:
            self._held.append(lambda: self.socket.ack(id, values))
        else:
            self.socket.ack(id, values)

    # Events

    def _handle(self, event: str, args: list[Any], id: int | None) -> Work | None:
        meter = self.who.meter
        if meter is not None and (excess := meter.event()):
            if self.vocabulary is not None:
                self._refuse(self.vocabulary, event, args, excess, None if id is None else SocketReply(self, id))
            return None
        if event == PING and id is not None:
            self.acknowledge(id, args[:1])
            return None
        reply = None if id is None else SocketReply(self, id)
        vocabulary = self.vocabulary
        if vocabulary is None:
            vocabulary = registry.choose(self._namespace.vocabularies, event, args)
            if vocabulary is None:
                return self._handle_unknown("", event, args, reply)
            self.speak(vocabulary)
        try:
            coroutine = vocabulary.handle(self.who, event, args, reply)
        except Unknown:
            return self._handle_unknown(vocabulary.name, event, args, reply)
        except Rejected as refusal:
            self._refuse(vocabulary, event, args, refusal, reply)
            return None
        if coroutine is None:
            return None

        async def perform(coroutine: Coroutine[Any, Any, None]) -> None:
            recovery = self._namespace.recovery
            if recovery is not None:
                self._held = []
            try:
                await coroutine
            except Rejected as refusal:
                self.who.withdraw()
                self._refuse(vocabulary, event, args, refusal, reply)
            if recovery is not None:
                await recovery.save(self)
                self._move()
            held, self._held = self._held, None
            for send in held or ():
                send()
            self.who.settle()

        return Work(coroutine, perform)

    def _handle_unknown(self, vocabulary: str, event: str, args: Sequence[Any], reply: Reply | None) -> Work | None:
        """What no vocabulary knows: a fresh token, or nothing that means anything here."""
        if event == REFRESH:
            return Work(self._refresh(first(args), reply))
        self._namespace.ignored[vocabulary] += 1
        return None

    async def _refresh(self, payload: Any, reply: Reply | None) -> None:
        token = payload.get("token") if isinstance(payload, dict) else payload
        try:
            if not isinstance(token, str):
                raise bad_request("token", "is required")
            await self.who.refresh(token.removeprefix("Bearer "))
        except Rejected as refusal:
            problem = {"code": refusal.code, "message": refusal.message}
            if reply is None:
                self.emit(REFUSED, problem)
            else:
                reply({"ok": False, **problem})
        else:
            if self._namespace.recovery is not None:
                await self._namespace.recovery.save(self)
            if reply is not None:
                reply({"ok": True, "expiresAt": self.who.expires_at})

    def _refuse(
        self, vocabulary: Vocabulary, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None
    ) -> None:
        self._namespace.ignored[vocabulary.name] += 1
        self._namespace.instance.refusals[refusal.code] += 1
        vocabulary.refuse(self.who, event, args, refusal, reply)


class SocketReply:
    """Acknowledges one event; see `contracts.interface.Reply`."""

    __slots__ = ("_id", "_speaker")

    def __init__(self, speaker: Speaker, id: int) -> None:
        self._speaker = speaker
        self._id = id

    def __call__(self, *values: Any) -> None:
        self._speaker.acknowledge(self._id, values)


def _connect_refused(refusal: Rejected) -> ConnectRefused:
    problem: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.retry_after_ms is not None:
        problem["retryAfterMs"] = refusal.retry_after_ms
    return ConnectRefused(refusal.code, problem)


def _token_of(socket: Socket) -> str | None:
    """The token in the auth payload, else in the query of the namespace, else in the header or the query of the request
    that opened the connection."""
    token = socket.auth.get("token")
    if isinstance(token, str) and token:
        return token.removeprefix("Bearer ")
    return token_in_query(socket.query) or token_in(socket.client.session.head)
