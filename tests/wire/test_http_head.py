"""Request heads: what is understood, and what is refused with which words."""

from __future__ import annotations

import string

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.wire.http import HttpRefusal, find_head_end, parse_request_head


def head_of(*lines: str, request: str = "GET /ws HTTP/1.1") -> bytes:
    return "\r\n".join([request, *lines, "", ""]).encode("latin-1")


def refusal_of(head: bytes) -> HttpRefusal:
    with pytest.raises(HttpRefusal) as caught:
        parse_request_head(head)
    return caught.value


def test_a_request_is_taken_apart() -> None:
    head = parse_request_head(
        head_of(
            "Host: chat.example:8080", "X-One:1", "X-Two: \t two \t", "X-Empty:", request="GET /a%20b?x=1?y HTTP/1.1"
        )
    )
    assert head.method == "GET"
    assert head.target == "/a%20b?x=1?y"
    assert head.path == "/a%20b"
    assert head.query == "x=1?y"
    assert head.version == (1, 1)
    assert head.headers == {"host": "chat.example:8080", "x-one": "1", "x-two": "two", "x-empty": ""}


def test_repeated_headers_are_joined_in_order() -> None:
    head = parse_request_head(head_of("A: 1", "Host: h", "a: 2", "B: x", "A:3"))
    assert head.headers == {"a": "1, 2, 3", "host": "h", "b": "x"}


def test_thousands_of_equal_headers_are_joined_once() -> None:
    head = parse_request_head(head_of("Host: h", *["a: bc"] * 3000))
    assert head.headers["a"] == ", ".join(["bc"] * 3000)


def test_values_are_latin_1() -> None:
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: h\r\nName: caf\xe9 \xc3\xa9\r\n\r\n")
    assert head.headers["name"] == "caf\xe9 \xc3\xa9"


def test_heads_share_the_strings_of_their_names() -> None:
    first, second = (parse_request_head(head_of("Host: h", "X-Rare: 1")) for _ in range(2))
    assert [id(name) for name in first.headers] == [id(name) for name in second.headers]


def test_one_empty_line_before_the_request_is_forgiven() -> None:
    assert parse_request_head(b"\r\n" + head_of("Host: h")).path == "/ws"
    assert refusal_of(b"\r\n\r\n" + head_of("Host: h")).status == 400


@pytest.mark.parametrize(
    ("method", "target", "path", "query", "host"),
    [
        ("GET", "/", "/", "", "h"),
        ("GET", "/?", "/", "", "h"),
        ("GET", "//x/y", "//x/y", "", "h"),
        ("GET", "http://other.example", "/", "", "other.example"),
        ("GET", "ws://other.example:81/a/b?c=d", "/a/b", "c=d", "other.example:81"),
        ("GET", "http://[::1]:80?q", "/", "q", "[::1]:80"),
        ("OPTIONS", "*", "*", "", "h"),
        ("CONNECT", "other.example:443", "other.example:443", "", "h"),
    ],
)
def test_every_form_of_a_target_has_its_path(method: str, target: str, path: str, query: str, host: str) -> None:
    head = parse_request_head(head_of("Host: h", request=f"{method} {target} HTTP/1.1"))
    assert (head.path, head.query, head.headers["host"]) == (path, query, host)


@pytest.mark.parametrize(
    "request_line",
    [
        "",
        "GET",
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /caf\xe9 HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/1.\xb9",
        "\x16\x03\x01\x02\x00",
    ],
)
def test_a_malformed_request_line_is_400(request_line: str) -> None:
    refusal = refusal_of(head_of("Host: h", request=request_line))
    assert (refusal.status, refusal.text) == (400, "The request line is not METHOD TARGET HTTP/1.1.")


@pytest.mark.parametrize(
    "target", ["*", "ws", "example.org/x", "http:///x", "http://me@host/", "http://a b/", "http://h\\/"]
)
def test_a_target_that_is_neither_path_nor_url_is_400(target: str) -> None:
    assert refusal_of(head_of("Host: h", request=f"GET {target} HTTP/1.1")).status == 400


@pytest.mark.parametrize("version", ["1.0", "0.9", "2.0", "1.2", "3.1"])
def test_another_version_is_505(version: str) -> None:
    refusal = refusal_of(head_of("Host: h", request=f"GET / HTTP/{version}"))
    assert refusal.status == 505
    assert version in refusal.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("X-A : 1", "blank before its colon"),
        ("X-A\t: 1", "blank before its colon"),
        (" folded", "folded"),
        ("\tfolded: yes", "folded"),
        ("no colon here", "no colon"),
        (": no name", "name that is not a token"),
        ("X A: 1", "name that is not a token"),
        ("X-\xc9: 1", "name that is not a token"),
        ("X-A: 1\rX-B: 2", "bare CR or LF"),
        ("X-A: 1\nX-B: 2", "bare CR or LF"),
        ("X-A: 1\r", "bare CR or LF"),
        ("X-A: a\x00b", "control character"),
        ("X-A: a\x7fb", "control character"),
        ("X-A: a\x0bb", "control character"),
    ],
)
def test_a_malformed_header_is_400_and_named(line: str, reason: str) -> None:
    refusal = refusal_of(head_of("Host: h", line, "Other: x"))
    assert refusal.status == 400
    assert refusal.text.startswith("Header line 2 ")
    assert reason in refusal.text


