"""What one entry of a mirror stream holds: a batch of events of one instance, in MessagePack.

    [format, instance, epoch, sequence, streams, sent_at, rooms]
    rooms   [[number, items], …]
    items   [item, item, …], as a byte string
    item    [kind, event, to]

`kind` is the name of the event's class, `event` its fields by name (so instances of neighbouring versions understand
each other), `to` the one user whom it is for, or nil. A room's items stand together, in the order in which they were
published, behind their length: a room that is not hosted costs the same however much is told to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, Union

import msgspec

from catfish.rooms import events
from catfish.rooms.events import Event

Rooms = list[tuple[int, memoryview]]

FORMAT: Final = 1
"""Counted up when older instances could not read what newer ones write."""


class CodecError(ValueError):
    """The bytes are no batch, or one of a kind that this version does not know."""


class Batch(msgspec.Struct, array_like=True, gc=False):
    """An entry: who sent it, and its place among what that instance sent to the stream."""

    format: int
    instance: str
    epoch: int
    """Milliseconds since the epoch at which the publisher began to count; later is newer."""
    sequence: int
    """Place among the publisher's entries in this stream in this epoch: 1, 2, 3 … What never comes was lost."""
    streams: int
    """Over how many streams the publisher spreads its rooms."""
    sent_at: int
    """Milliseconds since the epoch."""
    rooms: Rooms = []
    """Room numbers, each with its items as they came."""


def _kinds(base: type[Event]) -> Iterator[type[Event]]:
    """Every event of the domain; those that others derive from are none themselves."""
    for kind in base.__subclasses__():
        if kind.__module__ == events.__name__:
            if not kind.__subclasses__():
                yield kind
            yield from _kinds(kind)


_ITEMS: Final[dict[type[Event], Any]] = {
    kind: msgspec.defstruct(
        f"{kind.__name__}Item", [("event", kind), ("to", str | None, None)], array_like=True, tag=kind.__name__
    )
    for kind in _kinds(Event)
}
_encoder: Final = msgspec.msgpack.Encoder()
_batch_decoder: Final = msgspec.msgpack.Decoder(Batch)
_items_decoder: Final = msgspec.msgpack.Decoder(list[Union[tuple(_ITEMS.values())]])  # type: ignore[misc] # noqa: UP007

_ARRAY32: Final = struct.Struct(">BI")
"""Head of an array of so many elements: 0xDD and their number (MessagePack specification, "array format family")."""

_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)


def encode_item(event: Event, to: str | None) -> bytes:
    """
    Raises:
        TypeError, ValueError, OverflowError, RecursionError: the event holds a value that MessagePack has no form for.
    """
    return _encoder.encode(_ITEMS[type(event)](event, to))


def encode_batch(batch: Batch, items: Iterable[tuple[int, bytes]]) -> bytes:
    """An entry with these items (room number, `encode_item`); its own `rooms` are not looked at."""
    rooms: dict[int, list[bytes]] = {}
    for number, item in items:
        known = rooms.get(number)
        if known is None:
            rooms[number] = [item]
        else:
            known.append(item)
    parts = [(number, _ARRAY32.pack(0xDD, len(told)) + b"".join(told)) for number, told in rooms.items()]
    return _encoder.encode(
        (batch.format, batch.instance, batch.epoch, batch.sequence, batch.streams, batch.sent_at, parts)
    )


def decode_batch(entry: bytes) -> Batch:
    """
    Raises:
        CodecError: it is no entry of this format.
    """
    try:
        batch = _batch_decoder.decode(entry)
    except _BAD as error:
        raise CodecError(f"not a batch: {error}") from None
    if batch.format != FORMAT:
        raise CodecError(f"a batch of format {batch.format}; this version reads {FORMAT}")
    return batch


def decode_items(items: memoryview) -> list[tuple[Event, str | None]]:
    """The events of one room, each with the user whom it is for.

    Raises:
        CodecError: one of them is of a kind that this version does not know, or has other fields.
    """
    try:
        return [(item.event, item.to) for item in _items_decoder.decode(items)]
    except _BAD as error:
        raise CodecError(f"no events: {error}") from None
