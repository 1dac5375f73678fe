"""Who asks over HTTP, where proxies stand in between: request by request, since a proxy's connection carries many."""

from __future__ import annotations

from typing import Any

import pytest

from catfish.config import Settings
from catfish.http.asgi import client_of, headers_of, peer_of
from catfish.http.forwarded import Forwarded
from catfish.net.proxies import Proxies
from tests.http.harness import call


class Watched:
    """An application that remembers the scope."""

    def __init__(self, **settings: Any) -> None:
        self.app = Forwarded(self._answer, Proxies(Settings(**settings)))
        self.scope: Any = None

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("peer", "headers", "client", "name", "scheme"),
    [
        ("10.0.0.1", {}, "10.0.0.1", "10.0.0.1:1", "http"),
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "203.0.113.9", "203.0.113.9:0", "http"),
        ("10.0.0.1", {"x-forwarded-for": "::9", "x-forwarded-proto": "https"}, "::9", "[::9]:0", "https"),
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "gopher"}, "203.0.113.9", None, "http"),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "203.0.113.9", "203.0.113.9:0", "http"),
        ("203.0.113.5", {"x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https"}, "203.0.113.5", None, "http"),
        ("", {"x-forwarded-for": "203.0.113.9"}, "unix", "unix", "http"),
    ],
)
async def test_the_scope_says_who_asks(
    peer: str, headers: dict[str, str], client: str, name: str | None, scheme: str
) -> None:
    watched = Watched(trusted_proxies=("10.0.0.0/8",))
    await call(watched.app, "GET", "/", headers=headers, peer=peer)
    assert client_of(watched.scope) == client
    assert name is None or peer_of(watched.scope) == name
    assert watched.scope["scheme"] == scheme


async def test_a_proxy_on_a_unix_socket_is_trusted_when_it_is_named() -> None:
    watched = Watched(trusted_proxies=("unix",))
    await call(watched.app, "GET", "/", headers={"x-forwarded-for": "203.0.113.9"}, peer="")
    assert client_of(watched.scope) == "203.0.113.9"
    await call(watched.app, "GET", "/", peer="")
    assert watched.scope["client"] is None


def test_repeated_fields_are_joined() -> None:
    scope = {"headers": [(b"X-Forwarded-For", b"a"), (b"host", b"x"), (b"x-forwarded-for", b"b")]}
    assert headers_of(scope) == {"x-forwarded-for": "a, b", "host": "x"}
