"""The opening handshake: what is agreed on, and how each wrong request is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.wire.http import HttpRefusal, RequestHead, parse_request_head
from catfish.wire.websocket.handshake import _COMPLETE, _GRAMMAR, Accepted, accept, is_upgrade, parse_extensions

# The request of RFC 6455 section 1.2.
SOUND = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


Changes = Mapping[str, str | None]


def request(changes: Changes = MappingProxyType({}), method: str = "GET") -> RequestHead:
    """The sound request with changed headers; None leaves one out."""
    headers = {**SOUND, **changes}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return parse_request_head("\r\n".join([f"{method} /chat HTTP/1.1", *lines, "", ""]).encode("latin-1"))


def accepted(
    changes: Changes = MappingProxyType({}), *, subprotocols: tuple[str, ...] = (), deflate: bool = True
) -> Accepted:
    return accept(request(changes), subprotocols=subprotocols, deflate=deflate)


def refusal_of(head: RequestHead) -> HttpRefusal:
    with pytest.raises(HttpRefusal) as caught:
        accept(head, subprotocols=(), deflate=True)
    return caught.value


def test_the_example_of_the_rfc_is_accepted() -> None:
    assert accepted() == Accepted(
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n",
        None,
        None,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive,\tupgrade ,"},
        {"Content-Length": "0"},
    ],
)
def test_lists_and_case_of_a_sound_request_do_not_matter(changes: Changes) -> None:
    assert accepted(changes).response == accepted().response


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "get", "A" * 5000])
def test_another_method_is_405_with_allow(method: str) -> None:
    refusal = refusal_of(request(method=method))
    assert refusal.status == 405
    assert ("Allow", "GET") in refusal.headers
    assert len(refusal.text) < 100


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Upgrade": "websockets"},
        {"Upgrade": "websocket h2c"},
        {"Connection": None},
        {"Connection": "keep-alive"},
        {"Connection": "close, upgraded"},
    ],
)
def test_a_request_without_upgrade_is_426_with_upgrade(changes: Changes) -> None:
    refusal = refusal_of(request(changes))
    assert refusal.status == 426
    assert next(iter(changes)) in refusal.text
    assert ("Upgrade", "websocket") in refusal.headers
    assert b"\r\nConnection: close, Upgrade\r\n" in refusal.response()


@pytest.mark.parametrize("version", [None, "", "8", "0", "12", "14", "013", "13.0", "13, 13", "thirteen"])
def test_another_version_is_426_and_told_which(version: str | None) -> None:
    refusal = refusal_of(request({"Sec-WebSocket-Version": version}))
    assert refusal.status == 426
    assert ("Sec-WebSocket-Version", "13") in refusal.headers
    assert ("Upgrade", "websocket") in refusal.headers
    assert "Sec-WebSocket-Version" in refusal.text


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZTE=",
        "dGhlIHNhbXBsZSBub2==",
        "dGhlIHNhbXBsZSBub25j-_==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
    ],
)
def test_a_key_that_is_not_sixteen_bytes_is_400(key: str | None) -> None:
    refusal = refusal_of(request({"Sec-WebSocket-Key": key}))
    assert refusal.status == 400
    assert "Sec-WebSocket-Key" in refusal.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Host": ""}, "Host"),
        ({"Content-Length": "5"}, "no body"),
        ({"Transfer-Encoding": "chunked"}, "no body"),
        ({"Sec-WebSocket-Protocol": "a b"}, "Sec-WebSocket-Protocol"),
        ({"Sec-WebSocket-Protocol": "a, b/c"}, "Sec-WebSocket-Protocol"),
        ({"Sec-WebSocket-Extensions": "a b"}, "Sec-WebSocket-Extensions"),
    ],
)
def test_other_malformed_requests_are_400(changes: Changes, reason: str) -> None:
    refusal = refusal_of(request(changes))
    assert refusal.status == 400
    assert reason in refusal.text


def test_malformed_extensions_are_refused_even_where_none_is_wanted() -> None:
    with pytest.raises(HttpRefusal):
        accepted({"Sec-WebSocket-Extensions": "permessage-deflate;"}, deflate=False)


@pytest.mark.parametrize(
    ("asked", "spoken", "chosen"),
    [
        (None, ("a", "b"), None),
        ("", ("a", "b"), None),
        ("a", (), None),
        ("b, a", ("a", "b"), "a"),
        ("b", ("a", "b"), "b"),
        ("c,,b,", ("a", "b"), "b"),
        ("c", ("a", "b"), None),
        ("A", ("a", "b"), None),
    ],
)
def test_the_servers_favourite_subprotocol_is_chosen(
    asked: str | None, spoken: tuple[str, ...], chosen: str | None
) -> None:
    answer = accepted({"Sec-WebSocket-Protocol": asked}, subprotocols=spoken)
    assert answer.subprotocol == chosen
    line = f"\r\nSec-WebSocket-Protocol: {chosen}\r\n".encode()
    assert (line in answer.response) == (chosen is not None)
    assert answer.response.count(b"Sec-WebSocket-Protocol") == (chosen is not None)


def test_deflate_is_agreed_on_when_both_want_it() -> None:
    offer = "permessage-deflate; client_max_window_bits"
    answer = accepted({"Sec-WebSocket-Extensions": offer})
    assert answer.deflate is not None
    assert answer.deflate.compresses
    assert f"\r\nSec-WebSocket-Extensions: {answer.deflate.response}\r\n\r\n".encode() in answer.response

    for other in (
        accepted({"Sec-WebSocket-Extensions": offer}, deflate=False),
        accepted({"Sec-WebSocket-Extensions": "x-other"}),
    ):
        assert other.deflate is None
        assert b"Extensions" not in other.response


def test_an_upgrade_is_recognised_before_it_is_judged() -> None:
    assert is_upgrade(request())
    assert is_upgrade(request({"Connection": None}))
    assert is_upgrade(request({"Upgrade": "h2c, WebSocket"}, "POST"))
    assert not is_upgrade(request({"Upgrade": None}))
    assert not is_upgrade(request({"Upgrade": "h2c"}))


@pytest.mark.parametrize(
    ("value", "extensions"),
    [
        ("", []),
        (" , ,", []),
        ("a", [("a", [])]),
        ("a, b", [("a", []), ("b", [])]),
        ("a;b", [("a", [("b", None)])]),
        ("a ; b = c\t;d=10 , e", [("a", [("b", "c"), ("d", "10")]), ("e", [])]),
        ('a; b="c"', [("a", [("b", "c")])]),
        ('a; b="c\\d"', [("a", [("b", "cd")])]),
        ("a; b; b", [("a", [("b", None), ("b", None)])]),
        ("a, a; b", [("a", []), ("a", [("b", None)])]),
    ],
)
def test_extensions_are_parsed(value: str, extensions: list[tuple[str, list[tuple[str, str | None]]]]) -> None:
    assert parse_extensions(value) == extensions


@pytest.mark.parametrize(
    ("value", "character"),
    [
        (";", 1),
        ("=", 1),
        ('"a"', 1),
        ("a b", 3),
        ("a;", 3),
        ("a;;b", 3),
        ("a;,b", 3),
        ("a=b", 2),
        ("a;b=", 5),
        ("a;b=;", 5),
        ("a;b=c d", 7),
        ("a;b=c=d", 6),
        ('a;"b"', 3),
        ('a;b="', 5),
        ('a;b=""', 5),
        ('a;b="c d"', 5),
        ('a;b="c"d', 8),
        ("a;b@c", 4),
        ("\xe9", 1),
    ],
)
def test_malformed_extensions_are_400_and_the_place_is_told(value: str, character: int) -> None:
    with pytest.raises(HttpRefusal) as caught:
        parse_extensions(value)
    assert caught.value.status == 400
    assert caught.value.text == f"Sec-WebSocket-Extensions is malformed at character {character}."


def test_every_move_in_the_grammar_of_extensions_is_allowed_or_refused() -> None:
    paths = {  # a way into every state
        "start": "",
        "extension": "x",
        "expect name": "x;",
        "name": "x;y",
        "expect value": "x;y=",
        "value": "x;y=z",
    }
    assert {state for state, _ in _GRAMMAR} == set(paths)
    inputs = {"token": " t", "quoted": '"q"', ",": ",", ";": ";", "=": "="}
    for state, path in paths.items():
        for kind, text in inputs.items():
            if state == "expect value" and kind == "token":
                text = "t"
            following = _GRAMMAR.get((state, kind))
            if following in _COMPLETE:
                parse_extensions(path + text)
            else:
                with pytest.raises(HttpRefusal):
                    parse_extensions(path + text)


@given(st.text('ab;,="\\ \t@\xe9', max_size=30))
def test_any_extensions_header_gives_a_list_or_a_refusal(value: str) -> None:
    try:
        extensions = parse_extensions(value)
    except HttpRefusal as refusal:
        assert refusal.status == 400
        return
    written = ", ".join(
        "; ".join([name, *(key if text is None else f"{key}={text}" for key, text in parameters)])
        for name, parameters in extensions
    )
    assert parse_extensions(written) == extensions


@given(
    st.dictionaries(
        st.sampled_from([*SOUND, "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Content-Length"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30),
        max_size=3,
    )
)
def test_any_headers_are_accepted_or_refused_with_a_reason(changes: Changes) -> None:
    lines = [f"{name}: {value}" for name, value in {**SOUND, **changes}.items()]
    try:
        head = parse_request_head("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode("latin-1"))
        assert accept(head, subprotocols=("a",), deflate=True).response.startswith(b"HTTP/1.1 101 ")
    except HttpRefusal as refusal:
        assert refusal.status in (400, 426)
        assert refusal.text
