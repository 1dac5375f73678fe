"""Addresses of peers as texts, and the networks that settings name. Pure.

An *address* is `203.0.113.9`, `2001:db8::1`, or `unix` for the peer of a Unix socket, who has none. The *name* of a
peer has its port as well: `203.0.113.9:1234`, `[2001:db8::1]:1234`, `unix`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

UNIX: Final = "unix"
SUBSCRIBER_BITS: Final = 64
CHARS_MAX: Final = 64
"""Of an address with its zone; whatever is longer need not be looked at."""


def canonical(text: str) -> str | None:
    """An IP address in the one form that is compared: an IPv4 address that is written as an IPv6 one becomes that, a
    zone is dropped. None: it is no address."""
    return _canonical(text) if len(text) <= CHARS_MAX else None


@lru_cache(maxsize=8_192)
def _canonical(text: str) -> str | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


@lru_cache(maxsize=8_192)
def _parse(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address)


def address_of(name: str) -> str:
    """The address in the name of a peer; a text that is no name is taken as it is."""
    if name.startswith("["):
        host = name[1:].partition("]")[0]
    else:
        host = name.rpartition(":")[0] if name.count(":") == 1 else name
    return canonical(host) or host


@lru_cache(maxsize=8_192)
def subscriber_of(address: str) -> str:
    """Whom an address counts for: of IPv6 everybody has 2**64 addresses at least, so it is their network (RFC 6177)."""
    if ":" not in address:
        return address
    return str(ip_network((_parse(address), SUBSCRIBER_BITS), strict=False))


def build_name(address: str, port: int) -> str:
    """The name of a peer."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Networks:
    """Args:
    texts: addresses and networks, or `unix`; checked by the settings.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        names = tuple(texts)
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in names if each != UNIX]
        self._unix = UNIX in names
        self._look = lru_cache(maxsize=4_096)(self._look_up)

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether an address is in one of them."""
        if address == UNIX:
            return self._unix
        return bool(self._networks) and len(address) <= CHARS_MAX and self._look(address)

    def _look_up(self, address: str) -> bool:
        text = canonical(address)
        return text is not None and any(_parse(text) in network for network in self._networks)