def test_a_line_that_ends_with_a_bare_lf_never_passes() -> None:
    sound = head_of("Host: h", "A: b")
    for index in range(len(sound)):
        if sound[index : index + 2] == b"\r\n":
            assert refusal_of(sound[:index] + sound[index + 1 :]).status == 400


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "missing"),
        (("X: y",), "missing"),
        (("Host: a", "Host: a"), "more than one"),
        (("Host: a", "HOST: b"), "more than one"),
        (("Host: a b",), "not a host"),
        (("Host: a/b",), "not a host"),
        (("Host: me@host",), "not a host"),
        (("Host: caf\xe9",), "not a host"),
    ],
)
def test_there_must_be_one_sound_host(lines: tuple[str, ...], reason: str) -> None:
    refusal = refusal_of(head_of(*lines))
    assert refusal.status == 400
    assert reason in refusal.text


def test_an_unfinished_head_is_400() -> None:
    sound = head_of("Host: h")
    for length in range(len(sound)):
        assert refusal_of(sound[:length]).status == 400


def test_the_end_of_a_head_is_found_wherever_it_was_cut() -> None:
    head = head_of("Host: h", "A: b")
    data = head + b"\r\n\r\nbody"
    assert find_head_end(data) == len(head)
    for seen in range(len(data)):
        if seen < len(head):
            assert find_head_end(data[:seen]) == -1
        assert find_head_end(bytearray(data), min(seen, len(head) - 1)) == len(head)
    assert find_head_end(b"") == -1


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_a_head_of_bare_line_feeds_ends_and_is_refused_instead_of_waited_for(blank: bytes) -> None:
    data = b"GET / HTTP/1.1\nHost: h" + blank + b"rest"
    end = find_head_end(data)
    assert data[end:] == b"rest"
    assert refusal_of(data[:end]).status == 400


def test_a_refusal_is_a_whole_answer() -> None:
    refusal = HttpRefusal(405, "No.", (("Allow", "GET"),))
    assert refusal.response() == (
        b"HTTP/1.1 405 Method Not Allowed\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 4\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Allow: GET\r\n"
        b"\r\n"
        b"No.\n"
    )
    assert str(refusal) == "405 No."


def test_a_refusal_that_names_an_upgrade_says_so_in_connection() -> None:
    assert b"\r\nConnection: close, Upgrade\r\n" in HttpRefusal(426, "No.", (("Upgrade", "websocket"),)).response()


@given(st.binary(max_size=200))
def test_any_bytes_give_a_head_or_a_refusal(data: bytes) -> None:
    for candidate in (
        data,
        b"GET / HTTP/1.1\r\nHost: h\r\n" + data,
        b"GET / HTTP/1.1\r\nHost: h\r\n" + data + b"\r\n\r\n",
    ):
        try:
            parse_request_head(candidate)
        except HttpRefusal as refusal:
            assert refusal.status in (400, 505)
            assert refusal.response().startswith(b"HTTP/1.1 ")


TOKENS = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


@given(
    method=TOKENS,
    target=st.text(string.ascii_letters + string.digits + "/%?=&.:@", max_size=20),
    fields=st.lists(st.tuples(TOKENS.filter(lambda name: name.lower() != "host"), VALUES), max_size=8),
    blanks=st.sampled_from(["", " ", "\t", "  \t"]),
)
def test_a_head_is_understood_as_h11_understands_it(
    method: str, target: str, fields: list[tuple[str, str]], blanks: str
) -> None:
    # Framing headers have rules of their own in h11; they are Hypercorn's, not ours.
    fields = [(name, value) for name, value in fields if name.lower() not in ("content-length", "transfer-encoding")]
    lines = [f"{name}:{blanks}{value}{blanks}" for name, value in fields]
    data = head_of("Host: h", *lines, request=f"{method} /{target} HTTP/1.1")
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    joined: dict[str, list[str]] = {}
    for name, value in event.headers:
        joined.setdefault(name.decode(), []).append(value.decode("latin-1"))

    head = parse_request_head(data)
    assert head.method == event.method.decode()
    assert head.target == event.target.decode()
    assert head.headers == {name: ", ".join(values) for name, values in joined.items()}
