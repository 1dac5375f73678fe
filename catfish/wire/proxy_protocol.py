"""The PROXY protocol, versions 1 and 2: how a proxy that only passes bytes on says who is at its other end. Pure.

The header comes before everything else, TLS included. Whether there is one must not be guessed from the bytes: a
setting says who sends it, and whoever does must.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. A checksum among the TLVs is skipped like the
others.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from catfish.errors import PROTOCOL_ERROR, PeerError
from catfish.wire.addresses import UNIX, build_name, canonical

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""With which a header of version 2 begins (section 2.2)."""
FIXED_BYTES: Final = 16
LINE_BYTES_MAX: Final = 107
"""Of a header of version 1, its end included (section 2.1)."""
LINE_START: Final = b"PROXY "
ADDRESS_BYTES: Final = {1: 12, 2: 36, 3: 216}
"""By family: two addresses and two ports, or two paths."""
STREAM: Final = 1

_PORT: Final = r"(?:0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(rf"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ({_PORT}) ({_PORT})")


class ProxyHeader(NamedTuple):
    client: str | None
    """The client's name; None: the proxy speaks for itself (a health check), or does not know."""
    size: int
    """Bytes that the header takes."""


def parse_proxy_header(data: bytes, *, bytes_max: int) -> ProxyHeader | None:
    """Read the header that `data` begins with; None when it is not complete yet.

    Args:
        bytes_max: of a header with everything that it carries.

    Raises:
        PeerError: it begins with something else; there is nothing that could be answered.
    """
    if data[: len(SIGNATURE)] == SIGNATURE:
        return _parse_binary(data, bytes_max)
    if data[: len(LINE_START)] == LINE_START:
        return _parse_line(data)
    if SIGNATURE.startswith(data) or LINE_START.startswith(data):
        return None
    raise _refusal("there is none")


def _refusal(why: str) -> PeerError:
    return PeerError(PROTOCOL_ERROR, f"PROXY header: {why}")


def _parse_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, LINE_BYTES_MAX)
    if end < 0:
        if len(data) >= LINE_BYTES_MAX:
            raise _refusal("the line does not end")
        return None
    line = data[:end].decode("latin-1")
    size = end + 2
    if line == "PROXY UNKNOWN" or line.startswith("PROXY UNKNOWN "):
        return ProxyHeader(None, size)
    match = _LINE.fullmatch(line)
    if match is None:
        raise _refusal("the line is malformed")
    family, source, target = match[1], match[2], match[3]
    kind: type[IPv4Address | IPv6Address] = IPv4Address if family == "4" else IPv6Address
    try:
        kind(source), kind(target)
    except ValueError:
        raise _refusal("an address is malformed") from None
    ports = int(match[4]), int(match[5])
    if max(ports) > 65_535:
        raise _refusal("a port is above 65535")
    return ProxyHeader(build_name(canonical(source) or source, ports[0]), size)


def _parse_binary(data: bytes, bytes_max: int) -> ProxyHeader | None:
    if len(data) < FIXED_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 15
    family, protocol = data[13] >> 4, data[13] & 15
    if version != 2 or command > 1 or family > 3 or protocol > 2:
        raise _refusal("an unknown version, command, family or protocol")
    size = FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if size > bytes_max:
        raise _refusal(f"{size} bytes are more than {bytes_max}")
    if len(data) < size:
        return None
    content = data[FIXED_BYTES:size]
    if command == 0 or family == 0 or protocol != STREAM:
        return ProxyHeader(None, size)
    if len(content) < ADDRESS_BYTES[family]:
        raise _refusal("it is too short for its addresses")
    _check_rest(content[ADDRESS_BYTES[family] :])
    if family == 1:
        return ProxyHeader(build_name(str(IPv4Address(content[:4])), int.from_bytes(content[8:10], "big")), size)
    if family == 2:
        address = str(IPv6Address(content[:16]))
        return ProxyHeader(build_name(canonical(address) or address, int.from_bytes(content[32:34], "big")), size)
    return ProxyHeader(UNIX, size)


def _check_rest(rest: bytes) -> None:
    """What follows the addresses is a list of TLVs: a byte for the type, two for the length, and so many (section
    2.2.7)."""
    position = 0
    while position < len(rest):
        if position + 3 > len(rest):
            raise _refusal("what follows the addresses is malformed")
        position += 3 + int.from_bytes(rest[position + 1 : position + 3], "big")
    if position != len(rest):
        raise _refusal("what follows the addresses is malformed")
