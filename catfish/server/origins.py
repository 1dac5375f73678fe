"""Which web pages may open a connection.

Browsers send along whatever the user is logged in with, and name the page's origin (RFC 6454); other clients name none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from catfish.wire.http import HttpRefusal, RequestHead

LOCAL_HOSTS: Final = frozenset(("localhost", "127.0.0.1", "::1"))


def is_allowed(origin: str | None, host: str | None, allowed: Sequence[str]) -> bool:
    """Whether a page of `origin` may talk to the server that the request calls `host`."""
    if origin is None or "*" in allowed or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        if parts.hostname in LOCAL_HOSTS:
            return True
    except ValueError:
        return False
    return host is not None and parts.netloc.lower() == host.lower()


def check_origin(head: RequestHead, allowed: Sequence[str]) -> None:
    """Raises: HttpRefusal: 403."""
    origin = head.headers.get("origin")
    if not is_allowed(origin, head.headers.get("host"), allowed):
        raise HttpRefusal(403, f"pages of {origin} may not connect; the setting `origins` allows them")
