"""Engine.IO, version 4: packets, polling payloads, the handshake, and the answers to requests that are refused.

    <type>[<data>]       a packet: one character that says its type, then text
    b<base64>            a binary message inside a polling payload; over WebSocket it is a binary message without a type
    <packet>\x1e<packet> a payload: what one poll answers, or one POST carries

Source: the Engine.IO protocol, version 4 (github.com/socketio/engine.io-protocol), and where that leaves a choice the
reference server, engine.io 6.6.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from catfish.errors import MESSAGE_TOO_BIG, PROTOCOL_ERROR, PeerError

VERSION: Final = "4"
"""What the query parameter `EIO` has to say."""

OPEN: Final = "0"
CLOSE: Final = "1"
PING: Final = "2"
PONG: Final = "3"
MESSAGE: Final = "4"
UPGRADE: Final = "5"
NOOP: Final = "6"

TYPES: Final = frozenset((OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP))
_BASE64: Final = "b"

CLOSE_PACKET: Final = b"1"
PING_PACKET: Final = b"2"
PROBE_PACKET: Final = "2probe"
PROBE_ANSWER: Final = b"3probe"
NOOP_PACKET: Final = b"6"

SEPARATOR: Final = b"\x1e"
"""Between the packets of a payload. JSON escapes it inside of strings, so Socket.IO never has it in a packet."""

Packet = tuple[str, str | bytes]
"""Type and data. Only a message may be binary."""


def parse_packet(message: str | bytes) -> Packet:
    """Take a packet apart: `str` that came as text (or in a payload), `bytes` that came as a binary message.

    Raises:
        PeerError: it is empty, of no known type, or not base64 where it says so.
    """
    if isinstance(message, bytes):
        return MESSAGE, message
    kind = message[:1]
    if kind in TYPES:
        return kind, message[1:]
    if kind == _BASE64:
        try:
            return MESSAGE, a2b_base64(message[1:], strict_mode=True)
        except (Base64Error, ValueError):  # ValueError: characters beyond ASCII
            raise PeerError(PROTOCOL_ERROR, "a binary packet that is not base64") from None
    raise PeerError(PROTOCOL_ERROR, f"an unknown packet type: {kind!r}" if kind else "an empty packet")


def build_message(data: str | bytes) -> bytes:
    """A message as a WebSocket carries it: text gets its type in front, binary data is sent as it is."""
    return data if isinstance(data, bytes) else b"4" + data.encode()


def build_base64(data: bytes) -> bytes:
    """A binary message as a payload carries it."""
    return b"b" + b2a_base64(data, newline=False)


def build_payload(packets: Iterable[bytes]) -> bytes:
    """The body that answers a poll; binary messages have gone through `build_base64`."""
    return SEPARATOR.join(packets)


class Payload:
    """The body of one POST: takes the pieces in which it comes, and takes it apart when it is whole.

    Args:
        bytes_max: of the body; the client learned it in the handshake as `maxPayload`.
        packets_max: in the body.
    """

    __slots__ = ("_bytes_max", "_packets_max", "_pieces", "_size", "failure")

    def __init__(self, *, bytes_max: int, packets_max: int) -> None:
        self._bytes_max = bytes_max
        self._packets_max = packets_max
        self._pieces: list[bytes] = []
        self._size = 0
        self.failure: PeerError | None = None
        """Set by `finish` when the payload broke the protocol; the packets before that place still count."""

    def receive(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            PeerError: the body is larger than it may be (`MESSAGE_TOO_BIG`).
        """
        self._size += len(piece)
        if self._size > self._bytes_max:
            self._pieces.clear()
            raise PeerError(MESSAGE_TOO_BIG, f"a payload of more than {self._bytes_max} bytes")
        self._pieces.append(piece)

    def finish(self) -> list[Packet]:
        """The packets, in order, up to the first that is wrong; `failure` then says what is wrong with it."""
        packets: list[Packet] = []
        try:
            parts = b"".join(self._pieces).decode().split("\x1e", self._packets_max)
            if len(parts) > self._packets_max:
                raise PeerError(MESSAGE_TOO_BIG, f"more than {self._packets_max} packets in a payload")
            for part in parts:
                packets.append(parse_packet(part))
        except UnicodeDecodeError:
            self.failure = PeerError(PROTOCOL_ERROR, "a payload that is not UTF-8")
        except PeerError as failure:
            self.failure = failure
        return packets


class _Handshake(msgspec.Struct, rename="camel"):
    """Exactly these keys, in this order; clients and test suites look for no others."""

    sid: str
    upgrades: Sequence[str]
    ping_interval: int
    ping_timeout: int
    max_payload: int


def build_open(
    sid: str, *, upgrades: Sequence[str], ping_interval_ms: int, ping_timeout_ms: int, max_payload_bytes: int
) -> bytes:
    """The packet that opens a session. `upgrades` names the transports that this one can move to."""
    return b"0" + msgspec.json.encode(_Handshake(sid, upgrades, ping_interval_ms, ping_timeout_ms, max_payload_bytes))


class Refusal(NamedTuple):
    """How a request is refused; the code is the protocol's own."""

    code: int
    status: int
    message: str

    @property
    def body(self) -> bytes:
        """JSON, also where the request asked for a WebSocket."""
        return b'{"code":%d,"message":"%b"}' % (self.code, self.message.encode())


UNKNOWN_TRANSPORT: Final = Refusal(0, 400, "Transport unknown")
UNKNOWN_SID: Final = Refusal(1, 400, "Session ID unknown")
BAD_HANDSHAKE_METHOD: Final = Refusal(2, 400, "Bad handshake method")
BAD_REQUEST: Final = Refusal(3, 400, "Bad request")
FORBIDDEN: Final = Refusal(4, 403, "Forbidden")
TOO_MANY_REQUESTS: Final = Refusal(3, 429, "Too many requests")
TOO_MANY_SESSIONS: Final = Refusal(3, 503, "Too many sessions")
"""These two are not in the protocol."""
UNSUPPORTED_VERSION: Final = Refusal(5, 400, "Unsupported protocol version")

REFUSALS: Final = (UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_HANDSHAKE_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED_VERSION)
"""Every refusal, by its code."""
