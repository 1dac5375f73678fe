"""permessage-deflate: what is agreed on, what is sent to everyone, and what is taken from a client."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import PeerError
from catfish.wire.websocket.deflate import _STREAMS_MAX, DeflateParameters, Deflater, Inflater, negotiate
from catfish.wire.websocket.frames import BINARY, CONTINUATION, PING, TEXT, build_frame
from catfish.wire.websocket.handshake import parse_extensions
from tests.wire.peer import Outcome, bytewise, client_frame, cut, deflated, parse, parse_three_ways, parser

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"


def answer_to(header: str) -> DeflateParameters | None:
    return negotiate([parameters for name, parameters in parse_extensions(header) if name == "permessage-deflate"])


def inflated(payload: bytes) -> bytes:
    """What a client reads, each message by itself."""
    return zlib.decompressobj(-15).decompress(payload + TAIL)


# Negotiation (RFC 7692 section 7.1)


@pytest.mark.parametrize(
    ("offer", "parameters"),
    [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),  # Chrome, Firefox
        ("permessage-deflate; client_max_window_bits=8", ""),
        ('permessage-deflate; client_max_window_bits="15"', ""),
        ("permessage-deflate; server_no_context_takeover", ""),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", ""),
        ("permessage-deflate; server_max_window_bits=15", "; server_max_window_bits=15"),
        ('permessage-deflate; server_max_window_bits="15"; client_max_window_bits', "; server_max_window_bits=15"),
    ],
)
def test_a_usual_offer_is_answered_and_gets_the_shared_frames(offer: str, parameters: str) -> None:
    assert answer_to(offer) == DeflateParameters(True, ANSWER + parameters)


@pytest.mark.parametrize("bits", range(8, 15))
def test_a_client_with_a_small_window_may_compress_but_gets_everything_uncompressed(bits: int) -> None:
    offer = f"permessage-deflate; server_max_window_bits={bits}"
    assert answer_to(offer) == DeflateParameters(False, f"{ANSWER}; server_max_window_bits={bits}")


@pytest.mark.parametrize(
    "parameters",
    [
        "unknown",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=9x",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=015",
        "client_max_window_bits=x",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "Server_No_Context_Takeover",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=15",
    ],
)
def test_an_invalid_offer_is_declined_and_the_next_one_taken(parameters: str) -> None:
    assert answer_to(f"permessage-deflate; {parameters}") is None
    assert answer_to(f"permessage-deflate; {parameters}, permessage-deflate") == DeflateParameters(True, ANSWER)


def test_of_several_offers_the_first_that_gets_shared_frames_is_taken() -> None:
    small, smaller = (f"permessage-deflate; server_max_window_bits={bits}" for bits in (10, 9))
    assert answer_to(f"{small}, permessage-deflate; server_max_window_bits=15, permessage-deflate") == (
        DeflateParameters(True, f"{ANSWER}; server_max_window_bits=15")
    )
    assert answer_to(f"{small}, {smaller}") == DeflateParameters(False, f"{ANSWER}; server_max_window_bits=10")


def test_other_extensions_are_passed_over() -> None:
    assert answer_to("x-webkit-deflate-frame, permessage-deflate") == DeflateParameters(True, ANSWER)
    assert answer_to("permessage-bzip2; x=1") is None
    assert answer_to("") is None


# What the server compresses


def test_the_examples_of_the_rfc_are_sent() -> None:
    # RFC 7692 section 7.2.3.1; a fixed block of "Hello" is the only short form, whatever the level.
    assert Deflater().compress(b"Hello") == bytes.fromhex("f248cdc9c90700")
    assert build_frame(TEXT, Deflater().compress(b"Hello"), compressed=True) == bytes.fromhex("c107f248cdc9c90700")
    assert Deflater().compress(b"") == b"\x00"  # section 7.2.3.6


@given(st.lists(st.binary(max_size=400) | st.text(max_size=400).map(str.encode), max_size=6))
def test_every_compressed_message_can_be_read_alone(messages: list[bytes]) -> None:
    deflater = Deflater()
    for message in messages:
        assert inflated(deflater.compress(message)) == message


def test_what_was_compressed_before_changes_nothing() -> None:
    used = Deflater()
    message = b"the quick brown fox jumps over the lazy dog " * 20
    frames = {used.compress(message) for _ in range(5)}
    used.compress(random.Random(1).randbytes(100_000))
    frames.add(used.compress(message))
    assert frames == {Deflater().compress(message)}


@pytest.mark.parametrize("size", [16_000, 16_384, 32_767, 32_768, 65_535, 200_000, 1_000_003])
def test_messages_of_any_size_and_kind_are_compressed(size: int) -> None:
    deflater = Deflater()
    for message in (b"a" * size, random.Random(size).randbytes(size)):
        assert inflated(deflater.compress(message)) == message


def test_messages_that_just_fill_zlibs_buffer_are_compressed() -> None:
    # There zlib asks to flush once more and may end the message twice; that must still be one message.
    deflater = Deflater()
    content = random.Random(0).randbytes(33_000)
    for base in (16_384, 32_768):
        for size in range(base - 40, base + 10):
            assert inflated(deflater.compress(content[:size])) == content[:size]


# What clients compress


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("f248cdc9c90700", "Hello"),  # RFC 7692 section 7.2.3.1, one compressed block
        ("000500faff48656c6c6f00", "Hello"),  # section 7.2.3.3, a stored block
        ("f348cdc9c9070000", "Hello"),  # section 7.2.3.4, BFINAL
        ("f348cdc9c90700", "Hello"),  # the same without its padding, as some send it
        ("f24805000000ffffcac9c90700", "Hello"),  # section 7.2.3.5, two blocks
        ("00", ""),  # section 7.2.3.6
        ("0300" * 3 + "f348cdc9c9070000", "Hello"),  # empty final blocks
        ("f348cdc9c90700" * 3 + "00", "HelloHelloHello"),
    ],
)
def test_every_way_to_end_a_compressed_message_is_understood(payload: str, message: str) -> None:
    data = client_frame(TEXT, bytes.fromhex(payload), rsv=4) + client_frame(TEXT, b"plain")
    assert parse_three_ways(data + data, deflate=True) == Outcome([(TEXT, message), (TEXT, "plain")] * 2)


@pytest.mark.parametrize("window_bits", [9, 12, 15])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_any_window_and_level_of_a_client_is_understood(window_bits: int, level: int) -> None:
    message = bytes(range(256)) * 20
    data = client_frame(BINARY, deflated(message, window_bits=window_bits, level=level), rsv=4)
    assert parse([data], deflate=True) == Outcome([(BINARY, message)])
    assert parse(cut(data, level), deflate=True) == Outcome([(BINARY, message)])


def test_a_compressed_message_may_be_fragmented_with_pings_in_between() -> None:
    payload = deflated("κόσμε ".encode() * 30)
    data = client_frame(TEXT, payload[:1], fin=False, rsv=4)
    for index in range(1, len(payload)):
        data += client_frame(CONTINUATION, payload[index : index + 1], fin=False) + client_frame(PING)
    data += client_frame(CONTINUATION)
    assert parse_three_ways(data, deflate=True) == Outcome([(PING, b"")] * (len(payload) - 1) + [(TEXT, "κόσμε " * 30)])


def test_a_message_cannot_refer_to_another() -> None:
    """What one message said must not be readable by a later one, whoever sent it."""
    secret = b"the secret that somebody else wrote, long enough to refer to"
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, second = (stream.compress(secret) + stream.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    assert len(second) < len(first)
    data = client_frame(BINARY, first[:-4], rsv=4) + client_frame(BINARY, second[:-4], rsv=4)
    outcome = Outcome([(BINARY, secret)], (1007, "compressed message is not DEFLATE data"))
    assert parse_three_ways(data, deflate=True) == outcome


@pytest.mark.parametrize("payload", [b"\xff", b"\x07", b"\x00\x01\x00\x00\x00", b"garbage that is not deflate"])
def test_broken_deflate_data_closes_with_1007(payload: bytes) -> None:
    data = client_frame(PING) + client_frame(BINARY, payload, rsv=4)
    assert parse_three_ways(data, deflate=True) == Outcome(
        [(PING, b"")], (1007, "compressed message is not DEFLATE data")
    )


def test_final_blocks_without_end_are_refused() -> None:
    sound = client_frame(BINARY, b"\x03\x00" * (_STREAMS_MAX - 1) + b"\x00", rsv=4)
    assert parse_three_ways(sound, deflate=True) == Outcome([(BINARY, b"")])
    data = client_frame(BINARY, b"\x03\x00" * 30_000, rsv=4)
    failure = (1002, "compressed message has too many final blocks")
    assert parse([data], deflate=True).failure == failure
    assert parse(bytewise(data[:1000]), deflate=True).failure == failure


@pytest.mark.parametrize("limit", [0, 1, 100, 5000, 100_000])
def test_the_limit_is_that_of_the_inflated_message_and_exact(limit: int) -> None:
    too_big = (1009, f"message is larger than {limit} bytes")
    for opcode in (TEXT, BINARY):
        message: Any = "a" * limit if opcode == TEXT else b"a" * limit
        data = client_frame(opcode, deflated(b"a" * limit), rsv=4)
        more = client_frame(opcode, deflated(b"a" * (limit + 1)), rsv=4)
        expected = Outcome([(opcode, message)], too_big)
        for pieces in ([data + more], bytewise(data + more), cut(data + more, limit)):
            assert parse(pieces, deflate=True, message_bytes_max=limit) == expected


def test_data_that_does_not_compress_may_fill_the_limit() -> None:
    message = random.Random(5).randbytes(100_000)
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = b""
    for start in range(0, len(message), 1024):  # an encoder that flushes after every KiB
        payload += stream.compress(message[start : start + 1024]) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert len(payload) > len(message)
    for data in (payload[:-4], deflated(message, level=0)):
        frame = client_frame(BINARY, data, rsv=4)
        assert parse([frame], deflate=True, message_bytes_max=100_000) == Outcome([(BINARY, message)])


def test_compressed_data_far_over_the_limit_is_refused_by_its_announced_length() -> None:
    announced = client_frame(TEXT, rsv=4, length=1_048_576 + 65_536 + 1024 + 1)[:-4]
    assert parse([announced], deflate=True).failure == (1009, "message is larger than 1048576 bytes")
    announced = client_frame(TEXT, rsv=4, length=1_048_576 + 65_536 + 1024)[:-4]
    assert parse([announced], deflate=True).failure is None


def test_a_bomb_is_not_inflated_past_the_limit() -> None:
    bomb = client_frame(BINARY, deflated(bytes(50_000_000), level=9), rsv=4)
    assert len(bomb) < 60_000
    for pieces in ([bomb], cut(bomb, 1)):
        fed = parser(deflate=True, message_bytes_max=100_000)
        tracemalloc.start()
        try:
            events = [event for piece in pieces for event in fed.receive(piece)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert events == []
        assert fed.failure is not None
        assert fed.failure.close.code == 1009
        assert peak < 1_000_000


def test_compressed_text_is_checked_as_it_inflates() -> None:
    wrong = "é".encode() + b"\xff" + b"a" * 100
    text_error = Outcome([], (1007, "text is not UTF-8"))
    assert parse_three_ways(client_frame(TEXT, deflated(wrong), rsv=4), deflate=True) == text_error
    assert parse_three_ways(client_frame(TEXT, deflated(b"\xe2\x82"), rsv=4), deflate=True) == text_error

    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    begun = stream.compress(wrong) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert parse([client_frame(TEXT, begun + b"more", rsv=4)[:-4]], deflate=True) == text_error


def test_wrong_text_before_the_limit_is_found_before_the_limit() -> None:
    data = client_frame(TEXT, deflated(b"\xff" + b"a" * 200), rsv=4)
    for pieces in ([data], bytewise(data)):
        assert parse(pieces, deflate=True, message_bytes_max=100).failure == (1007, "text is not UTF-8")


def test_between_messages_an_inflater_holds_nothing() -> None:
    inflater = Inflater()
    assert inflater.inflate_message(deflated(b"abc"), 10) == b"abc"
    assert inflater._stream is None
    assert inflater.inflate(deflated(b"abc"), 10) + inflater.finish(10) == b"abc"
    assert inflater._stream is None
    with pytest.raises(PeerError):
        inflater.inflate_message(b"\xff", 10)
    assert inflater._stream is None


@given(
    messages=st.lists(st.text(max_size=200), min_size=1, max_size=4),
    plain=st.booleans(),
    size=st.integers(1, 50),
    seed=st.integers(0, 100),
)
def test_compressed_messages_survive_any_fragmentation_and_any_cut(
    messages: list[str], plain: bool, size: int, seed: int
) -> None:
    data = b""
    expected: list[tuple[int, Any]] = []
    for message in messages:
        payload = deflated(message.encode())
        pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
        for index, piece in enumerate(pieces):
            opcode, rsv = (TEXT, 4) if index == 0 else (CONTINUATION, 0)
            data += client_frame(opcode, piece, rsv=rsv, fin=index == len(pieces) - 1)
        expected.append((TEXT, message))
        if plain:  # compression is the sender's choice for each message
            data += client_frame(TEXT, message.encode())
            expected.append((TEXT, message))
    for cuts in ([data], bytewise(data), cut(data, seed)):
        assert parse(cuts, deflate=True) == Outcome(expected)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_inflate_or_fail(data: bytes, limit: int) -> None:
    for pieces in ([data], bytewise(data)):
        inflater = Inflater()
        room = limit
        try:
            for piece in pieces:
                room -= len(inflater.inflate(piece, room))
                if room < 0:
                    break
            else:
                room -= len(inflater.finish(room))
        except PeerError as error:
            assert error.close.code in (1002, 1007)
        assert room >= -1
