"""Socket.IO, version 5: packets in the encoding that clients speak unless they were told otherwise.

    <type>[<attachments>-][<namespace>,][<id>][<JSON>]      then the attachments, each a binary message of its own

Every packet is the data of one Engine.IO message. Bytes inside of an event or an acknowledgement do not fit into JSON:
each is sent after the packet as an attachment, and `{"_placeholder":true,"num":<index>}` stands in its place.

Source: the Socket.IO protocol, version 5 (github.com/socketio/socket.io-protocol), and where that leaves a choice the
reference parser, socket.io-parser 4.2. Stricter than that one on purpose, where no client would notice: a packet is
never empty, an event or acknowledgement has its payload (the protocol demands both), an id has at most 16 digits, and
an attachment is used once (used again and again it would multiply the bytes that everyone in a room is sent).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from catfish.errors import MESSAGE_TOO_BIG, PROTOCOL_ERROR, PeerError
from catfish.wire.nesting import is_deeper

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

MAIN: Final = "/"
"""The namespace that packets belong to when they name none."""

RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names that mean something to the clients' own machinery; an event may not have them."""

ATTACHMENTS_MAX: Final = 10
"""What the reference parser accepts unless it is told otherwise."""
DEPTH_MAX: Final = 100
"""As in `wire.native`: what was decoded must also be encodable from a deeper stack, and by every codec."""

_HEAD: Final = re.compile(r"([0-6])(?:([0-9]{1,9})-)?(?:(/[^,?]*)(?:\?([^,]*))?(?:,|\Z))?([0-9]*)")
_ID_DIGITS_MAX: Final = 16
"""Digits of 2**53, up to which a browser counts exactly."""


class Packet(msgspec.Struct):
    """A packet, its attachments back in their places. Binary events and acknowledgements are `EVENT` and `ACK`."""

    type: int
    namespace: str
    id: int | None
    """Of an event that wants an acknowledgement, and of that acknowledgement."""
    data: Any
    """CONNECT: a dict or None. CONNECT_ERROR: a dict or str. DISCONNECT: None.
    EVENT: a list, the name first. ACK: a list."""
    binary: bool = False
    """There were attachments: `data` holds `bytes`."""
    query: str = ""
    """What followed a `?` in the namespace; old clients put their parameters there."""


