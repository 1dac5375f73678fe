"""PROXY headers as proxies send them."""

from __future__ import annotations

import socket
import struct

from catfish.wire.proxy_protocol import SIGNATURE

PROXY = 0x21
LOCAL = 0x20


def build_v2(command: int, family: int, content: bytes) -> bytes:
    """Version 2. `command` is version and command, `family` address family and transport."""
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(content)) + content


def tcp4(address: str, port: int = 1234) -> bytes:
    """Version 1."""
    return f"PROXY TCP4 {address} 192.0.2.1 {port} 80\r\n".encode()


def tcp4_v2(address: str, port: int = 1234) -> bytes:
    """Version 2, with a TLV."""
    addresses = socket.inet_aton(address) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", port, 80)
    return build_v2(PROXY, 0x11, addresses + b"\x05\x00\x04abcd")
