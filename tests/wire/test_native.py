"""The native envelope: what is understood, what is refused and how, and that any bytes give one or the other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import PROTOCOL_ERROR, UNSUPPORTED_DATA, PeerError, Rejected
from catfish.rooms.model import Message
from catfish.wire import native
from catfish.wire.native import JSON, MSGPACK, Codec, Event, Refusal, Reply, Request, by_subprotocol, check_data

CODECS = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])


class Send(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    room: str
    content: str
    reply_to: int | None = None
    data: Any = None


class Nested(msgspec.Struct, rename="camel"):
    reply_to: list[Send]


def pack(codec: Codec, value: object) -> str | bytes:
    """`value` as a message of the codec, encoded by other means than the codec where there are any."""
    return json.dumps(value) if codec is JSON else msgspec.msgpack.encode(value)


def refusal_of(call: Any, *args: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*args)
    return caught.value


@CODECS
def test_a_request_with_an_id_is_read_into_its_struct(codec: Codec) -> None:
    message = pack(codec, ["chat:send", {"room": "lobby", "content": "hi", "replyTo": 3}, 12])
    request = codec.decode_request(message)
    assert (request.event, request.id) == ("chat:send", 12)
    assert codec.decoder(Send)(request.data) == Send("lobby", "hi", 3)


@CODECS
def test_an_event_has_no_id_and_null_stands_for_none(codec: Codec) -> None:
    without: list[object] = ["chat:typing", {}]
    for envelope in (without, [*without, None]):
        assert codec.decode_request(pack(codec, envelope)).id is None


@CODECS
@pytest.mark.parametrize("id", [1, 2**31, 2**53 - 1])
def test_ids_up_to_what_a_browser_holds_exactly_are_taken(codec: Codec, id: int) -> None:
    assert codec.decode_request(pack(codec, ["ping", None, id])).id == id


@CODECS
@pytest.mark.parametrize(
    "envelope",
    [
        None,
        {},
        "ping",
        7,
        [],
        ["ping"],
        ["ping", None, 1, None],
        [1, {}],
        [None, {}],
        ["ping", None, 0],
        ["ping", None, -1],
        ["ping", None, 2**53],
        ["ping", None, 1.5],
        ["ping", None, 1.0],
        ["ping", None, "1"],
        ["ping", None, True],
    ],
    ids=repr,
)
def test_what_is_no_envelope_is_refused_as_such(codec: Codec, envelope: object) -> None:
    assert refusal_of(codec.decode_request, pack(codec, envelope)).code == "bad_envelope"


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (JSON, ""),
        (JSON, "["),
        (JSON, '["ping", nul]'),
        (JSON, '["ping", {}] ["ping", {}]'),
        (JSON, '["a", "\\ud800"]'),
        (JSON, '["a", "\ud800"]'),
        (JSON, '["a", 1, ' + "9" * 5000 + "]"),
        (JSON, "[" * 100_000),
        (JSON, '["a", ' + "[" * 100_000),
        (MSGPACK, b""),
        (MSGPACK, b"\xc1"),
        (MSGPACK, b"\xdd\xff\xff\xff\xff"),
        (MSGPACK, b"\xdf\xff\xff\xff\xff"),
        (MSGPACK, b"\x92\xa1\xff\xc0"),
        (MSGPACK, b"\x92\xa1a" + b"\x91" * 100_000),
        (MSGPACK, b"\x92\xa1a\xc0 and more"),
    ],
)
def test_malformed_input_is_a_bad_envelope(codec: Codec, message: str | bytes) -> None:
    refused = refusal_of(codec.decode_request, message)
    assert refused.code == "bad_envelope"
    assert len(refused.message) <= 300


def test_the_other_kind_of_message_is_the_peers_error() -> None:
    for codec, message in ((JSON, b'["ping", 1]'), (MSGPACK, '["ping", 1]')):
        for read in (codec.decode_request, codec.decode):
            with pytest.raises(PeerError) as caught:
                read(message)
            assert caught.value.close.code == UNSUPPORTED_DATA.code


@CODECS
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"content": "x"}, "data: object missing required field room"),
        ({"room": "r", "content": 5}, "content: expected str, got int"),
        ({"room": "r", "content": "x", "replyTo": "3"}, "replyTo: expected int | null, got str"),
        ({"room": "r", "content": "x", "reply_to": 3}, "data: object contains unknown field reply_to"),
        ([], "data: expected object, got array"),
        (None, "data: expected object, got null"),
    ],
)
def test_a_wrong_field_is_named_as_it_is_spelled_on_the_wire(codec: Codec, data: object, words: str) -> None:
    request = codec.decode_request(pack(codec, ["chat:send", data, 1]))
    refused = refusal_of(codec.decoder(Send), request.data)
    assert (refused.code, refused.message) == ("bad_request", words)


@CODECS
def test_a_wrong_field_deep_down_is_named_with_its_path(codec: Codec) -> None:
    request = codec.decode_request(pack(codec, ["x", {"replyTo": [{"room": "r", "content": None}]}]))
    assert refusal_of(codec.decoder(Nested), request.data).message == "replyTo[0].content: expected str, got null"


@CODECS
def test_a_complaint_does_not_repeat_a_long_field_name(codec: Codec) -> None:
    request = codec.decode_request(pack(codec, ["x", {"room": "r", "content": "c", "f" * 100_000: 1}]))
    assert len(refusal_of(codec.decoder(Send), request.data).message) <= 300


def test_data_that_skimming_let_pass_is_refused_when_it_is_read() -> None:
    not_utf8 = MSGPACK.decode_request(b"\x92\xa1a\x82\xa4room\xa1\xff\xa7content\xa1x")
    refused = refusal_of(MSGPACK.decoder(Send), not_utf8.data)
    assert (refused.code, refused.message) == ("bad_envelope", "data: text that is not UTF-8")
    unhashable_key = MSGPACK.decode_request(b"\x92\xa1a\x81\x80\x01")
    assert refusal_of(MSGPACK.decoder(dict[Any, Any]), unhashable_key.data).code == "bad_envelope"


@CODECS
def test_what_the_server_says_is_what_the_client_hears(codec: Codec) -> None:
    def heard(payload: bytes) -> object:
        return codec.decode(payload.decode() if codec.opcode == native.TEXT else payload)

    busy = Rejected("busy", "later", 250)
    full = Rejected("room_full", "no place")
    assert heard(codec.encode_event("room:ready", {"room": "r"})) == Event("room:ready", {"room": "r"})
    assert heard(codec.encode_event("error", {"mine": 1})) == Event("error", {"mine": 1})
    assert heard(codec.encode_reply(9, None)) == Reply(9, None)
    assert heard(codec.encode_refusal(9, busy, "chat:send")) == Refusal(9, "busy", "later", 250)
    assert heard(codec.encode_refusal(9, full)) == Refusal(9, "room_full", "no place")
    assert heard(codec.encode_refusal(None, full, "chat:send")) == Refusal(
        None, "room_full", "no place", None, "chat:send"
    )
    assert heard(codec.encode_refusal(None, full)) == Refusal(None, "room_full", "no place")


def test_envelopes_look_exactly_as_the_protocol_says() -> None:
    message = Message(room="r", seq=1, id=2, user="u", name="n", content="c", client_id="k", created_at=3)
    assert JSON.encode_event("chat:message", message) == (
        b'["chat:message",{"room":"r","seq":1,"id":2,"user":"u","name":"n","content":"c","clientId":"k","createdAt":3}]'
    )
    assert JSON.encode_reply(7, {}) == b"[7,{}]"
    assert (
        JSON.encode_refusal(7, Rejected("busy", "m", 5)) == b'[7,null,{"code":"busy","message":"m","retryAfterMs":5}]'
    )
    assert (
        JSON.encode_refusal(None, Rejected("busy", "m"), "e") == b'["error",{"code":"busy","message":"m","event":"e"}]'
    )
    assert JSON.encode_request("ping", 1) == b'["ping",1]'
    assert JSON.encode_request("ping", 1, 2) == b'["ping",1,2]'


@CODECS
def test_skimmed_data_can_be_sent_back_as_it_came(codec: Codec) -> None:
    request = codec.decode_request(pack(codec, ["ping", {"any": [1, None, "x"]}, 1]))
    echoed = codec.encode_reply(1, request.data)
    assert codec.decode(echoed.decode() if codec is JSON else echoed) == Reply(1, {"any": [1, None, "x"]})


@CODECS
@pytest.mark.parametrize(
    "envelope",
    [None, [], [1], ["a"], [0, None], [-1, None], [True, None], [1.5, None], ["a", 1, 2], [1, None, "x"], [1, 2, {}]],
    ids=repr,
)
def test_a_server_that_sends_no_envelope_is_at_fault(codec: Codec, envelope: object) -> None:
    with pytest.raises(PeerError) as caught:
        codec.decode(pack(codec, envelope))
    assert caught.value.close.code == PROTOCOL_ERROR.code


def test_subprotocols_name_the_codecs() -> None:
    assert by_subprotocol(None) is by_subprotocol("catfish.v1.json") is JSON
    assert by_subprotocol("catfish.v1.msgpack") is MSGPACK
    assert native.SUBPROTOCOLS == ("catfish.v1.msgpack", "catfish.v1.json")
    assert (JSON.opcode, MSGPACK.opcode) == (native.TEXT, native.BINARY) == (1, 2)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@CODECS
@given(event=st.text(), data=PLAIN, id=st.none() | st.integers(1, native.ID_MAX))
def test_every_request_arrives_as_it_was_sent(codec: Codec, event: str, data: object, id: int | None) -> None:
    payload = codec.encode_request(event, data, id)
    request = codec.decode_request(payload.decode() if codec is JSON else payload)
    assert (request.event, request.id) == (event, id)
    assert codec.decoder(object)(request.data) == data


def read_in_every_way(codec: Codec, message: str | bytes) -> None:
    for data_type in (object, Send, Nested):
        try:
            request = codec.decode_request(message)
            assert isinstance(request, Request)
            value = codec.decoder(data_type)(request.data)
            if data_type is object:
                check_data(value, 1_000)
        except Rejected as refused:
            assert refused.code in {"bad_envelope", "bad_request"}
            codec.encode_refusal(None, refused, "x")
    try:
        codec.decode(message)
    except PeerError as error:
        assert error.close.code == PROTOCOL_ERROR.code


@given(st.text() | PLAIN.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])))
def test_any_text_gives_an_envelope_or_a_refusal(text: str) -> None:
    read_in_every_way(JSON, text)
    read_in_every_way(JSON, f'["a",{text}]')


@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_give_an_envelope_or_a_refusal(data: bytes, cut: int) -> None:
    read_in_every_way(MSGPACK, data)
    read_in_every_way(MSGPACK, b"\x92\xa1a" + data)
    read_in_every_way(MSGPACK, b"\x93\xa1a\x81\xa4data" + data)
    read_in_every_way(MSGPACK, MSGPACK.encode_request("chat:send", {"room": "r", "content": "x"}, 1)[:cut] + data)


def test_free_data_must_fit_both_codecs_and_its_limits() -> None:
    def words(value: object) -> str:
        return refusal_of(check_data, value, 200).message

    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = [value]
        return value

    assert check_data({"a": [1, None, "ä"]}, 200) == '{"a":[1,null,"ä"]}'.encode()
    assert check_data("x" * 198, 200) == b'"' + b"x" * 198 + b'"'
    assert words("x" * 199) == "data: 201 bytes as JSON, at most 200 are allowed"
    assert words(2**64) == "data: an integer of more than 64 bits"
    assert words(msgspec.msgpack.Ext(5, b"x")) == "data: holds what JSON cannot express"
    assert words({None: 1}) == "data: holds what JSON cannot express"
    check_data([[]] * 60, 10_000)
    check_data([[1]] * 2_000, 10_000)
    check_data(nested(100), 10_000)
    for depth in (101, 100_000):
        refused = refusal_of(check_data, nested(depth), 10_000)
        assert "within each other" in refused.message
