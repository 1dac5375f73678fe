"""Socket.IO packets in MessagePack: what the reference parser wrote is read, round trips, and any bytes."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import PeerError
from catfish.wire import socketio_msgpack
from catfish.wire.socketio import ACK, CONNECT, EVENT, MAIN, Packet, has_binary
from catfish.wire.socketio_msgpack import Decoder
from tests.wire.reference import REFERENCE
from tests.wire.test_socketio import ids, names, namespaces, values_with_bytes

pack = msgspec.msgpack.encode
receive = Decoder().receive


def refused(message: str | bytes) -> None:
    with pytest.raises(PeerError):
        receive(message)


@pytest.mark.parametrize("case", REFERENCE["msgpack"]["decode"], ids=lambda case: repr(case["packet"]))
def test_what_the_reference_writes_is_read(case: dict[str, Any]) -> None:
    assert case["accepted"]
    packet, wanted = receive(case["message"]), case["packet"]
    assert (packet.type, packet.namespace, packet.id, packet.data) == (
        wanted["type"],
        wanted["nsp"],
        wanted.get("id"),
        wanted.get("data"),
    )


@given(names, st.lists(values_with_bytes, max_size=4), namespaces, ids)
def test_events_survive_the_round_trip(name: str, args: list[Any], namespace: str, id: int | None) -> None:
    got = receive(socketio_msgpack.build_event(name, args, namespace, id))
    assert got == Packet(EVENT, namespace, id, [name, *args], has_binary(args))


@given(st.lists(values_with_bytes, max_size=4), namespaces, st.integers(0, 2**53))
def test_acknowledgements_survive_the_round_trip(args: list[Any], namespace: str, id: int) -> None:
    got = receive(socketio_msgpack.build_ack(args, id, namespace))
    assert got == Packet(ACK, namespace, id, args, has_binary(args))


@given(st.binary())
def test_any_bytes_give_a_packet_or_a_peer_error(message: bytes) -> None:
    try:
        receive(message)
    except PeerError:
        pass


@given(names, st.lists(values_with_bytes, max_size=3), st.data())
def test_one_wrong_byte_gives_a_packet_or_a_peer_error(name: str, args: list[Any], data: st.DataObject) -> None:
    message = bytearray(socketio_msgpack.build_event(name, args, "/x", 3))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        receive(bytes(message))
    except PeerError:
        pass


@pytest.mark.parametrize(
    "packet",
    [
        None,
        [],
        {},
        {"type": 2, "data": ["a"]},
        {"type": 2, "data": ["a"], "nsp": 1},
        {"type": 2, "data": ["a"], "nsp": "x"},
        {"type": 2, "data": ["a"], "nsp": "/", "id": "1"},
        {"type": 2, "data": ["a"], "nsp": "/", "id": -1},
        {"type": 2, "data": ["a"], "nsp": "/", "id": 1.5},
        {"type": 2, "data": ["a"], "nsp": "/", "id": True},
        {"type": 2, "nsp": "/"},
        {"type": 2, "nsp": "/", "data": []},
        {"type": 2, "nsp": "/", "data": ["connect"]},
        {"type": 2, "nsp": "/", "data": {"0": "a"}},
        {"type": 3, "nsp": "/", "data": {}},
        {"type": 0, "nsp": "/", "data": []},
        {"type": 1, "nsp": "/", "data": {}},
        {"type": 4, "nsp": "/", "data": []},
        {"type": 5, "nsp": "/", "data": ["a"]},
        {"type": -1, "nsp": "/", "data": ["a"]},
        {"type": True, "nsp": "/", "data": ["a"]},
        {"type": "2", "nsp": "/", "data": ["a"]},
    ],
    ids=repr,
)
def test_what_is_no_packet_is_refused(packet: Any) -> None:
    refused(pack(packet))


def test_text_is_refused() -> None:
    refused("2[]")


def test_keys_that_json_cannot_have_are_refused_because_others_in_the_room_speak_json() -> None:
    refused(pack({"type": 2, "nsp": "/", "data": ["a", {(1, 2): 3}]}))


@pytest.mark.parametrize("count", [150, 100_000])
def test_nesting_beyond_the_limit_is_refused_however_deep(count: int) -> None:
    refused(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a" + b"\x91" * count + b"\x90")


def test_undefined_is_null_and_a_date_is_a_date() -> None:
    start = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a"
    assert receive(start + b"\xd4\x00\x00").data == ["a", None]
    assert receive(start + b"\xd7\x00" + struct.pack(">q", 1500)).data == [
        "a",
        datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
    ]
    refused(start + b"\xd7\x00" + b"\x7f" + b"\xff" * 7)
    refused(start + b"\xd4\x05\x00")


def test_a_namespace_may_have_a_query() -> None:
    packet = receive(pack({"type": 0, "nsp": "/admin?token=1"}))
    assert (packet.type, packet.namespace, packet.query) == (CONNECT, "/admin", "token=1")


def test_integers_that_messagepack_has_not_become_floats_as_in_javascript() -> None:
    assert receive(socketio_msgpack.build_event("a", [{"n": 10**30}, (-(2**63), 2**64 - 1), 10**400])).data == [
        "a",
        {"n": 1e30},
        [-(2**63), 2**64 - 1],
        None,
    ]


def test_an_offset_is_one_more_argument() -> None:
    assert receive(socketio_msgpack.build_event("a", [1], offset="7:12")).data == ["a", 1, "7:12"]


def test_only_what_is_there_is_written() -> None:
    assert msgspec.msgpack.decode(socketio_msgpack.build_packet(CONNECT, namespace=MAIN)) == {"type": 0, "nsp": "/"}
