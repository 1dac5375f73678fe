"""The client's side of the wire, for tests alone: masked frames, and input cut in every way."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from catfish.wire.websocket.deflate import Inflater
from catfish.wire.websocket.frames import FrameParser

MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 section 5.7


def xor(payload: bytes, mask: bytes) -> bytes:
    """Mask and unmask (RFC 6455 section 5.3), written independently of the C function that the server uses."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """One frame as a client sends it.

    Args:
        rsv: the three reserved bits; 4 is RSV1.
        mask: None leaves the frame unmasked.
        length: announced instead of the payload's own.
        length_bytes: 0, 2 or 8; the shortest form unless given.
    """
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65_536 else 8
    first = fin << 7 | rsv << 4 | opcode
    masked = 0 if mask is None else 0x80
    match length_bytes:
        case 0:
            header = struct.pack("!BB", first, masked | length)
        case 2:
            header = struct.pack("!BBH", first, masked | 126, length)
        case _:
            header = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return header + payload
    return header + mask + xor(payload, mask)


def deflated(payload: bytes, *, window_bits: int = 15, level: int = 6) -> bytes:
    """What a client puts into the payload of a compressed message (RFC 7692 section 7.2.1)."""
    if not payload:
        return b"\x00"
    stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@dataclass
class Outcome:
    """What a parser made of its input."""

    events: list[tuple[int, Any]] = field(default_factory=list)
    failure: tuple[int, str] | None = None
    """Close code and reason."""


def parser(*, message_bytes_max: int = 1_048_576, fragments_max: int = 1024, deflate: bool = False) -> FrameParser:
    return FrameParser(
        message_bytes_max=message_bytes_max, fragments_max=fragments_max, inflate=Inflater() if deflate else None
    )


def parse(pieces: Iterator[bytes] | list[bytes], **arguments: Any) -> Outcome:
    """Feed a new parser; `arguments` are those of `parser`."""
    fed = parser(**arguments)
    outcome = Outcome()
    for piece in pieces:
        outcome.events += fed.receive(piece)
    if fed.failure is not None:
        outcome.failure = (fed.failure.close.code, fed.failure.close.reason)
    return outcome


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def cut(data: bytes, seed: int, pieces: int = 6) -> list[bytes]:
    """Cut into pieces at random places; some are empty."""
    chance = random.Random(seed)
    places = [0, *sorted(chance.randint(0, len(data)) for _ in range(pieces - 1)), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


def parse_three_ways(data: bytes, **arguments: Any) -> Outcome:
    """Parse whole, byte by byte and in random cuts; assert that all agree, and return the outcome."""
    whole = parse([data], **arguments)
    assert parse(bytewise(data), **arguments) == whole
    for seed in range(4):
        assert parse(cut(data, seed), **arguments) == whole
    return whole
