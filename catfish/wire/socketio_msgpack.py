"""Socket.IO, version 5, in MessagePack: what clients with `socket.io-msgpack-parser` speak.

    {"type": 2, "nsp": "/", "data": ["name", …], "id": 7}      one binary Engine.IO message; bytes stand where they are

Source: socket.io-msgpack-parser 3.0 and its notepack.io 2.2, which writes JavaScript's `undefined` and dates as
extension type 0. Keys other than these four (the clients send `options`) mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from catfish.errors import PROTOCOL_ERROR, UNSUPPORTED_DATA, PeerError
from catfish.wire.nesting import is_deeper
from catfish.wire.socketio import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DEPTH_MAX,
    DISCONNECT,
    EVENT,
    MAIN,
    Packet,
    check_event,
    has_binary,
)

_ID_MAX: Final = 2**53
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class Decoder:
    """The packets of one connection. Has no state that one message leaves to the next.

    Args:
        depth_max: arrays and maps within each other in one packet.
    """

    __slots__ = ("_depth_max",)

    def __init__(self, *, depth_max: int = DEPTH_MAX) -> None:
        self._depth_max = depth_max

    def receive(self, message: str | bytes) -> Packet:
        """Take the next message, which is a packet.

        Raises:
            PeerError: it is none.
        """
        if isinstance(message, str):
            raise PeerError(UNSUPPORTED_DATA, "a text message; this parser has only binary ones")
        try:
            raw = _decode(message)
            if not isinstance(raw, dict):
                raise PeerError(PROTOCOL_ERROR, "a packet that is not a map")
            data = raw.get("data")
            _encode_json(data)  # everyone else in the room may speak JSON: keys have to be text, and so on
        except (ValueError, TypeError, OverflowError):
            raise PeerError(PROTOCOL_ERROR, "a packet that is not MessagePack, or more than JSON can express") from None
        except RecursionError:
            raise PeerError(PROTOCOL_ERROR, "a packet with too many arrays and maps within each other") from None
        if is_deeper(data, self._depth_max):
            raise PeerError(
                PROTOCOL_ERROR, f"a packet with more than {self._depth_max} arrays and maps within each other"
            )
        return _check(raw, data)


def _check(raw: dict[Any, Any], data: Any) -> Packet:
    kind, namespace, id = raw.get("type"), raw.get("nsp"), raw.get("id")
    if type(kind) is not int or not CONNECT <= kind <= CONNECT_ERROR:
        raise PeerError(PROTOCOL_ERROR, f"an unknown packet type: {kind!r:.20}")
    if not isinstance(namespace, str) or not namespace.startswith("/") or "," in namespace:
        raise PeerError(PROTOCOL_ERROR, "a packet whose namespace is not a path")
    if id is not None and (type(id) is not int or not 0 <= id <= _ID_MAX):
        raise PeerError(PROTOCOL_ERROR, "a packet id that is not a number, or a negative one, or beyond 2**53")
    namespace, _, query = namespace.partition("?")
    if kind == EVENT:
        check_event(data)
    elif kind == ACK:
        if not isinstance(data, list):
            raise PeerError(PROTOCOL_ERROR, "an acknowledgement whose payload is not a list")
    elif kind == CONNECT:
        if data is not None and not isinstance(data, dict):
            raise PeerError(PROTOCOL_ERROR, "a CONNECT whose payload is not a map")
    elif kind == DISCONNECT:
        if data is not None:
            raise PeerError(PROTOCOL_ERROR, "a DISCONNECT with a payload")
    elif not isinstance(data, (str, dict)):
        raise PeerError(PROTOCOL_ERROR, "a CONNECT_ERROR whose payload is neither a map nor text")
    return Packet(kind, namespace, id, data, isinstance(data, (list, dict)) and has_binary(data), query)


def build_packet(type: int, data: Any = None, *, namespace: str = MAIN, id: int | None = None) -> bytes:
    """Build a packet; `data` None is no payload at all.

    An integer beyond 64 bits, which JSON has and MessagePack has not, becomes the float that JavaScript makes of it.
    """
    packet: dict[str, Any] = {"type": type}
    if data is not None:
        packet["data"] = data
    packet["nsp"] = namespace
    if id is not None:
        packet["id"] = id
    try:
        return _encode(packet)
    except OverflowError:
        return _encode(_shrink(packet))


def build_event(
    name: str, args: Sequence[Any] = (), namespace: str = MAIN, id: int | None = None, *, offset: str | None = None
) -> bytes:
    """Build an event; see `wire.socketio.build_event`."""
    return build_packet(EVENT, [name, *args] if offset is None else [name, *args, offset], namespace=namespace, id=id)


def build_ack(args: Sequence[Any], id: int, namespace: str = MAIN) -> bytes:
    """Build an acknowledgement."""
    return build_packet(ACK, args, namespace=namespace, id=id)


def _shrink(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _shrink(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_shrink(value) for value in item]
    if type(item) is int and not _INT_MIN <= item <= _INT_MAX:
        try:
            return float(item)
        except OverflowError:
            return None  # JavaScript: Infinity, which its JSON writes as null
    return item


def _extension(code: int, data: memoryview) -> Any:
    if code == 0 and len(data) == 1:
        return None
    if code == 0 and len(data) == 8:  # milliseconds since the epoch, 64 bits, signed
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int.from_bytes(data, "big", signed=True))
    raise ValueError(f"an unknown extension type: {code}")


_decode: Final = msgspec.msgpack.Decoder(ext_hook=_extension).decode
_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode
