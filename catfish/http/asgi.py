"""The types of ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html), and what a scope says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from catfish.wire.addresses import UNIX, address_of, build_name

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application."""
Headers = list[tuple[bytes, bytes]]


def headers_of(scope: Scope) -> dict[str, str]:
    """The fields of a request; repeated ones are joined (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def peer_of(scope: Scope) -> str:
    """The name of whoever asks: `203.0.113.9:1234`, `[2001:db8::1]:1234`, `unix`; without a port of its own behind a
    proxy, then that is 0."""
    host, port = scope.get("client") or ("", 0)
    return build_name(host, port) if host else UNIX


def client_of(scope: Scope) -> str:
    """The address of whoever asks, or `unix`."""
    return address_of(peer_of(scope))
