"""permessage-deflate (RFC 7692), so that nothing is remembered between messages and one frame serves everyone.

The answer to an offer is always `server_no_context_takeover; client_no_context_takeover`, which a server may demand
unasked (sections 7.1.1.1 and 7.1.1.2):

* What the server compresses refers to nothing sent before, so the same frame fits every connection: a room's message
  is compressed once. There is exactly one kind of compressed frame. A client that asks for a smaller window than the
  usual 32 KiB (`server_max_window_bits` below 15: small devices and test suites) gets the extension, may compress what
  it sends, and is sent everything uncompressed, which section 6 leaves to the sender message by message.
* What clients compress refers to nothing before either, so an idle connection holds no inflater (7 KB, and a window of
  32 KB once used). A fresh one for each message costs 0.1 us.

`client_max_window_bits` is a hint that needs no answer (section 7.1.2.2): our inflater understands every window.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from catfish.errors import INVALID_TEXT, PROTOCOL_ERROR, PeerError

EXTENSION: Final = "permessage-deflate"

ExtensionParameters = Sequence[tuple[str, str | None]]
"""Name and value, as offered; the value is None when there is no `=`."""

_WINDOW_BITS: Final = {str(bits): bits for bits in range(8, 16)}
"""Section 7.1.2: a decimal integer from 8 to 15 without leading zeros."""
_RAW: Final = -15
"""zlib's way to say: DEFLATE alone, without its own header, with a window of 2**15 bytes."""
_TAIL: Final = b"\x00\x00\xff\xff"
"""What ends a sync flush; every message is sent without it (section 7.2.1)."""
_EMPTY: Final = b"\x00"
"""An empty message (section 7.2.3.6)."""
_LEVEL: Final = 3
"""Half the time of the usual 6 from 4 KiB on, for 5 % more bytes (JSON of chat messages)."""
_STREAMS_MAX: Final = 64
"""DEFLATE streams in one message: an encoder without a sync flush ends one with each flush (section 7.2.3.4). Without
this limit 64 KiB of empty streams would start 32,768 inflaters."""


class DeflateParameters(NamedTuple):
    """What was agreed with a client."""

    compresses: bool
    """Whether it may be sent what `Deflater` compressed; what it sends may be compressed in any case."""
    response: str
    """The element for Sec-WebSocket-Extensions."""


_RESPONSE: Final = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"


def negotiate(offers: Sequence[ExtensionParameters]) -> DeflateParameters | None:
    """Answer a request's offers of permessage-deflate, the client's favourite first (RFC 7692 sections 5 and 7.1).

    The first offer that lets us compress is taken; if none does, the first valid one; None declines them all. Declined
    is an offer with an unknown parameter, a parameter twice, or a value that is not allowed (section 7.1).
    """
    fallback: DeflateParameters | None = None
    for offer in offers:
        accepted = _accept(offer)
        if accepted is None:
            continue
        if accepted.compresses:
            return accepted
        fallback = fallback or accepted
    return fallback


def _accept(offer: ExtensionParameters) -> DeflateParameters | None:
    parameters = dict(offer)
    if len(parameters) != len(offer):
        return None
    server_max_window_bits: int | None = None
    for name, value in offer:
        match name, value:
            case ("server_no_context_takeover" | "client_no_context_takeover", None):  # sections 7.1.1.1, 7.1.1.2
                pass
            case ("client_max_window_bits", None):  # section 7.1.2.2: only here may the value be missing
                pass
            case ("client_max_window_bits", str()) if value in _WINDOW_BITS:
                pass
            case ("server_max_window_bits", str()) if value in _WINDOW_BITS:  # section 7.1.2.1
                server_max_window_bits = _WINDOW_BITS[value]
            case _:
                return None
    if server_max_window_bits is None:
        return DeflateParameters(True, _RESPONSE)
    return DeflateParameters(
        server_max_window_bits == 15, f"{_RESPONSE}; server_max_window_bits={server_max_window_bits}"
    )


class Deflater:
    """Compresses messages, each by itself, for everyone with `DeflateParameters.compresses`.

    One for a whole process, used from one thread. It keeps one zlib stream for all messages, because a full flush
    leaves nothing behind that a later message could refer to (zlib's manual, Z_FULL_FLUSH), while a new stream for each
    message allocates 268 KB and takes up to 57 us where this takes 4 (100 bytes).
    """

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream: zlib._Compress | None = None  # not before it is needed, for its size

    def compress(self, payload: bytes) -> bytes:
        """Payload of a frame with RSV1 set (RFC 7692 section 7.2.1); it may be longer than what went in."""
        if not payload:
            return _EMPTY
        # Taken away meanwhile: should zlib fail half-way (out of memory), the next message starts anew.
        stream, self._stream = self._stream or zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW), None
        compressed = stream.compress(payload) + stream.flush(zlib.Z_FULL_FLUSH)
        self._stream = stream
        return compressed[: -len(_TAIL)]


class Inflater:
    """Inflates the messages of one connection, each by itself; between messages it holds nothing.

    A message is fed in pieces as they arrive, then finished. The output is bounded: of a bomb no more is inflated than
    one byte over the limit.
    """

    __slots__ = ("_stream", "_streams")

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._streams = 0

    def inflate(self, data: bytes, bytes_max: int) -> bytes:
        """Return what this piece of a message gives: up to `bytes_max` bytes, or one more, which means: too much.

        Nothing may follow in a message that gave too much.

        Raises:
            PeerError: 1007 when this is not DEFLATE; 1002 when it is chopped in a way that no encoder has a reason for.
        """
        stream = self._stream
        if stream is None:
            stream = self._start()
        try:
            # One more than allowed, so that exactly the limit is not taken for more; and never 0, which is unlimited.
            output = stream.decompress(data, bytes_max + 1)
            while stream.eof and stream.unused_data and len(output) <= bytes_max:
                data = stream.unused_data
                stream = self._start()
                output += stream.decompress(data, bytes_max + 1 - len(output))
        except zlib.error:
            self._stream = None
            raise PeerError(INVALID_TEXT, "compressed message is not DEFLATE data") from None
        return output

    def finish(self, bytes_max: int) -> bytes:
        """Return what the end of a message gives, and be ready for the next message. Otherwise as `inflate`."""
        output = self.inflate(_TAIL, bytes_max)
        self._stream = None
        self._streams = 0
        return output

    def inflate_message(self, payload: bytes, bytes_max: int) -> bytes:
        """Return a message that arrived in one piece. Otherwise as `inflate`."""
        # Never one stream for several messages or clients: a peer could refer to what it never sent, and read it back.
        output = self.inflate(payload + _TAIL, bytes_max)
        self._stream = None
        self._streams = 0
        return output

    def _start(self) -> zlib._Decompress:
        """Begin a stream: at the start of a message, and after a final block (RFC 7692 section 7.2.3.4)."""
        if self._streams == _STREAMS_MAX:
            raise PeerError(PROTOCOL_ERROR, "compressed message has too many final blocks")
        self._streams += 1
        self._stream = stream = zlib.decompressobj(_RAW)
        return stream
