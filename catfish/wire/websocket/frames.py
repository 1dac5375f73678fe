"""Frames: the bytes of one connection to messages, and messages to frames (RFC 6455 section 5).

Theory of operation. The parser is in one of four states:

    IDLE        no message has begun; a frame's header comes next
    BETWEEN     a message has begun and its last frame is still to come; a header comes next
    INSIDE      in the payload of a data frame
    OVER        a close frame came, or the peer broke the protocol (`failure`); whatever follows is ignored

`receive` has a loop for what nearly every frame is: text or binary, whole, masked, uncompressed, complete in the
buffer, IDLE before and after. It takes such a frame with two slices, one C call that unmasks and one that decodes, no
further Python call, and no object but the message and its tuple: 0.42 us for a frame of 100 bytes, which is what the
sketch that proved the idea takes (0.45; alone in its read 0.58 and 0.49, the list being the difference). That is what
keeps a Python server beside native ones (PERFORMANCE.md). On anything else the loop stops, without having decided
anything, and `_step` goes on: there every rule has its place, and a frame that breaks one is told which.

Of a header or a control frame nothing is kept but its raw bytes until it is complete (130 at most). The payload of a
data frame is unmasked, inflated, checked and stored as it arrives; each byte is handled once, in pieces of whatever
size, so the cost stays linear. UTF-8 is checked with every piece, so a message is refused at its first wrong byte and
not at its end. An idle parser is one object of 104 bytes.

Which fault is found does not depend on how the bytes were cut, with one exception: when inflating fails, zlib gives no
output of that piece, so that wrong UTF-8 just before the wrong DEFLATE data may go unseen. Both close with 1007.
"""

from __future__ import annotations

from codecs import utf_8_decode
from struct import pack
from typing import Any, Final

from catfish.errors import INVALID_TEXT, MESSAGE_TOO_BIG, PROTOCOL_ERROR, Close, PeerError
from catfish.wire.websocket.deflate import Inflater

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel with the C module for this machine
    from websockets.utils import apply_mask

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

Event = tuple[int, Any]
"""(TEXT, str), (BINARY, bytes), (PING, bytes), (PONG, bytes) or (CLOSE, (code, reason))."""

NO_STATUS: Final = 1005
"""Stands for a close frame without a code; never sent (RFC 6455 section 7.1.5)."""

_CODES_DEFINED: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Codes below 3000 that a close frame may carry: RFC 6455 section 7.4.1, and 1012 to 1014 of IANA's registry."""
_CONTROL_BYTES_MAX: Final = 125  # RFC 6455 section 5.5

_IDLE: Final = 0
_BETWEEN: Final = 1
_INSIDE: Final = 2
_OVER: Final = 3

_FIN: Final = 0x80
_RSV1: Final = 0x40
_RSV2_RSV3: Final = 0x30
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_MASKED: Final = 0x80


def _refusal_of(first: int, state: int, deflate: bool) -> str | None:
    """What is wrong with a frame of this first byte in this state; None when nothing is."""
    opcode = first & _OPCODE
    if first & _RSV2_RSV3 or (first & _RSV1 and not deflate):
        return "reserved bit is set"  # RFC 6455 section 5.2
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        return f"opcode {opcode} is unknown"  # section 5.2
    if opcode & _CONTROL:
        if not first & _FIN:
            return "control frame is fragmented"  # section 5.5
        return "control frame is compressed" if first & _RSV1 else None  # RFC 7692 section 6.1
    if opcode == CONTINUATION:
        if state == _IDLE:
            return "continuation of no message"  # RFC 6455 section 5.4
        return "continuation has RSV1 set" if first & _RSV1 else None  # RFC 7692 section 6.1
    return "message begins inside another" if state == _BETWEEN else None  # RFC 6455 section 5.4


_REFUSALS: Final = {
    deflate: tuple(tuple(_refusal_of(first, state, deflate) for first in range(256)) for state in (_IDLE, _BETWEEN))
    for deflate in (False, True)
}
"""What may come next: `_REFUSALS[deflate was agreed][state][first byte]`."""


