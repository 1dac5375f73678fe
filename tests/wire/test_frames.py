"""Frames of one client to messages: every rule, with the input whole, byte by byte and in random cuts."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import CLOSES, NORMAL, Close
from catfish.wire.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    build_binary,
    build_close,
    build_frame,
    build_text,
)
from tests.wire.peer import Outcome, bytewise, client_frame, cut, parse, parse_three_ways, parser

KNOWN = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)


def protocol_error(reason: str, *events: tuple[int, Any]) -> Outcome:
    return Outcome(list(events), (1002, reason))


def text_error(*events: tuple[int, Any]) -> Outcome:
    return Outcome(list(events), (1007, "text is not UTF-8"))


# Whole messages


@pytest.mark.parametrize("length", [0, 1, 3, 4, 125, 126, 127, 255, 256, 65_535, 65_536, 70_001])
def test_messages_of_every_form_of_length_arrive(length: int) -> None:
    payload = bytes(97 + index % 26 for index in range(length))
    data = client_frame(TEXT, payload) + client_frame(BINARY, payload)
    expected = Outcome([(TEXT, payload.decode()), (BINARY, payload)])
    assert parse([data]) == expected
    assert parse(cut(data, length)) == expected
    if length < 1000:
        assert parse(bytewise(data)) == expected


def test_the_examples_of_the_rfc_arrive() -> None:
    # RFC 6455 section 5.7: a masked text, a masked pong.
    data = bytes.fromhex("818537fa213d7f9f4d5158 8a8537fa213d7f9f4d5158")
    assert parse_three_ways(data) == Outcome([(TEXT, "Hello"), (PONG, b"Hello")])


def test_many_messages_in_one_read_keep_their_order() -> None:
    messages = [(TEXT, f"message {index} é") for index in range(300)]
    data = b"".join(client_frame(TEXT, text.encode()) for _, text in messages)
    assert parse_three_ways(data) == Outcome([*messages])


def test_pings_and_pongs_arrive_with_their_payload() -> None:
    data = client_frame(PING) + client_frame(PONG, b"a" * 125) + client_frame(PING, b"\xff\x00")
    assert parse_three_ways(data) == Outcome([(PING, b""), (PONG, b"a" * 125), (PING, b"\xff\x00")])


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_any_mask_is_undone(mask: bytes) -> None:
    for length in range(10):
        payload = bytes(range(length))
        assert parse_three_ways(client_frame(BINARY, payload, mask=mask)) == Outcome([(BINARY, payload)])


# Fragmentation, and control frames in between (RFC 6455 section 5.4)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_become_one_message_with_control_frames_in_between(opcode: int) -> None:
    data = (
        client_frame(opcode, b"", fin=False)
        + client_frame(CONTINUATION, b"ab", fin=False, mask=b"1234")
        + client_frame(PING, b"p")
        + client_frame(CONTINUATION, b"c", fin=False)
        + client_frame(PONG)
        + client_frame(CONTINUATION, b"", fin=True)
        + client_frame(TEXT, b"next")
    )
    message: Any = "abc" if opcode == TEXT else b"abc"
    assert parse_three_ways(data) == Outcome([(PING, b"p"), (PONG, b""), (opcode, message), (TEXT, "next")])


def test_a_character_may_be_cut_between_fragments() -> None:
    text = "κόσμε 😀"
    fragments = [text.encode()[index : index + 1] for index in range(len(text.encode()))]
    data = b"".join(
        client_frame(TEXT if index == 0 else CONTINUATION, fragment, fin=index == len(fragments) - 1)
        for index, fragment in enumerate(fragments)
    )
    assert parse_three_ways(data) == Outcome([(TEXT, text)])


@pytest.mark.parametrize("fragments", [1, 2, 3])
def test_no_more_fragments_than_allowed(fragments: int) -> None:
    first = client_frame(BINARY, b"a", fin=fragments == 1)
    rest = [client_frame(CONTINUATION, b"", fin=index == fragments - 2) for index in range(fragments - 1)]
    data = first + b"".join(rest)
    assert parse_three_ways(data, fragments_max=fragments) == Outcome([(BINARY, b"a")])
    if fragments > 1:
        assert parse_three_ways(data, fragments_max=fragments - 1).failure == (
            1009,
            f"message has more than {fragments - 1} frames",
        )


# Every first byte in every state


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_every_first_byte_is_judged_by_the_rules_of_its_state(begun: bool, deflate: bool) -> None:
    before = client_frame(TEXT, b"a", fin=False) if begun else b""
    for first in range(256):
        fin, rsv1, rsv23, opcode = first & 0x80, first & 0x40, first & 0x30, first & 0x0F
        data = before + bytes((first,)) + client_frame(0, b"\x00" if rsv1 else b"")[1:]
        sound = (
            not rsv23
            and opcode in KNOWN
            and (not rsv1 or (deflate and opcode in (TEXT, BINARY)))
            and (bool(fin) or opcode < 8)
            and (opcode >= 8 or begun == (opcode == CONTINUATION))
        )
        outcome = parse_three_ways(data, deflate=deflate)
        if sound:
            assert outcome.failure is None
        else:
            assert outcome.events == []
            assert outcome.failure is not None
            assert outcome.failure[0] == 1002


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (client_frame(TEXT, b"a", rsv=1), "reserved bit is set"),
        (client_frame(PING, rsv=2), "reserved bit is set"),
        (client_frame(TEXT, b"a", rsv=4), "reserved bit is set"),
        (client_frame(3), "opcode 3 is unknown"),
        (client_frame(15), "opcode 15 is unknown"),
        (client_frame(PING, fin=False), "control frame is fragmented"),
        (client_frame(CONTINUATION, b"a"), "continuation of no message"),
        (client_frame(TEXT, fin=False) + client_frame(TEXT, b"a"), "message begins inside another"),
        (client_frame(TEXT, b"a", mask=None), "frame is not masked"),
        (client_frame(CLOSE, mask=None), "frame is not masked"),
        (client_frame(PING, b"a" * 126), "control frame is longer than 125 bytes"),
        (client_frame(CLOSE, b"", length_bytes=8), "control frame is longer than 125 bytes"),
        (client_frame(TEXT, b"a" * 125, length_bytes=2), "length is not in its shortest form"),
        (client_frame(TEXT, b"a" * 125, length_bytes=8), "length is not in its shortest form"),
        (client_frame(TEXT, b"a" * 65_535, length_bytes=8)[:14], "length is not in its shortest form"),
        (client_frame(TEXT, length=1 << 63, length_bytes=8), "length has its highest bit set"),
    ],
)
def test_broken_frames_close_with_1002_after_what_came_before(data: bytes, reason: str) -> None:
    before = client_frame(TEXT, b"before") + client_frame(PING)
    after = client_frame(TEXT, b"after")
    assert parse_three_ways(before + data + after) == protocol_error(reason, (TEXT, "before"), (PING, b""))


def test_compressed_frames_follow_the_rules_of_the_extension() -> None:
    for data, reason in [
        (client_frame(PING, rsv=4), "control frame is compressed"),
        (client_frame(TEXT, fin=False, rsv=4) + client_frame(CONTINUATION, rsv=4), "continuation has RSV1 set"),
        (client_frame(TEXT, rsv=6), "reserved bit is set"),
    ]:
        assert parse_three_ways(data, deflate=True) == protocol_error(reason)


def test_a_fault_is_found_before_the_frame_is_complete() -> None:
    for data in (
        client_frame(3)[:2],
        client_frame(TEXT, mask=None),
        client_frame(PING, b"a" * 126)[:2],
        client_frame(TEXT, length=125, length_bytes=2)[:4],
        client_frame(TEXT, length=2_000_000)[:10],
    ):
        assert parse([data]).failure is not None


# Sizes


@pytest.mark.parametrize("limit", [0, 1, 100, 125, 126, 1000, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_limit_is_exact(limit: int, opcode: int) -> None:
    message: Any = "a" * limit if opcode == TEXT else b"a" * limit
    failure = (1009, f"message is larger than {limit} bytes")
    exactly = client_frame(opcode, b"a" * limit)
    more = client_frame(opcode, b"a" * (limit + 1))
    for pieces in ([exactly + more], cut(exactly + more, limit)):
        assert parse(pieces, message_bytes_max=limit) == Outcome([(opcode, message)], failure)

    fragmented = client_frame(opcode, b"a" * (limit // 2), fin=False) + client_frame(
        CONTINUATION, b"a" * (limit - limit // 2)
    )
    one_more = client_frame(opcode, b"a" * (limit // 2), fin=False) + client_frame(
        CONTINUATION, b"a" * (limit + 1 - limit // 2)
    )
    for pieces in ([fragmented + one_more], cut(fragmented + one_more, limit)):
        assert parse(pieces, message_bytes_max=limit) == Outcome([(opcode, message)], failure)


def test_a_message_too_large_is_refused_by_its_announced_length() -> None:
    announced = client_frame(TEXT, length=1001)
    assert parse([announced[:4]], message_bytes_max=1000).failure == (1009, "message is larger than 1000 bytes")
    announced = client_frame(BINARY, length=(1 << 63) - 1)
    assert parse([announced[:10]]).failure == (1009, "message is larger than 1048576 bytes")
    fragmented = client_frame(TEXT, b"a" * 600, fin=False) + client_frame(CONTINUATION, length=401)
    assert parse([fragmented[:-4]], message_bytes_max=1000).failure == (1009, "message is larger than 1000 bytes")


# UTF-8 (RFC 6455 section 8.1, RFC 3629)

BROKEN = [  # and at which byte that is certain
    (b"\x80", 1),
    (b"\xbf", 1),
    (b"\xc0\x80", 1),
    (b"\xc1\xbf", 1),
    (b"\xc3\x28", 2),
    (b"\xe0\x9f\xbf", 2),
    (b"\xed\xa0\x80", 2),
    (b"\xed\xbf\xbf", 2),
    (b"\xe2\x82\x28", 3),
    (b"\xf0\x8f\xbf\xbf", 2),
    (b"\xf4\x90\x80\x80", 2),
    (b"\xf5\x80\x80\x80", 1),
    (b"\xf0\x9f\x98\x28", 4),
    (b"\xff", 1),
    (b"\xfe\xff", 1),
]


@pytest.mark.parametrize(("broken", "certain"), BROKEN)
@pytest.mark.parametrize("before", ["", "a", "é", "κόσμε😀" * 20])
def test_text_that_is_not_utf8_closes_with_1007(broken: bytes, certain: int, before: str) -> None:
    payload = before.encode() + broken + b" and more"
    assert parse_three_ways(client_frame(PING) + client_frame(TEXT, payload)) == text_error((PING, b""))
    fragments = client_frame(TEXT, payload[:1], fin=False) + client_frame(CONTINUATION, payload[1:])
    assert parse_three_ways(fragments) == text_error()


@pytest.mark.parametrize(("broken", "certain"), BROKEN)
def test_wrong_text_is_refused_at_the_first_wrong_byte_of_an_unfinished_frame(broken: bytes, certain: int) -> None:
    payload = "κόσμε".encode() + broken
    length = len("κόσμε".encode()) + certain
    data = client_frame(TEXT, payload + b"a" * 50)
    header_bytes = len(data) - len(payload) - 50
    for pieces in (bytewise, lambda data: [data]):
        assert parse(pieces(data[: header_bytes + length - 1])) == Outcome()
        assert parse(pieces(data[: header_bytes + length])) == text_error()


@pytest.mark.parametrize("unfinished", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"a\xf4"])
def test_a_character_that_never_ends_closes_with_1007(unfinished: bytes) -> None:
    assert parse_three_ways(client_frame(TEXT, unfinished)) == text_error()
    fragments = client_frame(TEXT, unfinished, fin=False) + client_frame(CONTINUATION)
    assert parse_three_ways(fragments) == text_error()
    assert parse([client_frame(TEXT, unfinished, fin=False)]) == Outcome()


def test_every_character_at_an_edge_of_the_encoding_is_allowed() -> None:
    text = "".join(map(chr, [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF]))
    assert parse_three_ways(client_frame(TEXT, text.encode())) == Outcome([(TEXT, text)])


def test_incremental_checking_agrees_with_python_on_every_short_sequence() -> None:
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF4, 0xF5)
    for sequence in itertools.product(edges, repeat=3):
        payload = bytes(sequence)
        try:
            expected = Outcome([(TEXT, payload.decode())])
        except UnicodeDecodeError:
            expected = text_error()
        assert parse(bytewise(client_frame(TEXT, payload))) == expected


def test_binary_messages_may_hold_anything() -> None:
    payload = bytes(range(256))
    assert parse_three_ways(client_frame(BINARY, payload)) == Outcome([(BINARY, payload)])


# Close (RFC 6455 sections 5.5.1 and 7.4)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent_arrive(code: int) -> None:
    payload = code.to_bytes(2, "big")
    assert parse_three_ways(client_frame(CLOSE, payload)) == Outcome([(CLOSE, (code, ""))])
    assert parse_three_ways(client_frame(CLOSE, payload + "é".encode())) == Outcome([(CLOSE, (code, "é"))])


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_close_codes_that_may_not_be_sent_are_refused(code: int) -> None:
    data = client_frame(CLOSE, code.to_bytes(2, "big") + b"reason")
    assert parse_three_ways(data) == protocol_error(f"close code {code} may not be sent")


def test_a_close_without_code_arrives_as_1005() -> None:
    assert parse_three_ways(client_frame(CLOSE)) == Outcome([(CLOSE, (1005, ""))])


def test_a_close_code_of_one_byte_is_refused() -> None:
    assert parse_three_ways(client_frame(CLOSE, b"\x03")) == protocol_error("close code has one byte")


def test_a_close_reason_that_is_not_utf8_is_refused() -> None:
    data = client_frame(CLOSE, b"\x03\xe8\xce\xba\xe1")
    assert parse_three_ways(data).failure == (1007, "close reason is not UTF-8")


def test_nothing_is_read_after_a_close() -> None:
    data = client_frame(TEXT, b"unfinished", fin=False) + client_frame(CLOSE, b"\x03\xe8") + b"\xff" * 50
    assert parse_three_ways(data) == Outcome([(CLOSE, (1000, ""))])


def test_nothing_is_read_after_a_failure() -> None:
    fed = parser()
    assert fed.receive(client_frame(3)) == []
    failure = fed.failure
    assert failure is not None
    assert fed.receive(client_frame(TEXT, b"a")) == []
    assert fed.failure is failure


def test_a_failure_keeps_no_buffers_alive() -> None:
    fed = parser()
    fed.receive(client_frame(TEXT, b"\xff" * 1000))
    assert fed.failure is not None
    assert fed.failure.__traceback__ is None
    assert fed.failure.__context__ is None


# Any bytes


def structured_bytes() -> st.SearchStrategy[bytes]:
    """Bytes that look like frames often enough to reach every state."""
    payloads = st.one_of(st.binary(max_size=140), st.text(max_size=40).map(str.encode))
    frames = st.builds(
        client_frame,
        st.sampled_from([*KNOWN, TEXT, CONTINUATION, 5]),
        payloads,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 4, 1]),
        mask=st.sampled_from([b"\0\0\0\0", b"abcd", b"\xff\x01\x80\x00"]),
    )
    return st.lists(st.one_of(frames, frames, frames, st.binary(max_size=8)), max_size=6).map(b"".join)


@given(data=structured_bytes(), deflate=st.booleans(), limit=st.sampled_from([10, 130, 10_000]))
def test_any_bytes_give_the_same_events_or_failure_however_they_are_cut(data: bytes, deflate: bool, limit: int) -> None:
    whole = parse([data], deflate=deflate, message_bytes_max=limit, fragments_max=4)
    for pieces in (bytewise(data), cut(data, 1), cut(data, 2, pieces=3)):
        outcome = parse(pieces, deflate=deflate, message_bytes_max=limit, fragments_max=4)
        assert outcome.events == whole.events
        if deflate and outcome.failure is not None and whole.failure is not None:
            # Broken DEFLATE data may hide wrong UTF-8 before it: the words may differ, the code does not.
            assert outcome.failure[0] == whole.failure[0]
        else:
            assert outcome.failure == whole.failure


@given(
    messages=st.lists(
        st.tuples(st.just(TEXT), st.text(max_size=300)) | st.tuples(st.just(BINARY), st.binary(max_size=300)),
        max_size=5,
    ),
    sizes=st.lists(st.integers(0, 100), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_messages_survive_any_fragmentation_and_any_cut(
    messages: list[tuple[int, Any]], sizes: list[int], seed: int
) -> None:
    data = b""
    expected: list[tuple[int, Any]] = []
    lengths = itertools.cycle([*sizes, 7])
    for opcode, message in messages:
        rest = message.encode() if isinstance(message, str) else message
        code = opcode
        while len(rest) > (length := next(lengths)):
            data += client_frame(code, rest[:length], fin=False) + client_frame(PING, rest[:3])
            expected.append((PING, rest[:3]))
            code, rest = CONTINUATION, rest[length:]
        data += client_frame(code, rest)
        expected.append((opcode, message))
    outcome = Outcome(expected)
    assert parse([data]) == outcome
    assert parse(bytewise(data)) == outcome
    assert parse(cut(data, seed)) == outcome


# Cost: counted in bytes and calls, never in seconds


def test_a_large_message_in_small_reads_is_stored_once() -> None:
    """No second copy of what came before is made with each read: memory at its peak is a few times the message's."""
    size = 4_194_304
    data = client_frame(BINARY, b"\x55" * size, mask=b"\0\0\0\0")
    pieces = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
    fed = parser(message_bytes_max=size)
    tracemalloc.start()
    try:
        events = [event for piece in pieces for event in fed.receive(piece)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(events) == 1
    assert peak < 3 * size


def test_very_many_fragments_are_stored_compactly() -> None:
    fragments = 65_536
    fed = parser(fragments_max=fragments)
    piece = client_frame(CONTINUATION, b"a", fin=False)
    fed.receive(client_frame(TEXT, b"a", fin=False))
    tracemalloc.start()
    try:
        for _ in range(64):
            assert fed.receive(piece * ((fragments - 2) // 64)) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * fragments
    ((opcode, text),) = fed.receive(client_frame(CONTINUATION, b"a"))
    assert (opcode, len(text)) == (TEXT, (fragments - 2) // 64 * 64 + 2)


def test_an_idle_parser_holds_nothing() -> None:
    fed = parser()
    fed.receive(client_frame(TEXT, b"a" * 1000, fin=False) + client_frame(CONTINUATION, b"b"))
    assert not hasattr(fed, "__dict__")
    assert fed._kept == b""
    assert fed._message is None


# Frames of the server (RFC 6455 section 5.2)


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (65_535, "827effff"),
        (65_536, "827f0000000000010000"),
    ],
)
def test_frames_are_built_with_the_shortest_length(length: int, header: str) -> None:
    payload = b"a" * length
    frame = bytes.fromhex(header) + payload
    assert build_frame(BINARY, payload) == frame
    assert build_binary(payload) == frame
    assert build_text(payload) == b"\x81" + frame[1:]
    assert build_frame(TEXT, payload, compressed=True) == b"\xc1" + frame[1:]


def test_control_frames_are_never_too_long() -> None:
    assert build_frame(PING, b"a" * 125) == b"\x89\x7d" + b"a" * 125
    with pytest.raises(ValueError, match="125"):
        build_frame(PONG, b"a" * 126)


def test_close_frames_carry_code_and_reason() -> None:
    assert build_close(NORMAL) == b"\x88\x05\x03\xe8bye"
    assert build_close(Close(1005, "", False)) == b"\x88\x00"
    for close in CLOSES:
        frame = build_close(close)
        assert frame[2:4] == close.code.to_bytes(2, "big")
        assert frame[4:].decode() == close.reason


def test_a_long_close_reason_is_cut_at_the_end_of_a_character() -> None:
    assert build_close(Close(4000, "a" * 200, True))[1:] == b"\x7d\x0f\xa0" + b"a" * 123
    assert build_close(Close(4000, "é" * 100, True))[1:] == b"\x7c\x0f\xa0" + "é".encode() * 61


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_a_close_code_that_may_not_be_sent_is_our_bug(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        build_close(Close(code, "", False))
