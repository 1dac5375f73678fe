"""Requests that are trusted for where they come from, or for the key that they bring."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

from catfish.config import Settings
from catfish.http.requests import bearer

UNIX = "unix"
"""Stands for the peers of Unix sockets, who have no address."""
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Fields that proxies add: behind one the address is the proxy's, whoever asked."""
BROWSER = ("origin", "sec-fetch-site")
"""Fields that browsers send with every POST: a page runs on its user's machine, whoever wrote it. Node sends
`sec-fetch-mode` as well."""


def has_api_key(request: Request, settings: Settings) -> bool:
    """Whether it brings the key of the server API, in `X-Api-Key` or as a bearer token."""
    given = request.headers.get("x-api-key") or bearer(request)
    if settings.api_key is None or given is None:
        return False
    return hmac.compare_digest(given.encode(), settings.api_key.encode())


class TrustedAddresses:
    """Args:
    networks: addresses and networks, or `unix`; checked by the settings.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in networks if each != UNIX]
        self._unix = UNIX in networks

    def sent(self, request: Request) -> bool:
        """Whether the request comes from there, and straight from a program: not through a proxy, not from a page."""
        if any(field in request.headers for field in (*FORWARDED, *BROWSER)):
            return False
        host = request.client.host if request.client is not None else ""
        if not host:
            return self._unix
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
