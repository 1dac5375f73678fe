"""Batches: what goes in comes out, whatever it is; anything else is a `CodecError`."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.mirror import codec
from catfish.rooms import events
from catfish.rooms.events import Event, Signal, Typing
from catfish.rooms.model import Member

TEXT = st.text(max_size=20)
INT = st.integers(-(2**63), 2**63 - 1)
DATA = st.recursive(
    st.none() | st.booleans() | INT | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {int: INT, str: TEXT}
SPECIAL = {"origin": st.none() | st.tuples(TEXT, DATA), "data": DATA}
KINDS = list(codec._ITEMS)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        fields = {name: SPECIAL[name] if name in SPECIAL else values_of(type) for name, type in types.items()}
        return st.fixed_dictionaries(fields).map(lambda values: kind(**values))
    if isinstance(kind, UnionType):
        return st.one_of(*map(values_of, get_args(kind)))
    if get_origin(kind) is list:
        return st.lists(values_of(*get_args(kind)), max_size=3)
    if get_origin(kind) is dict:
        return st.dictionaries(*map(values_of, get_args(kind)), max_size=3)
    return PLAIN[kind] if kind in PLAIN else st.from_type(kind)


ITEM = st.sampled_from(KINDS).flatmap(values_of)
SENT = st.lists(st.tuples(st.integers(1, 5), ITEM, st.none() | TEXT), max_size=20)


def batch_of(sent: list[tuple[int, Event, str | None]]) -> bytes:
    header = codec.Batch(codec.FORMAT, "i-one", 17, 4, 2, 1_700_000_000_000)
    return codec.encode_batch(header, [(number, codec.encode_item(event, to)) for number, event, to in sent])


def read(entry: bytes) -> list[tuple[int, Event, str | None]]:
    batch = codec.decode_batch(entry)
    return [(number, event, to) for number, items in batch.rooms for event, to in codec.decode_items(items)]


@given(SENT)
def test_what_goes_in_comes_out_in_the_order_of_its_room(sent: list[tuple[int, Event, str | None]]) -> None:
    entry = batch_of(sent)
    batch = codec.decode_batch(entry)
    assert (batch.instance, batch.epoch, batch.sequence, batch.streams) == ("i-one", 17, 4, 2)
    assert batch.sent_at == 1_700_000_000_000
    told = read(entry)
    assert len(told) == len(sent)
    for room in range(1, 6):
        assert [item for item in told if item[0] == room] == [item for item in sent if item[0] == room]
        assert [type(item[1]) for item in told if item[0] == room] == [
            type(item[1]) for item in sent if item[0] == room
        ]


def test_every_event_of_the_domain_can_be_mirrored() -> None:
    named = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert named - set(KINDS) == {Event, events.DurableEvent}
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_a_codec_error(junk: bytes) -> None:
    try:
        read(junk)
    except codec.CodecError:
        pass


@given(SENT, st.data())
def test_a_damaged_batch_is_a_batch_or_a_codec_error(
    sent: list[tuple[int, Event, str | None]], data: st.DataObject
) -> None:
    entry = bytearray(batch_of(sent))
    for _ in range(data.draw(st.integers(1, 3))):
        entry[data.draw(st.integers(0, len(entry) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(entry[: data.draw(st.integers(0, len(entry)))]))
    except codec.CodecError:
        pass


def test_nesting_without_end_is_a_codec_error() -> None:
    item = codec.encode_item(Signal(room="r", user="u", data="MARK"), None).replace(
        b"\xa4MARK", b"\x91" * 100_000 + b"\xc0"
    )
    header = codec.Batch(codec.FORMAT, "i", 1, 1, 1, 1)
    with pytest.raises(codec.CodecError):
        read(codec.encode_batch(header, [(1, item)]))


def test_another_format_is_refused() -> None:
    header = codec.Batch(codec.FORMAT + 1, "i", 1, 1, 1, 1)
    with pytest.raises(codec.CodecError, match="format 2"):
        codec.decode_batch(codec.encode_batch(header, []))


def test_newer_instances_may_add_to_the_header_and_to_events() -> None:
    entry = msgspec.msgpack.encode(
        (
            *(codec.FORMAT, "i", 1, 1, 1, 1),
            [(1, msgspec.msgpack.encode([["Typing", {"room": "r", "user": "u", "on": True, "warmth": 3}, None, 7]]))],
            "more",
        )
    )
    assert read(entry) == [(1, Typing(room="r", user="u", on=True), None)]


def test_an_event_of_a_kind_that_is_not_known_spoils_only_its_room() -> None:
    known = codec.encode_item(Typing(room="r", user="u", on=True), None)
    header = codec.Batch(codec.FORMAT, "i", 1, 1, 1, 1)
    entry = codec.encode_batch(header, [(1, msgspec.msgpack.encode(["Waved", {}, None])), (2, known)])
    (_, first), (_, second) = codec.decode_batch(entry).rooms
    with pytest.raises(codec.CodecError, match="Waved"):
        codec.decode_items(first)
    assert codec.decode_items(second) == [(Typing(room="r", user="u", on=True), None)]


def test_rooms_that_are_not_asked_for_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """One decoding a batch, none an event: what is in a room may be anything."""
    header = codec.Batch(codec.FORMAT, "i", 1, 1, 1, 1)
    entry = codec.encode_batch(header, [(7, b"\xc1 not MessagePack at all")] * 100)
    batch = codec.decode_batch(entry)
    assert [number for number, _ in batch.rooms] == [7]
    with pytest.raises(codec.CodecError):
        codec.decode_items(batch.rooms[0][1])


def test_members_keep_their_optional_fields() -> None:
    joined = events.MemberJoined(room="r", member=Member(user="u", name="n", since=3, away=True), stamp=9)
    assert read(batch_of([(1, joined, None)])) == [(1, joined, None)]
