"""The forms of a Redis URL."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.redis_mirror import RedisMirror
from tests.mirror.world import Site


def arguments_of(url: str) -> tuple[type, dict[str, Any]]:
    (server,) = Addresses(url).locate(["s"], 1.0)
    assert server.streams == ("s",)
    return server.connection_class, server.arguments


@pytest.mark.parametrize(
    ("url", "kind", "arguments"),
    [
        ("redis://r", Connection, {"host": "r"}),
        ("redis://u:p%40ss@r:1/2", Connection, {"host": "r", "port": 1, "db": 2, "username": "u", "password": "p@ss"}),
        ("redis://[::1]:7?db=3&socket_timeout=9&max_connections=1", Connection, {"host": "::1", "port": 7, "db": 3}),
        ("rediss://r?ssl_cert_reqs=none", SSLConnection, {"host": "r", "ssl_cert_reqs": "none"}),
        ("unix:///a%20b/c.sock?db=1", UnixDomainSocketConnection, {"path": "/a b/c.sock", "db": 1}),
    ],
)
def test_one_server(url: str, kind: type, arguments: dict[str, Any]) -> None:
    assert arguments_of(url) == (kind, arguments)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://r", "unknown scheme"),
        ("redis+mirror://r", "unknown scheme"),
        ("redis+sentinel://a:1,b:2", "name of the master"),
        ("redis+cluster://a/3", "database 0 only"),
        ("redis+cluster://a:x", "a host that is none"),
        ("redis+cluster://a,,b", "names no host"),
        ("redis://r?colour=blue", "wrong parameter"),
    ],
)
def test_a_url_of_no_known_form_is_refused_without_repeating_it(url: str, complaint: str) -> None:
    secret = url.replace("://", "://u:pa55word@")
    with pytest.raises(StartError, match=complaint) as caught:
        RedisMirror(Settings(), "a", Site("a"), url=secret)
    assert "pa55word" not in str(caught.value)


def test_every_form_is_one_that_the_settings_take() -> None:
    for scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"):
        Settings(redis_url=f"{scheme}://h:1/name")