class _Message:
    """A message that did not come in one piece, so far."""

    __slots__ = ("announced", "compressed", "content", "fin", "fragments", "mask", "opcode", "remaining", "utf8_rest")

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.fragments = 0
        self.announced = 0  # bytes of payload in the frames so far, by their headers
        self.content = bytearray()  # inflated; checked if it is text
        self.utf8_rest = b""  # up to three bytes at the end of `content`: a character that is not complete yet
        # Of the frame at hand:
        self.fin = False
        self.remaining = 0  # bytes of payload that have not come yet
        self.mask = b""  # turned so that it begins with the byte for the next byte of payload


class FrameParser:
    """Parses what one client sends after its handshake.

    Args:
        message_bytes_max: bytes of one message, inflated; a larger one fails with 1009, as soon as that is known.
        fragments_max: frames of one message; one more fails with 1009.
        inflate: given when permessage-deflate was agreed on.
    """

    __slots__ = (
        "_bytes_max",
        "_fragments_max",
        "_inflate",
        "_kept",
        "_message",
        "_refusals",
        "_small_bytes_max",
        "_state",
        "failure",
    )

    def __init__(self, *, message_bytes_max: int, fragments_max: int, inflate: Inflater | None = None) -> None:
        self._bytes_max = message_bytes_max
        self._small_bytes_max = min(message_bytes_max, 125)  # of a frame whose length is in its second byte
        self._fragments_max = fragments_max
        self._inflate = inflate
        self._refusals = _REFUSALS[inflate is not None]
        self._state = _IDLE
        self._kept = b""  # an incomplete header or control frame
        self._message: _Message | None = None  # in the states BETWEEN and INSIDE
        self.failure: PeerError | None = None
        """How the peer broke the protocol, and the close to answer with."""

    def receive(self, data: bytes) -> list[Event]:
        """Return what has become complete with these bytes, in order.

        When the peer breaks the protocol, everything before that is returned and `failure` is set. After that, and
        after (CLOSE, ...), more bytes give nothing.
        """
        events: list[Event] = []
        if self._kept:
            data = self._kept + data
            self._kept = b""
        position = 0
        end = len(data)
        small_bytes_max = self._small_bytes_max
        while True:
            if self._state == _IDLE:
                # The hot path; see the top of this file. Every `break` leaves the frame to `_step`.
                while end - position >= 6:
                    first = data[position]
                    length = data[position + 1] - _MASKED
                    if 0 <= length <= small_bytes_max:
                        start = position + 6
                    elif length == 126 and end - position >= 8:
                        length = data[position + 2] << 8 | data[position + 3]
                        if length < 126 or length > self._bytes_max:
                            break
                        start = position + 8
                    else:
                        break
                    stop = start + length
                    if stop > end:
                        break
                    if first == 0x81:  # TEXT and FIN
                        try:
                            events.append((TEXT, apply_mask(data[start:stop], data[start - 4 : start]).decode()))
                        except UnicodeDecodeError:
                            break
                    elif first == 0x82:  # BINARY and FIN
                        events.append((BINARY, apply_mask(data[start:stop], data[start - 4 : start])))
                    else:
                        break
                    position = stop
            if position == end:
                return events
            try:
                position = self._step(data, position, events)
            except PeerError as error:
                self._fail(error)
                return events

    def _fail(self, error: PeerError) -> None:
        # Its traceback and context refer to the buffers; a failed connection must not keep them while it closes.
        error.__context__ = None
        self.failure = error.with_traceback(None)
        self._state = _OVER
        self._message = self._inflate = None

    def _step(self, data: bytes, position: int, events: list[Event]) -> int:
        """Take one frame, or what there is of it, by all the rules. Return the position after it.

        Raises:
            PeerError: the peer broke the protocol.
        """
        if self._state == _INSIDE:
            return self._take_payload(data, position, events)
        if self._state == _OVER:
            return len(data)
        available = len(data) - position
        if available < 2:
            return self._keep(data, position)
        first, second = data[position], data[position + 1]
        refusal = self._refusals[self._state][first]
        if refusal is not None:
            raise PeerError(PROTOCOL_ERROR, refusal)
        if not second & _MASKED:  # RFC 6455 section 5.1
            raise PeerError(PROTOCOL_ERROR, "frame is not masked")
        length = second & 0x7F
        if first & _CONTROL:
            if length > _CONTROL_BYTES_MAX:  # section 5.5
                raise PeerError(PROTOCOL_ERROR, "control frame is longer than 125 bytes")
            if available < 6 + length:
                return self._keep(data, position)
            start = position + 6
            self._take_control(
                first & _OPCODE, apply_mask(data[start : start + length], data[start - 4 : start]), events
            )
            return start + length
        return self._take_data_frame(data, position, first, length, events)

    def _take_data_frame(self, data: bytes, position: int, first: int, length: int, events: list[Event]) -> int:
        """As `_step`, for a data frame whose first two bytes are sound; `length` is what the second says."""
        available = len(data) - position
        header_bytes = 6 if length < 126 else 8 if length == 126 else 14
        if available < header_bytes - 4:
            return self._keep(data, position)
        if length >= 126:
            shortest = 126 if length == 126 else 65_536
            length = int.from_bytes(data[position + 2 : position + header_bytes - 4], "big")
            # Section 5.2: minimal, and at most 63 bits.
            if length < shortest:
                raise PeerError(PROTOCOL_ERROR, "length is not in its shortest form")
            if length >= 1 << 63:
                raise PeerError(PROTOCOL_ERROR, "length has its highest bit set")
        start = position + header_bytes
        # RSV1 means IDLE: only the first frame of a message may have it.
        if first & _RSV1 and first & _FIN and length <= self._bytes_max and available >= header_bytes + length:
            payload = apply_mask(data[start : start + length], data[start - 4 : start])
            self._take_compressed(first & _OPCODE, payload, events)
            return start + length
        message = self._message or _Message(first & _OPCODE, bool(first & _RSV1))
        self._check_limits(message, length)  # before the mask has come: a payload too large is never waited for
        if available < header_bytes:
            return self._keep(data, position)
        message.fragments += 1
        message.announced += length
        message.fin = bool(first & _FIN)
        message.remaining = length
        message.mask = data[start - 4 : start]
        self._message = message
        self._state = _INSIDE
        return self._take_payload(data, start, events)

    def _keep(self, data: bytes, position: int) -> int:
        self._kept = data[position:]
        return len(data)

    def _check_limits(self, message: _Message, length: int) -> None:
        if message.fragments >= self._fragments_max:
            raise PeerError(MESSAGE_TOO_BIG, f"message has more than {self._fragments_max} frames")
        bytes_max = self._bytes_max
        if message.compressed:
            # What counts is the inflated size. This much more is what deflate can add to data that does not compress,
            # with a flush in every KiB; compressed data is never stored, so nothing finer is needed.
            bytes_max += (bytes_max >> 4) + 1024
        if message.announced + length > bytes_max:
            raise self._too_big()

    def _too_big(self) -> PeerError:
        return PeerError(MESSAGE_TOO_BIG, f"message is larger than {self._bytes_max} bytes")

    def _take_control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == CLOSE:
            events.append((CLOSE, parse_close(payload)))
            self._state = _OVER  # RFC 6455 section 5.5.1: nothing follows a close frame
            self._message = self._inflate = None
        else:
            events.append((opcode, payload))

    def _take_compressed(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        """Take a whole message: a short cut to what `_take_payload` does, for browsers compress nearly everything."""
        assert self._inflate is not None
        content = self._inflate.inflate_message(payload, self._bytes_max)
        if len(content) > self._bytes_max:
            if opcode == TEXT:
                _check_utf8(content[: self._bytes_max])  # for the order of faults
            raise self._too_big()
        try:
            events.append((opcode, content.decode() if opcode == TEXT else content))
        except UnicodeDecodeError:
            raise PeerError(INVALID_TEXT) from None

    def _take_payload(self, data: bytes, position: int, events: list[Event]) -> int:
        """Take what there is of a data frame's payload, and the message when that was its end."""
        message = self._message
        assert message is not None
        stop = min(position + message.remaining, len(data))
        if stop > position:
            piece = apply_mask(data[position:stop], message.mask)
            message.remaining -= stop - position
            turn = (stop - position) % 4
            message.mask = message.mask[turn:] + message.mask[:turn]
            if message.compressed:
                assert self._inflate is not None
                piece = self._inflate.inflate(piece, self._bytes_max - len(message.content))
            self._store(message, piece)
        if message.remaining:
            return stop
        if not message.fin:
            self._state = _BETWEEN
            return stop
        if message.compressed:
            assert self._inflate is not None
            self._store(message, self._inflate.finish(self._bytes_max - len(message.content)))
        if message.utf8_rest:
            raise PeerError(INVALID_TEXT)
        events.append((message.opcode, message.content.decode() if message.opcode == TEXT else bytes(message.content)))
        self._message = None
        self._state = _IDLE
        return stop

    def _store(self, message: _Message, piece: bytes) -> None:
        """Append to the content what fits, checked; fail when that was not all."""
        room = self._bytes_max - len(message.content)
        fitting = piece if len(piece) <= room else piece[:room]
        if message.opcode == TEXT:
            message.utf8_rest = _check_utf8(message.utf8_rest + fitting)
        if fitting is not piece:
            raise self._too_big()
        message.content += piece


def _check_utf8(data: bytes) -> bytes:
    """Return the incomplete character at the end; fail at once when no further byte could make it valid (RFC 3629).

    Raises:
        PeerError: 1007.
    """
    try:
        _, length = utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        raise PeerError(INVALID_TEXT) from None
    rest = data[length:]
    # Python waits for the third byte of a surrogate before it refuses it (for its own "surrogatepass").
    if b"\xed\xa0" <= rest < b"\xee":
        raise PeerError(INVALID_TEXT)
    return rest


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason in the payload of a close frame (RFC 6455 sections 5.5.1 and 7.4).

    Raises:
        PeerError: 1002 for a code that may not be sent, 1007 for a reason that is not UTF-8.
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise PeerError(PROTOCOL_ERROR, "close code has one byte")
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable(code):
        raise PeerError(PROTOCOL_ERROR, f"close code {code} may not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise PeerError(INVALID_TEXT, "close reason is not UTF-8") from None


def is_sendable(code: int) -> bool:
    """Whether a close frame may carry this code (RFC 6455 section 7.4)."""
    return code in _CODES_DEFINED or 3000 <= code < 5000


_TEXT_HEADERS: Final = tuple(bytes((_FIN | TEXT, length)) for length in range(126))
_BINARY_HEADERS: Final = tuple(bytes((_FIN | BINARY, length)) for length in range(126))


def build_frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """One complete frame, unmasked as a server's frames are (RFC 6455 sections 5.1 and 5.2).

    Args:
        opcode: TEXT, BINARY, PING or PONG; see `build_close` for CLOSE.
        payload: its bytes; what `Deflater.compress` returned when `compressed`.
        compressed: sets RSV1 (RFC 7692 section 6).
    """
    first = _FIN | _RSV1 | opcode if compressed else _FIN | opcode
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if opcode & _CONTROL:
        raise ValueError(f"a control frame has at most 125 bytes, not {length}")
    if length < 65_536:
        return pack("!BBH", first, 126, length) + payload
    return pack("!BBQ", first, 127, length) + payload


def build_text(text_utf8: bytes) -> bytes:
    """`build_frame(TEXT, ...)`, for the hot path: a small frame costs a look-up and one copy."""
    length = len(text_utf8)
    return _TEXT_HEADERS[length] + text_utf8 if length < 126 else build_frame(TEXT, text_utf8)


def build_binary(payload: bytes) -> bytes:
    """`build_frame(BINARY, ...)`, for the hot path."""
    length = len(payload)
    return _BINARY_HEADERS[length] + payload if length < 126 else build_frame(BINARY, payload)


def build_close(close: Close) -> bytes:
    """A close frame (RFC 6455 section 5.5.1). The reason is cut to the 123 bytes that fit, at a character's end.

    `NO_STATUS` gives a frame without a payload: the answer to one without.
    """
    if close.code == NO_STATUS:
        return build_frame(CLOSE, b"")
    if not is_sendable(close.code):
        raise ValueError(f"close code {close.code} may not be sent")
    reason = close.reason.encode()[: _CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()
    return build_frame(CLOSE, close.code.to_bytes(2, "big") + reason)
