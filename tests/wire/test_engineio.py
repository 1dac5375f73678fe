"""Engine.IO packets and payloads: what the reference parser finds, in pieces of any size, and from any bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import MESSAGE_TOO_BIG, PeerError
from catfish.wire import engineio
from catfish.wire.engineio import Packet, Payload
from tests.wire.reference import REFERENCE

NAMES = {
    "open": engineio.OPEN,
    "close": engineio.CLOSE,
    "ping": engineio.PING,
    "pong": engineio.PONG,
    "message": engineio.MESSAGE,
    "upgrade": engineio.UPGRADE,
    "noop": engineio.NOOP,
}


def read(*pieces: bytes, bytes_max: int = 1_000_000, packets_max: int = 100) -> tuple[list[Packet], PeerError | None]:
    payload = Payload(bytes_max=bytes_max, packets_max=packets_max)
    for piece in pieces:
        payload.receive(piece)
    return payload.finish(), payload.failure


@pytest.mark.parametrize("case", REFERENCE["engineio"]["packets"], ids=lambda case: repr(case["text"]))
def test_a_packet_is_what_the_reference_parser_says(case: dict[str, Any]) -> None:
    if case["type"] == "error":
        with pytest.raises(PeerError):
            engineio.parse_packet(case["text"])
    else:
        assert engineio.parse_packet(case["text"]) == (NAMES[case["type"]], case.get("data", ""))


@pytest.mark.parametrize("case", REFERENCE["engineio"]["payloads"], ids=lambda case: repr(case["text"]))
def test_a_payload_is_what_the_reference_parser_says_up_to_its_first_error(case: dict[str, Any]) -> None:
    packets, failure = read(case["text"].encode())
    wanted = [(NAMES[p["type"]], p.get("data", "")) for p in case["packets"] if p["type"] != "error"]
    assert packets == wanted
    assert (failure is not None) == (len(wanted) < len(case["packets"]))


def test_a_payload_is_built_as_the_reference_builds_it() -> None:
    packets = [
        b"0{}",
        b"2",
        engineio.build_message("hé"),
        engineio.build_base64(b"\1\2\3\4"),
        engineio.build_base64(b""),
    ]
    assert engineio.build_payload(packets).decode() == REFERENCE["engineio"]["encode"]


def test_a_binary_message_is_a_message() -> None:
    assert engineio.parse_packet(b"4\0") == (engineio.MESSAGE, b"4\0")
    assert engineio.build_message(b"4\0") == b"4\0"


@pytest.mark.parametrize("text", ["bAQ", "b=", "bAQ==!", "bAQI=\n", "b☃"])
def test_base64_that_is_not_quite_base64_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        engineio.parse_packet(text)


texts = st.text(st.characters(exclude_characters="\x1e", exclude_categories=["Cs"]))
packets = st.one_of(
    st.tuples(st.sampled_from(sorted(engineio.TYPES)), texts), st.tuples(st.just(engineio.MESSAGE), st.binary())
)


def encode(packet: Packet) -> bytes:
    kind, data = packet
    return engineio.build_base64(data) if isinstance(data, bytes) else (kind + data).encode()


@given(st.lists(packets, min_size=1, max_size=20), st.lists(st.integers(0, 400)))
def test_a_payload_reads_the_same_whole_byte_by_byte_and_cut_anywhere(sent: list[Packet], cuts: list[int]) -> None:
    body = engineio.build_payload(map(encode, sent))
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in pairwise(places)]
    assert read(body) == read(*(body[i : i + 1] for i in range(len(body)))) == read(*pieces) == (sent, None)


@given(st.binary())
def test_any_bytes_give_packets_or_a_failure(body: bytes) -> None:
    packets, failure = read(body)
    assert packets or failure


@given(st.text() | st.binary())
def test_any_message_gives_a_packet_or_a_peer_error(message: str | bytes) -> None:
    try:
        kind, _data = engineio.parse_packet(message)
    except PeerError:
        return
    assert kind in engineio.TYPES


def test_a_payload_may_be_as_large_as_the_handshake_says_and_no_larger() -> None:
    assert read(b"4abc", b"de", bytes_max=6) == ([("4", "abcde")], None)
    payload = Payload(bytes_max=6, packets_max=1)
    payload.receive(b"4abc")
    with pytest.raises(PeerError) as caught:
        payload.receive(b"def")
    assert caught.value.close.code == MESSAGE_TOO_BIG.code


def test_a_payload_of_more_packets_than_allowed_fails_as_a_whole() -> None:
    assert read(b"2\x1e2\x1e2", packets_max=3) == ([("2", "")] * 3, None)
    packets, failure = read(b"2\x1e2\x1e2\x1e2", packets_max=3)
    assert not packets
    assert failure is not None
    assert failure.close.code == MESSAGE_TOO_BIG.code


def test_the_handshake_has_exactly_the_keys_that_clients_look_for() -> None:
    packet = engineio.build_open(
        "abc", upgrades=["websocket"], ping_interval_ms=25000, ping_timeout_ms=20000, max_payload_bytes=1000000
    )
    assert packet == (
        b'0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    )


def test_refusals_have_the_codes_and_words_of_the_protocol() -> None:
    assert [(refusal.status, json.loads(refusal.body)) for refusal in engineio.REFUSALS] == [
        (400, {"code": 0, "message": "Transport unknown"}),
        (400, {"code": 1, "message": "Session ID unknown"}),
        (400, {"code": 2, "message": "Bad handshake method"}),
        (400, {"code": 3, "message": "Bad request"}),
        (403, {"code": 4, "message": "Forbidden"}),
        (400, {"code": 5, "message": "Unsupported protocol version"}),
    ]
    assert [refusal.code for refusal in engineio.REFUSALS] == list(range(6))
