"""Requests that are trusted for where they come from, or for the key that they bring."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.requests import Request

from catfish.config import Settings
from catfish.http.asgi import client_of
from catfish.http.requests import bearer
from catfish.net.proxies import is_straight
from catfish.wire.addresses import Networks

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
        self._networks = Networks(networks)

    def sent(self, request: Request) -> bool:
        """Whether the request comes from there, and straight from a program: not through a proxy, not from a page."""
        headers = request.headers
        if not is_straight(headers) or any(field in headers for field in BROWSER):
            return False
        return client_of(request.scope) in self._networks
