"""Which web pages may open a connection.

Browsers send along whatever the user is logged in with, and name the page's origin (RFC 6454); other clients name none.
Nobody's pages may come in but

- those of the server itself: the origin's host is the one that the request is for (`Host`, as the proxy passes it on);
- those that `Settings.origins` names;
- those of `localhost`, when the browser itself is on this machine and there is no proxy in between. Then "localhost" is
  the developer's own; in the request of anybody else it is whatever runs on the machine of that user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from catfish.net.proxies import is_straight
from catfish.wire.addresses import Networks
from catfish.wire.http import HttpRefusal, RequestHead

LOCAL_HOSTS: Final = frozenset(("localhost", "127.0.0.1", "::1"))
LOOPBACK: Final = Networks(("127.0.0.0/8", "::1/128"))
ANY: Final = "*"


def is_allowed(headers: Mapping[str, str], address: str, allowed: Sequence[str]) -> bool:
    """Whether the page that sends a request may talk to the server; a client that is no page may.

    Args:
        headers: of the request, by lower-case names.
        address: the client's.
        allowed: `Settings.origins`.
    """
    origin = headers.get("origin")
    if origin is None or ANY in allowed or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        is_local = parts.hostname in LOCAL_HOSTS
    except ValueError:
        return False
    if parts.netloc and parts.netloc.lower() == headers.get("host", "").lower():
        return True
    return is_local and address in LOOPBACK and is_straight(headers)


def check_origin(head: RequestHead, address: str, allowed: Sequence[str]) -> None:
    """Raises: HttpRefusal: 403."""
    if not is_allowed(head.headers, address, allowed):
        origin = head.headers["origin"]
        raise HttpRefusal(403, f"pages of {origin} may not connect; the setting `origins` allows them")
