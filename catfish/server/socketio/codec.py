"""The two encodings of Socket.IO packets, as packets of Engine.IO that are built once and pushed to many sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from catfish.config import Settings
from catfish.server.engineio import Packets, Session
from catfish.wire import socketio as wire
from catfish.wire import socketio_msgpack as wire_msgpack
from catfish.wire.websocket.frames import BINARY


class Decoder(Protocol):
    """The packets of one connection; see `wire.socketio.Decoder`."""

    def receive(self, message: str | bytes) -> wire.Packet | None: ...


class Codec(Protocol):
    """An encoding. Has no state; one for a server."""

    name: Literal["json", "msgpack"]

    def decoder(self) -> Decoder:
        """For a new connection."""
        ...

    def packet(self, type: int, data: Any, namespace: str) -> Packets:
        """A packet without an id: CONNECT, CONNECT_ERROR, DISCONNECT."""
        ...

    def event(
        self,
        name: str,
        args: Sequence[Any],
        namespace: str,
        id: int | None = None,
        *,
        offset: str | None = None,
        binary: bool | None = None,
    ) -> Packets:
        """An event; see `wire.socketio.build_event`."""
        ...

    def answer(self, session: Session, args: Sequence[Any], id: int, namespace: str) -> None:
        """Send an acknowledgement, which only one session ever gets."""
        ...


class JsonCodec:
    """What clients speak unless they were told otherwise."""

    name: Literal["json", "msgpack"] = "json"

    def __init__(self, settings: Settings) -> None:
        self._deflate_bytes_min = settings.deflate_bytes_min
        self._attachments_max = settings.attachments_max

    def decoder(self) -> Decoder:
        return wire.Decoder(attachments_max=self._attachments_max)

    def packet(self, type: int, data: Any, namespace: str) -> Packets:
        packet, _ = wire.build_packet(type, data, namespace=namespace)
        return Packets(b"4" + packet, deflate_bytes_min=self._deflate_bytes_min)

    def event(
        self,
        name: str,
        args: Sequence[Any],
        namespace: str,
        id: int | None = None,
        *,
        offset: str | None = None,
        binary: bool | None = None,
    ) -> Packets:
        packet, attachments = wire.build_event(name, args, namespace, id, offset=offset, binary=binary)
        return Packets(b"4" + packet, attachments, deflate_bytes_min=self._deflate_bytes_min)

    def answer(self, session: Session, args: Sequence[Any], id: int, namespace: str) -> None:
        packet, attachments = wire.build_ack(args, id, namespace)
        if attachments:
            session.push(Packets(b"4" + packet, attachments, deflate_bytes_min=self._deflate_bytes_min))
        else:
            session.send_text(b"4" + packet)


class MsgpackCodec:
    """What clients with `socket.io-msgpack-parser` speak."""

    name: Literal["json", "msgpack"] = "msgpack"

    def __init__(self, settings: Settings) -> None:
        self._deflate_bytes_min = settings.deflate_bytes_min

    def decoder(self) -> Decoder:
        return wire_msgpack.Decoder()

    def packet(self, type: int, data: Any, namespace: str) -> Packets:
        return self._packets(wire_msgpack.build_packet(type, data, namespace=namespace))

    def event(
        self,
        name: str,
        args: Sequence[Any],
        namespace: str,
        id: int | None = None,
        *,
        offset: str | None = None,
        binary: bool | None = None,
    ) -> Packets:
        return self._packets(wire_msgpack.build_event(name, args, namespace, id, offset=offset))

    def answer(self, session: Session, args: Sequence[Any], id: int, namespace: str) -> None:
        session.push(self._packets(wire_msgpack.build_ack(args, id, namespace)))

    def _packets(self, packet: bytes) -> Packets:
        return Packets(packet, opcode=BINARY, deflate_bytes_min=self._deflate_bytes_min)


def make_codec(name: Literal["json", "msgpack"], settings: Settings) -> Codec:
    return JsonCodec(settings) if name == "json" else MsgpackCodec(settings)
