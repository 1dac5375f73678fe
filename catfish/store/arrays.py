"""How values travel: whole columns as binary arrays, times as milliseconds since the epoch, `data` as JSON.

psycopg chooses the type of a list by its items (int2 for small integers, unknown for one of nulls), so that one
statement would be prepared again for every mixture. These arrays always have the type of their column, and building
them costs about 0.1 us an item.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import msgspec
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types.json import set_json_loads

_INT8, _TEXT, _TIMESTAMPTZ, _JSON = 20, 25, 1184, 114
_INT8_ARRAY, _TEXT_ARRAY, _TIMESTAMPTZ_ARRAY, _JSON_ARRAY = 1016, 1009, 1185, 199

EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01, from which Postgres counts microseconds, in those since 1970."""
_NULL: Final = b"\xff\xff\xff\xff"
_unpack_int8: Final[Callable[[Buffer], tuple[int]]] = struct.Struct(">q").unpack


class Unstorable(ValueError):
    """A value that no column can hold; the command that brought it is to blame."""


class Parameter(bytes):
    """A parameter in binary."""

    oid: ClassVar[int]


class Int8(Parameter):
    oid = _INT8


class Text(Parameter):
    oid = _TEXT


class Int8s(Parameter):
    oid = _INT8_ARRAY


class Texts(Parameter):
    oid = _TEXT_ARRAY


class Instants(Parameter):
    oid = _TIMESTAMPTZ_ARRAY


class Jsons(Parameter):
    oid = _JSON_ARRAY


def int8(item: int) -> Int8:
    try:
        return Int8(item.to_bytes(8, "big", signed=True))
    except OverflowError as error:
        raise Unstorable(f"an integer is out of range ({error})") from error


def text(item: str) -> Text:
    try:
        return Text(item.encode())
    except UnicodeEncodeError as error:
        raise Unstorable(str(error)) from error


def int8s(items: Sequence[int | None]) -> Int8s:
    return Int8s(_pack_int8s(_INT8, items))


def instants(items: Sequence[int | None]) -> Instants:
    """From milliseconds since the epoch."""
    return Instants(_pack_int8s(_TIMESTAMPTZ, [None if item is None else item * 1000 - EPOCH_US for item in items]))


def texts(items: Sequence[str | None]) -> Texts:
    try:
        encoded = [None if item is None else item.encode() for item in items]
    except UnicodeEncodeError as error:
        raise Unstorable(str(error)) from error
    return Texts(_pack(_TEXT, encoded))


def jsons(items: Sequence[bytes | None]) -> Jsons:
    """From JSON as `encode_json` makes it."""
    return Jsons(_pack(_JSON, items))


def encode_json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Unstorable(f"data: cannot be written as JSON ({error})") from error


def _pack(oid: int, items: Sequence[bytes | None]) -> bytes:
    """The binary form of a one-dimensional array: dimensions, null flag, type, length, lower bound, items."""
    parts = [b""] * (2 * len(items) + 1)
    parts[0] = struct.pack(">iiIii", 1, 1, oid, len(items), 1)
    parts[1::2] = [_NULL if item is None else len(item).to_bytes(4, "big") for item in items]
    parts[2::2] = [b"" if item is None else item for item in items]
    return b"".join(parts)


def _pack_int8s(oid: int, items: Sequence[int | None]) -> bytes:
    fields: list[Any] = [8] * (2 * len(items))
    fields[1::2] = items
    try:
        return struct.pack(">iiIii" + "iq" * len(items), 1, 0, oid, len(items), 1, *fields)
    except struct.error as error:
        if None not in items:
            raise Unstorable(f"an integer is out of range ({error})") from error
    try:
        return _pack(oid, [None if item is None else item.to_bytes(8, "big", signed=True) for item in items])
    except OverflowError as error:
        raise Unstorable(f"an integer is out of range ({error})") from error


def _passes(kind: type[Parameter]) -> type[Dumper]:
    class Passes(Dumper):
        format = Format.BINARY
        oid = kind.oid

        def dump(self, obj: Any) -> Buffer:
            return bytes(obj)

    Passes.__name__ = f"{kind.__name__}Dumper"
    return Passes


class InstantLoader(Loader):
    """timestamptz -> milliseconds since the epoch."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return (_unpack_int8(data)[0] + EPOCH_US) // 1000


_DUMPERS: Final = [(kind, _passes(kind)) for kind in (Int8, Text, Int8s, Texts, Instants, Jsons)]
_decode_json: Callable[[str | bytes], Any] = msgspec.json.decode


def register(connection: psycopg.Connection[Any]) -> None:
    """Teach a connection these parameters and results; the results must be asked for in binary."""
    for kind, dumper in _DUMPERS:
        connection.adapters.register_dumper(kind, dumper)
    connection.adapters.register_loader("timestamptz", InstantLoader)
    set_json_loads(_decode_json, connection)
