"""Socket.IO packets: what the reference parser and python-socketio find, round trips, attacks, and any bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import Packet as TheirPacket  # type: ignore[import-untyped]

from catfish.errors import MESSAGE_TOO_BIG, PeerError
from catfish.wire import socketio
from catfish.wire.socketio import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, MAIN, Decoder, Packet
from tests.wire.reference import REFERENCE


def receive(*messages: str | bytes, **limits: int) -> Packet | None:
    """The packet that the last of the messages completes."""
    decoder = Decoder(**limits)
    packet = None
    for message in messages:
        packet = decoder.receive(message)
    return packet


def refused(*messages: str | bytes, **limits: int) -> PeerError:
    with pytest.raises(PeerError) as caught:
        receive(*messages, **limits)
    return caught.value


def built(type: int, data: Any, namespace: str = MAIN, id: int | None = None) -> list[str | bytes]:
    packet, attachments = socketio.build_packet(type, data, namespace=namespace, id=id)
    return [packet.decode(), *attachments]


@pytest.mark.parametrize("case", REFERENCE["socketio"]["encode"], ids=lambda case: repr(case["messages"][0]))
def test_a_packet_is_built_byte_for_byte_as_the_reference_builds_it(case: dict[str, Any]) -> None:
    packet = case["packet"]
    assert built(packet["type"], packet.get("data"), packet["nsp"], packet.get("id")) == case["messages"]


@pytest.mark.parametrize("case", REFERENCE["socketio"]["decode"], ids=lambda case: repr(case["messages"][0]))
def test_messages_are_the_packet_or_the_error_that_the_reference_finds(case: dict[str, Any]) -> None:
    if "error" in case:
        refused(*case["messages"])
        return
    wanted = case["packet"]
    packet = receive(*case["messages"])
    if wanted is None:
        assert packet is None
        return
    assert packet is not None
    data = wanted.get("data")
    if packet.type == EVENT:
        data[0] = str(data[0])
    assert (packet.type, packet.namespace, packet.id, packet.data) == (
        wanted["type"],
        wanted["nsp"],
        wanted.get("id"),
        data,
    )


@pytest.mark.parametrize("message", ["", "2", "2/admin,", "212", "3", "312", "4", "212345678901234567[]"])
def test_what_the_reference_lets_pass_against_the_protocol_is_refused(message: str) -> None:
    refused(message)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
values_with_bytes = st.recursive(
    values | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.text(min_size=1).filter(lambda name: name not in socketio.RESERVED_EVENTS)
namespaces = st.just("/") | st.text(st.characters(exclude_characters=",?", exclude_categories=["Cs"])).map(
    lambda name: "/" + name
)
ids = st.none() | st.integers(0, 2**53)


@given(names, st.lists(values_with_bytes, max_size=4), namespaces, ids)
def test_events_survive_the_round_trip(name: str, args: list[Any], namespace: str, id: int | None) -> None:
    packet, attachments = socketio.build_event(name, args, namespace, id)
    got = receive(packet.decode(), *attachments, attachments_max=100)
    assert got == Packet(EVENT, namespace, id, [name, *args], bool(attachments))


@given(st.lists(values_with_bytes, max_size=4), namespaces, st.integers(0, 2**53))
def test_acknowledgements_survive_the_round_trip(args: list[Any], namespace: str, id: int) -> None:
    packet, attachments = socketio.build_ack(args, id, namespace)
    got = receive(packet.decode(), *attachments, attachments_max=100)
    assert got == Packet(ACK, namespace, id, args, bool(attachments))


@given(names, st.lists(values_with_bytes, max_size=4), namespaces, ids)
def test_python_socketio_reads_what_is_built_here(name: str, args: list[Any], namespace: str, id: int | None) -> None:
    packet, attachments = socketio.build_event(name, args, namespace, id)
    theirs = TheirPacket(encoded_packet=packet.decode())
    for attachment in attachments:
        theirs.add_attachment(attachment)
    assert (theirs.data, theirs.namespace or "/", theirs.id) == ([name, *args], namespace, id)
    assert theirs.attachment_count == len(attachments)


@given(names, st.lists(values_with_bytes, max_size=4), namespaces, ids)
def test_what_python_socketio_builds_is_read_here(name: str, args: list[Any], namespace: str, id: int | None) -> None:
    theirs = TheirPacket(2, [name, *args], namespace, id).encode()
    messages: list[str | bytes] = theirs if isinstance(theirs, list) else [theirs]
    assert receive(*messages, attachments_max=100) == Packet(
        EVENT, namespace, id, [name, *args], isinstance(theirs, list)
    )


@given(st.text() | st.binary())
def test_any_message_gives_a_packet_or_a_peer_error(message: str | bytes) -> None:
    try:
        receive(message)
    except PeerError:
        pass


@given(
    st.from_regex(r"[0-7][0-9]{0,3}-?(/[a-z]*,)?[0-9]{0,3}([\[{\"n](.|\n)*)?", fullmatch=True), st.lists(st.binary())
)
def test_anything_that_resembles_a_packet_gives_one_or_a_peer_error(message: str, attachments: list[bytes]) -> None:
    try:
        receive(message, *attachments)
    except PeerError:
        pass


@given(names, st.lists(values_with_bytes, max_size=3), st.data())
def test_one_wrong_character_gives_a_packet_or_a_peer_error(name: str, args: list[Any], data: st.DataObject) -> None:
    packet, attachments = socketio.build_event(name, args, "/x", 3)
    text = packet.decode()
    at = data.draw(st.integers(0, len(text)))
    try:
        receive(text[:at] + data.draw(st.characters(exclude_categories=["Cs"])) + text[at + 1 :], *attachments)
    except PeerError:
        pass


@pytest.mark.parametrize(
    ("message", "query"), [("0/admin?token=1,{}", "token=1"), ("0/admin?token=1", "token=1"), ("0/admin?", "")]
)
def test_a_namespace_may_have_a_query_which_is_no_part_of_its_name(message: str, query: str) -> None:
    packet = receive(message)
    assert packet is not None
    assert (packet.type, packet.namespace, packet.query) == (CONNECT, "/admin", query)


def test_numbers_as_event_names_become_text() -> None:
    for text, name in (("2[5]", "5"), ("2[-1]", "-1"), ("2[1.0]", "1"), ("2[1.5]", "1.5")):
        packet = receive(text)
        assert packet is not None
        assert packet.data == [name]


def test_keys_keep_their_order_and_json_is_compact() -> None:
    packet = receive('2["a", {"b" : 1, "a" : [1, 2], "10": 0, "9": 0}]')
    assert packet is not None
    assert socketio.build_event("a", packet.data[1:]) == (b'2["a",{"b":1,"a":[1,2],"10":0,"9":0}]', ())


def test_an_offset_is_one_more_argument() -> None:
    assert socketio.build_event("a", [1], offset="7:12") == (b'2["a",1,"7:12"]', ())
    assert socketio.build_event("a", [b"x"], "/n", offset="7:12")[0] == (
        b'51-/n,["a",{"_placeholder":true,"num":0},"7:12"]'
    )


def test_half_an_emoji_becomes_a_replacement_character() -> None:
    packet = receive('2["a","x\\ud83d","\\udE00y",{"\\ud83d":"\\ud83d\\ude00"}]')
    assert packet is not None
    assert packet.data == ["a", "x\ufffd", "\ufffdy", {"\ufffd": "😀"}]
    socketio.build_event("a", packet.data)


def test_a_disconnect_and_a_refused_connect() -> None:
    assert built(DISCONNECT, None, "/admin") == ["1/admin,"]
    assert built(CONNECT_ERROR, {"message": "no"}) == ['4{"message":"no"}']


def test_placeholders_outside_of_binary_packets_are_plain_data() -> None:
    packet = receive('2["a",{"_placeholder":true,"num":7}]')
    assert packet == Packet(EVENT, MAIN, None, ["a", {"_placeholder": True, "num": 7}])


@pytest.mark.parametrize(
    "num", ["1", "-1", "1e3", "0.5", "0.0", '"0"', "true", "null", "{}", "9" * 400, '"__proto__"', '"length"']
)
def test_a_placeholder_that_points_elsewhere_is_refused_before_any_attachment_comes(num: str) -> None:
    refused('51-["a",{"_placeholder":true,"num":' + num + "}]")


def test_an_attachment_is_used_once_so_that_bytes_do_not_multiply() -> None:
    refused('51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]')


def test_the_number_of_attachments_is_limited_before_any_of_them_is_kept() -> None:
    assert receive('52-["a"]', attachments_max=2) is None
    assert refused('53-["a"]', attachments_max=2).close.code == MESSAGE_TOO_BIG.code
    assert refused('5999999999-["a"]').close.code == MESSAGE_TOO_BIG.code
    refused("5" + "9" * 100_000 + '-["a"]')


@pytest.mark.parametrize("count", [500, 100_000])
def test_nesting_beyond_the_limit_is_refused_however_deep(count: int) -> None:
    refused('2["a",' + "[" * count + "]" * count + "]")
    refused('2["a",' + '{"a":' * count + "1" + "}" * count + "]")
    refused('51-["a",' + "[" * count + '{"_placeholder":true,"num":0}' + "]" * count + "]")


def test_nesting_within_the_limit_and_many_brackets_side_by_side_are_fine() -> None:
    deep = '2["a",' + "[" * 98 + "1" + "]" * 98 + "]"
    packet = receive(deep)
    assert packet is not None
    assert socketio.build_event("a", packet.data[1:])[0].decode() == deep
    wide = json.dumps(["a", *[[{}] for _ in range(5000)]], separators=(",", ":"))
    assert receive("2" + wide) is not None


def test_names_of_javascript_machinery_are_ordinary_keys() -> None:
    packet = receive('51-["a",{"__proto__":{"_placeholder":true,"num":0},"constructor":{"prototype":1}}]', b"x")
    assert packet == Packet(EVENT, MAIN, None, ["a", {"__proto__": b"x", "constructor": {"prototype": 1}}], True)


def test_integers_of_any_length_that_json_may_have_are_carried_exactly() -> None:
    packet = receive("2[" + '"a",' + "9" * 30 + "]")
    assert packet is not None
    assert packet.data == ["a", int("9" * 30)]
    refused("2[" + '"a",' + "9" * 5000 + "]")


def test_an_id_that_is_no_ascii_number_is_refused() -> None:
    refused('2٣["a"]')
    refused('2²["a"]')


def test_a_decoder_goes_on_with_the_next_packet_after_a_binary_one() -> None:
    decoder = Decoder()
    assert decoder.receive('51-["a",{"_placeholder":true,"num":0}]') is None
    assert decoder.receive(b"1") == Packet(EVENT, MAIN, None, ["a", b"1"], True)
    assert decoder.receive('2["b"]') == Packet(EVENT, MAIN, None, ["b"])
    assert decoder.receive('61-3[{"_placeholder":true,"num":0}]') is None
    assert decoder.receive(b"") == Packet(ACK, MAIN, 3, [b""], True)


def test_bytes_of_every_kind_become_attachments() -> None:
    packet, attachments = socketio.build_event("a", [bytearray(b"1"), (memoryview(b"2"),), {"k": b"3"}])
    assert packet.startswith(b"53-[")
    assert attachments == [b"1", b"2", b"3"]