class Decoder:
    """The packets of one connection, in the order in which its messages come.

    Args:
        attachments_max: of one packet.
        depth_max: arrays and objects within each other in one packet.
    """

    __slots__ = ("_attachments", "_attachments_max", "_depth_max", "_places", "_waiting")

    def __init__(self, *, attachments_max: int = ATTACHMENTS_MAX, depth_max: int = DEPTH_MAX) -> None:
        self._attachments_max = attachments_max
        self._depth_max = depth_max
        self._waiting: Packet | None = None
        """A packet whose attachments have not all come."""
        self._places: Sequence[tuple[Any, Any] | None] = ()
        """Where each of its attachments belongs: container, and key or index; None where none belongs."""
        self._attachments = 0
        """How many have come."""

    def receive(self, message: str | bytes) -> Packet | None:
        """Take the next message; return the packet that it completes, if it does.

        Raises:
            PeerError: it is no packet, or not the one that has to come now. Nothing may be received after that.
        """
        if isinstance(message, bytes):
            return self._attach(message)
        if self._waiting is not None:
            raise PeerError(PROTOCOL_ERROR, "a packet before all attachments of the last one have come")
        if message[:2] == "2[":  # The way of most: an event in the main namespace without an id, or with one.
            return Packet(EVENT, MAIN, None, check_event(self._parse_json(message[1:])))
        if message[:1] == "2":
            start = message.find("[", 2, 2 + _ID_DIGITS_MAX)
            digits = message[1:start]
            if start > 0 and digits.isdecimal() and digits.isascii():
                return Packet(EVENT, MAIN, int(digits), check_event(self._parse_json(message[start:])))
        return self._parse(message)

    def _parse(self, message: str) -> Packet | None:
        head = _HEAD.match(message)
        if head is None:
            raise PeerError(PROTOCOL_ERROR, f"an unknown packet type: {message[:1]!r}")
        type, count, namespace, query, digits = int(head[1]), head[2], head[3] or MAIN, head[4] or "", head[5]
        if (count is not None) != (type >= BINARY_EVENT):
            raise PeerError(PROTOCOL_ERROR, "illegal attachments: binary packets, and they alone, say how many follow")
        if len(digits) > _ID_DIGITS_MAX:
            raise PeerError(PROTOCOL_ERROR, f"a packet id of more than {_ID_DIGITS_MAX} digits")
        text = message[head.end() :]
        data = self._parse_json(text) if text else None
        packet = Packet(type, namespace, int(digits) if digits else None, data, False, query)
        _check_payload(packet, bool(text))
        if count is None:
            return packet
        packet.type -= BINARY_EVENT - EVENT
        packet.binary = True
        self._await(packet, int(count))
        return None

    def _parse_json(self, text: str) -> Any:
        try:
            data = _decode_json(text)
        except msgspec.DecodeError:
            data = _decode_surrogates(text)
        except RecursionError:
            raise PeerError(PROTOCOL_ERROR, "a payload with too many arrays and objects within each other") from None
        except UnicodeEncodeError:
            raise PeerError(PROTOCOL_ERROR, "a payload that is not Unicode") from None
        # Brackets, each with another that closes it, are an upper bound of the depth; only suspects are measured.
        if len(text) > 2 * self._depth_max and text.count("[") + text.count("{") > self._depth_max:  # noqa: SIM102
            if is_deeper(data, self._depth_max):
                raise PeerError(
                    PROTOCOL_ERROR, f"a payload with more than {self._depth_max} arrays and objects within each other"
                )
        return data

    def _await(self, packet: Packet, count: int) -> None:
        if count < 1:
            raise PeerError(PROTOCOL_ERROR, "illegal attachments: a binary packet has at least one")
        if count > self._attachments_max:
            raise PeerError(MESSAGE_TOO_BIG, f"{count} attachments; at most {self._attachments_max} are taken")
        self._places = _find_places(packet.data, count)
        self._attachments = 0
        self._waiting = packet

    def _attach(self, attachment: bytes) -> Packet | None:
        packet = self._waiting
        if packet is None:
            raise PeerError(PROTOCOL_ERROR, "an attachment that belongs to no packet")
        place = self._places[self._attachments]
        if place is not None:
            container, key = place
            container[key] = attachment
        self._attachments += 1
        if self._attachments < len(self._places):
            return None
        self._waiting = None
        self._places = ()
        return packet


def check_event(data: Any) -> list[Any]:
    """The payload of an event: its name and its arguments. A name that is a number becomes the text of it.

    Raises:
        PeerError: it is no list, or does not begin with a name that an event may have.
    """
    if type(data) is list and data:
        name = data[0]
        if type(name) is str:
            if name not in RESERVED_EVENTS:
                return data
            raise PeerError(PROTOCOL_ERROR, f"an event with a reserved name: {name}")
        if type(name) is int:
            data[0] = str(name)
            return data
        if type(name) is float:
            data[0] = str(int(name)) if name.is_integer() else repr(name)
            return data
    raise PeerError(PROTOCOL_ERROR, "an event whose payload is not a list that begins with a name")


def _check_payload(packet: Packet, present: bool) -> None:
    """What each type may carry. `present` tells JSON's null from nothing at all."""
    type, data = packet.type, packet.data
    if type in (EVENT, BINARY_EVENT):
        check_event(data)
    elif type in (ACK, BINARY_ACK):
        if not isinstance(data, list):
            raise PeerError(PROTOCOL_ERROR, "an acknowledgement whose payload is not a list")
    elif type == CONNECT:
        if present and not isinstance(data, dict):
            raise PeerError(PROTOCOL_ERROR, "a CONNECT whose payload is not an object")
    elif type == DISCONNECT:
        if present:
            raise PeerError(PROTOCOL_ERROR, "a DISCONNECT with a payload")
    elif not isinstance(data, (str, dict)):
        raise PeerError(PROTOCOL_ERROR, "a CONNECT_ERROR whose payload is neither an object nor text")


