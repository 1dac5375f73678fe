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
from catfish.contracts.interface import Reply, Unknown, Vocabulary
from catfish.errors import NORMAL, Close, Rejected
from catfish.rooms.events import Event
from catfish.rooms.room import Audience, LiveRoom
from catfish.server.engineio import Packets
from catfish.server.inbox import Gauge, Work
from catfish.server.instance import Instance
from catfish.server.participant import Participant
from catfish.server.socketio import Codec, ConnectRefused, Recovery, Socket

log = logging.getLogger(__name__)

PROBE: Final = "ping"
"""An event of this name is answered with its first argument, whatever the vocabulary; for people and load tools."""


class Encoder:
    """Events in one vocabulary and one codec; what goes to several audiences is encoded once."""

    __slots__ = ("_codec", "_event", "_namespace", "_packets", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, codec: Codec, namespace: str) -> None:
        self._vocabulary = vocabulary
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
                self._packets = self._codec.event(name, args, self._namespace)
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
        recovery: Recovery | None = None,
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
        token = _token_of(socket)
        tokens = self.instance.tokens
        # Without a secret nobody can tell what a token is worth, and none is needed.
        if tokens.required or (token is not None and tokens.checks):
            return self._authenticate(speaker, token)
        return None

    async def _authenticate(self, speaker: Speaker, token: str | None) -> None:
        try:
            await speaker.who.authenticate(token, None, None)
        except Rejected as refusal:
            raise ConnectRefused(refusal.code, {"code": refusal.code, "message": refusal.message}) from None

    def connected(self, socket: Socket) -> None:
        """Nothing is said until the client speaks."""

    def audience(self, vocabulary: Vocabulary, socket: Socket) -> Audience:
        """The form in which a socket gets events."""
        codec, connection = socket.client.codec, socket.client.session.connection
        compresses = None if connection is None else connection.compresses
        key = (vocabulary.name, codec.name, compresses)
        audience = self._audiences.get(key)
        if audience is None:
            encoder = self._encoders.get(key[:2])
            if encoder is None:
                encoder = self._encoders[key[:2]] = Encoder(vocabulary, codec, self.name)
            audience = PollingAudience(encoder) if compresses is None else FrameAudience(encoder, compresses)
            self._audiences[key] = audience
        return audience


class Speaker:
    """A socket and its vocabulary."""

    __slots__ = ("_namespace", "_socket", "vocabulary", "who")

    def __init__(self, namespace: RoomsNamespace, socket: Socket) -> None:
        self._namespace = namespace
        self._socket = socket
        self.vocabulary: Vocabulary | None = None
        gauge = Gauge(socket.client, namespace.instance.settings.requests_waiting_max)
        self.who = Participant(namespace.instance, NOBODY, gauge, socket.send, socket.emit, self._hang_up)
        socket.data = self
        socket.handler = self._handle
        socket.moved = self._move
        socket.ended = self._end

    def speak(self, vocabulary: Vocabulary) -> None:
        """From now on this is the socket's vocabulary."""
        self.vocabulary = vocabulary
        self._move()

    def _move(self) -> None:
        """The transport changed, or the vocabulary is known now."""
        if self.vocabulary is None:
            return
        connection = self._socket.client.session.connection
        push: Callable[[Any], None] = self._socket.send if connection is None else connection.send
        self.who.move(self._namespace.audience(self.vocabulary, self._socket), push)

    def _end(self, reason: str) -> None:
        self.who.end()

    def _hang_up(self, close: Close) -> None:
        if close is NORMAL:
            self._socket.disconnect()
        else:
            self._socket.client.session.close(close)

    # Events

    def _handle(self, event: str, args: list[Any], id: int | None) -> Work | None:
        reply = None if id is None else SocketReply(self._socket, id)
        if event == PROBE and reply is not None:
            reply(*args[:1])
            return None
        vocabulary = self.vocabulary
        if vocabulary is None:
            vocabulary = registry.choose(self._namespace.vocabularies, event, args)
            if vocabulary is None:
                self._namespace.ignored[""] += 1
                return None
            self.speak(vocabulary)
        try:
            coroutine = vocabulary.handle(self.who, event, args, reply)
        except Unknown:
            self._namespace.ignored[vocabulary.name] += 1
            return None
        except Rejected as refusal:
            self._refuse(vocabulary, event, args, refusal, reply)
            return None
        if coroutine is None:
            return None

        async def perform(coroutine: Coroutine[Any, Any, None]) -> None:
            try:
                await coroutine
            except Rejected as refusal:
                self._refuse(vocabulary, event, args, refusal, reply)
            self.who.settle()

        return Work(coroutine, perform)

    def _refuse(
        self, vocabulary: Vocabulary, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None
    ) -> None:
        self._namespace.ignored[vocabulary.name] += 1
        vocabulary.refuse(self.who, event, args, refusal, reply)


class SocketReply:
    """Acknowledges one event; see `contracts.interface.Reply`."""

    __slots__ = ("_id", "_socket")

    def __init__(self, socket: Socket, id: int) -> None:
        self._socket = socket
        self._id = id

    def __call__(self, *values: Any) -> None:
        self._socket.ack(self._id, values)


def _token_of(socket: Socket) -> str | None:
    """The token in the auth payload, else the one in the header (RFC 6750 section 2.1) of the request that opened the
    connection."""
    token = socket.auth.get("token")
    if isinstance(token, str) and token:
        return token.removeprefix("Bearer ")
    scheme, _, value = socket.client.session.head.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None
