"""Whose pages may connect, as a table."""

from __future__ import annotations

import pytest

from catfish.server.origins import check_origin, is_allowed
from catfish.wire.http import HttpRefusal, RequestHead

AWAY, HERE = "203.0.113.9", "127.0.0.1"
CHAT = "https://chat.example"


@pytest.mark.parametrize(
    ("origin", "host", "address", "allowed", "expected"),
    [
        (None, "chat.example", AWAY, (), True),  # no page at all
        (CHAT, "chat.example", AWAY, (), True),  # its own page
        (CHAT, "Chat.Example", AWAY, (), True),
        ("https://chat.example:8443", "chat.example:8443", AWAY, (), True),
        ("https://chat.example:8443", "chat.example", AWAY, (), False),
        ("https://evil.example", "chat.example", AWAY, (), False),
        ("https://evil.example", "chat.example", HERE, (), False),
        ("https://chat.example.evil.example", "chat.example", AWAY, (), False),
        (CHAT, "127.0.0.1:8080", AWAY, (), False),  # the proxy does not pass Host on
        (CHAT, "127.0.0.1:8080", AWAY, (CHAT,), True),
        ("https://evil.example", "chat.example", AWAY, (CHAT,), False),
        ("https://evil.example", "chat.example", AWAY, ("*",), True),
        ("null", "chat.example", AWAY, (), False),
        ("null", "", AWAY, (), False),
        ("null", None, HERE, (), False),
        ("", "", HERE, (), False),
        ("http://[", "chat.example", HERE, (), False),
        ("http://localhost:5173", "localhost:8080", HERE, (), True),  # development
        ("http://127.0.0.1:5173", "localhost:8080", "::1", (), True),
        ("http://[::1]:5173", "localhost:8080", HERE, (), True),
        ("http://localhost:5173", "chat.example", AWAY, (), False),  # whatever runs on the machine of a user
        ("http://localhost:5173", "chat.example", "unix", (), False),
        ("http://localhost:5173", "chat.example", "10.0.0.1", (), False),
        ("http://localhost:8080", "localhost:8080", "172.17.0.1", (), True),  # published by a container
        ("http://localhost.evil.example", "localhost:8080", HERE, (), False),
    ],
)
def test_pages_are_told_apart(
    origin: str | None, host: str | None, address: str, allowed: tuple[str, ...], expected: bool
) -> None:
    headers = {name: value for name, value in (("origin", origin), ("host", host)) if value is not None}
    assert is_allowed(headers, address, allowed) is expected
    head = RequestHead("GET", "/ws", "/ws", "", (1, 1), headers)
    if expected:
        check_origin(head, address, allowed)
    else:
        with pytest.raises(HttpRefusal, match="may not connect") as caught:
            check_origin(head, address, allowed)
        assert caught.value.status == 403


@pytest.mark.parametrize("field", ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host"])
def test_behind_a_proxy_on_this_machine_nobody_is_on_this_machine(field: str) -> None:
    headers = {"origin": "http://localhost:5173", "host": "chat.example", field: "x"}
    assert not is_allowed(headers, HERE, ())
