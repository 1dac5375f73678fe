"""PROXY headers: whole, byte by byte, cut off, malformed."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import PeerError
from catfish.wire.proxy_protocol import LINE_BYTES_MAX, SIGNATURE, ProxyHeader, parse_proxy_header
from tests.wire.proxy_headers import LOCAL, PROXY, build_v2, tcp4, tcp4_v2

MAX = 4_096
V4 = socket.inet_aton("203.0.113.9") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 1234, 80)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 1234, 80)
)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.9") * 2 + struct.pack("!HH", 1234, 80)
PATHS = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
TLVS = b"\x04\x00\x03abc" + b"\x20\x00\x00" + b"\x02\x00\x07chat.ex"

GOOD = [
    (tcp4("203.0.113.9", 7), "203.0.113.9:7"),
    (tcp4_v2("203.0.113.9", 7), "203.0.113.9:7"),
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80\r\n", "203.0.113.9:1234"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 1234 80\r\n", "[2001:db8::9]:1234"),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:9 ::1 0 80\r\n", "[2001:db8::9]:0"),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1234 80\r\n", "203.0.113.9:1234"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (build_v2(PROXY, 0x11, V4), "203.0.113.9:1234"),
    (build_v2(PROXY, 0x11, V4 + TLVS), "203.0.113.9:1234"),
    (build_v2(PROXY, 0x21, V6), "[2001:db8::9]:1234"),
    (build_v2(PROXY, 0x21, V6 + TLVS), "[2001:db8::9]:1234"),
    (build_v2(PROXY, 0x21, MAPPED), "203.0.113.9:1234"),
    (build_v2(PROXY, 0x31, PATHS), "unix"),
    (build_v2(PROXY, 0x31, PATHS + TLVS), "unix"),
    (build_v2(PROXY, 0x00, b""), None),
    (build_v2(PROXY, 0x00, b"whatever"), None),
    (build_v2(PROXY, 0x12, V4), None),  # a datagram's: not what we are connected to
    (build_v2(LOCAL, 0x00, b""), None),
    (build_v2(LOCAL, 0x11, V4), None),
    (build_v2(LOCAL, 0x11, b"anything"), None),
]
BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 203.0.113.9 192.0.2.1 1234 80\r\n",
    b"PROXY UDP4 203.0.113.9 192.0.2.1 1234 80\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 1234\r\n",
    b"PROXY TCP4  203.0.113.9 192.0.2.1 1234 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80 \r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 65536\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 01234 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 80\r\n",
    b"PROXY TCP4 203.0.113.999 192.0.2.1 1234 80\r\n",
    b"PROXY TCP4 2001:db8::9 2001:db8::1 1234 80\r\n",
    b"PROXY TCP6 203.0.113.9 192.0.2.1 1234 80\r\n",
    b"PROXY TCP6 2001:db8::9 ::g 1234 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80\n" + b"x" * 100,
    b"PROXY UNKNOWN " + b"x" * 100,
    b"\r\n\r\n\x00\r\nQUIT\r",
    build_v2(0x11, 0x11, V4),  # version 1 of a binary header
    build_v2(0x22, 0x11, V4),
    build_v2(PROXY, 0x41, V4),
    build_v2(PROXY, 0x13, V4),
    build_v2(PROXY, 0x11, V4[:-1]),
    build_v2(PROXY, 0x21, V6[:-1]),
    build_v2(PROXY, 0x31, PATHS[:-1]),
    build_v2(PROXY, 0x11, V4 + b"\x04\x00"),
    build_v2(PROXY, 0x11, V4 + b"\x04\x00\x09short"),
    build_v2(PROXY, 0x11, V4 + bytes(MAX)),
]


@pytest.mark.parametrize(("data", "client"), GOOD)
def test_a_header_names_the_client_whole_or_in_pieces_and_whatever_follows(data: bytes, client: str | None) -> None:
    for size in range(len(data)):
        assert parse_proxy_header(data[:size], bytes_max=MAX) is None
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", data):
        assert parse_proxy_header(data + rest, bytes_max=MAX) == ProxyHeader(client, len(data))


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_proper_header_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError, match=r"^PROXY header: "):
        parse_proxy_header(data, bytes_max=MAX)


def test_a_header_that_claims_more_than_it_may_have_is_refused_before_it_comes() -> None:
    data = build_v2(PROXY, 0x11, V4 + bytes(MAX))
    with pytest.raises(PeerError, match="are more than 4096"):
        parse_proxy_header(data[:16], bytes_max=MAX)


def test_a_line_without_an_end_is_refused_as_soon_as_it_is_too_long() -> None:
    line = b"PROXY UNKNOWN " + b"x" * LINE_BYTES_MAX
    assert parse_proxy_header(line[: LINE_BYTES_MAX - 1], bytes_max=MAX) is None
    with pytest.raises(PeerError):
        parse_proxy_header(line[:LINE_BYTES_MAX], bytes_max=MAX)


@given(st.binary(max_size=300), st.sampled_from((b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11")))
def test_any_bytes_give_a_header_or_a_peer_error(data: bytes, start: bytes) -> None:
    try:
        header = parse_proxy_header(start + data, bytes_max=MAX)
    except PeerError:
        return
    assert header is None or 0 < header.size <= len(start + data)
