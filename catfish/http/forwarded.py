"""Who asks, where a trusted proxy passes requests on: the ASGI scope's `client` and `scheme` say what it says."""

from __future__ import annotations

from catfish.http.cors import App, Receive, Scope, Send
from catfish.net.proxies import Proxies
from catfish.wire.addresses import UNIX, address_of, build_name, canonical


class Forwarded:
    """An ASGI application in front of all others, for which `scope["client"]` is the client (None: it came over a Unix
    socket), and `scope["scheme"]` how it came to the first proxy that is trusted."""

    def __init__(self, app: App, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = self._described(scope)
        await self._app(scope, receive, send)

    def _described(self, scope: Scope) -> Scope:
        host, port = scope.get("client") or ("", 0)
        peer = (canonical(host) or host) if host else UNIX
        described = self._proxies.describe(peer, headers_of(scope))
        address = described.address or peer
        client = None if address == UNIX else (address, port if address == peer else 0)
        scheme = described.scheme if described.scheme in ("http", "https") else scope.get("scheme", "http")
        return {**scope, "client": client, "scheme": scheme}


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
