"""Who asks, where a trusted proxy passes requests on: the ASGI scope's `client` and `scheme` say what it says."""

from __future__ import annotations

from catfish.http.asgi import App, Receive, Scope, Send, headers_of
from catfish.net.proxies import Proxies
from catfish.wire.addresses import UNIX, canonical


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