def _find_places(data: Any, count: int) -> list[tuple[Any, Any] | None]:
    """Where the attachments belong in the payload of a binary packet."""
    places: list[tuple[Any, Any] | None] = [None] * count
    stack: list[Any] = [data]
    while stack:
        outer = stack.pop()
        for key, inner in outer.items() if isinstance(outer, dict) else enumerate(outer):
            if isinstance(inner, list):
                stack.append(inner)
            elif isinstance(inner, dict):
                if inner.get("_placeholder") is not True:
                    stack.append(inner)
                    continue
                number = inner.get("num")
                if type(number) is not int or not 0 <= number < count or places[number] is not None:
                    raise PeerError(PROTOCOL_ERROR, f"illegal attachments: {number!r} of {count} in a placeholder")
                places[number] = (outer, key)
    return places


# Encoding. A packet is built once, and its bytes are shared by everyone who is to have it.


def build_packet(
    type: int, data: Any = None, *, namespace: str = MAIN, id: int | None = None, binary: bool | None = None
) -> tuple[bytes, Sequence[bytes]]:
    """Build a packet and its attachments.

    Args:
        type: `EVENT` and `ACK` become their binary counterparts where `data` holds bytes.
        data: what JSON can express, and bytes; None is no payload at all.
        binary: whether an event or acknowledgement holds bytes; None looks for them.
    """
    attachments: list[bytes] = []
    if type in (EVENT, ACK) and (has_binary(data) if binary is None else binary):
        data = _extract(data, attachments)
        start = b"%d%d-" % (type + BINARY_EVENT - EVENT, len(attachments))
    else:
        start = b"%d" % type
    if namespace != MAIN:
        start += namespace.encode() + b","
    if id is not None:
        start += b"%d" % id
    return (start if data is None else start + _encode_json(data)), attachments


def build_event(
    name: str,
    args: Sequence[Any] = (),
    namespace: str = MAIN,
    id: int | None = None,
    *,
    offset: str | None = None,
    binary: bool | None = None,
) -> tuple[bytes, Sequence[bytes]]:
    """Build an event and its attachments.

    Args:
        offset: where clients that recover their state continue from; it travels as one more argument.
        binary: whether there are bytes among the arguments; None looks for them.
    """
    data = [name, *args] if offset is None else [name, *args, offset]
    if binary is None:
        binary = has_binary(data)
    if binary or id is not None or namespace != MAIN:
        return build_packet(EVENT, data, namespace=namespace, id=id, binary=binary)
    return b"2" + _encode_json(data), ()


def build_ack(
    args: Sequence[Any], id: int, namespace: str = MAIN, *, binary: bool | None = None
) -> tuple[bytes, Sequence[bytes]]:
    """Build an acknowledgement and its attachments."""
    if binary is None:
        binary = has_binary(args)
    if binary or namespace != MAIN:
        return build_packet(ACK, args, namespace=namespace, id=id, binary=binary)
    return b"3%d" % id + _encode_json(args), ()


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def has_binary(data: Any) -> bool:
    """Whether there are bytes in lists, tuples and dicts within each other."""
    for item in data.values() if isinstance(data, dict) else data:
        if type(item) in _SCALARS:
            continue
        if isinstance(item, (dict, list, tuple)):
            if has_binary(item):
                return True
        elif isinstance(item, (bytes, bytearray, memoryview)):
            return True
    return False


def _extract(item: Any, attachments: list[bytes]) -> Any:
    """A copy with placeholders in the places of bytes; those go to `attachments`, in the order of the text."""
    if isinstance(item, dict):
        return {key: _extract(value, attachments) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_extract(value, attachments) for value in item]
    if isinstance(item, (bytes, bytearray, memoryview)):
        attachments.append(bytes(item))
        return {"_placeholder": True, "num": len(attachments) - 1}
    return item


_decode_json: Final = msgspec.json.Decoder().decode
_encode_json: Final = msgspec.json.Encoder().encode


def _decode_surrogates(text: str) -> Any:
    """Decode JSON with half a character in it, which a browser sends when a text was cut inside of an emoji.

    No other encoder may be given such a half, so it becomes U+FFFD.
    """
    try:
        if "\\ud" not in text and "\\uD" not in text:
            raise ValueError
        halves = json.dumps(json.loads(text), ensure_ascii=False)
        return _decode_json(halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        raise PeerError(PROTOCOL_ERROR, "a payload that is not JSON") from None
