"""The header fields that tell browsers to be careful: on every answer, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.http.asgi import App
from catfish.http.forwarded import Forwarded
from catfish.http.secure import FIELDS, HSTS, Secure
from catfish.net.proxies import Proxies
from catfish.server.engineio.refusal import EngineRefusal
from catfish.wire import engineio as wire
from catfish.wire.http import HttpRefusal
from tests.http.harness import Answer, Api, call, open_api


def secured(app: App, **settings: Any) -> App:
    chosen = Settings(**settings)
    return Forwarded(Secure(app, chosen), Proxies(chosen))


def check(answer: Answer) -> None:
    for name, value in FIELDS:
        if name != b"content-security-policy":
            assert answer.headers[name.decode()] == value.decode()
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("DELETE", "/health", 405),
        ("OPTIONS", "/health", 204),
        ("POST", "/api/messages", 400),
        ("GET", "/api/messages?roomCode=ABC234", 404),
    ],
)
async def test_every_answer_has_them(method: str, path: str, status: int, nursery: trio.Nursery) -> None:
    api = await open_api(nursery)
    answer = await call(secured(api.app), method, path)
    assert answer.status == status
    check(answer)
    assert HSTS.decode() not in answer.headers


@pytest.mark.parametrize(
    ("settings", "headers", "peer", "told"),
    [
        ({"trusted_proxies": ("10.0.0.1",)}, {"x-forwarded-proto": "https"}, "10.0.0.1", True),
        ({"trusted_proxies": ("10.0.0.1",)}, {"x-forwarded-proto": "http"}, "10.0.0.1", False),
        ({"trusted_proxies": ("10.0.0.1",)}, {"x-forwarded-proto": "https"}, "203.0.113.9", False),
        ({"trusted_proxies": ("10.0.0.1",), "hsts_s": 0}, {"x-forwarded-proto": "https"}, "10.0.0.1", False),
        ({"trusted_proxies": ("10.0.0.1",)}, {"x-forwarded-proto": "https", "host": "localhost:1"}, "10.0.0.1", False),
        ({"trusted_proxies": ("10.0.0.1",)}, {"x-forwarded-proto": "https", "host": "[::1]:1"}, "10.0.0.1", False),
    ],
)
async def test_who_came_by_https_is_told_to_keep_to_it(
    settings: dict[str, Any], headers: dict[str, str], peer: str, told: bool, nursery: trio.Nursery
) -> None:
    api = await open_api(nursery)
    answer = await call(
        secured(api.app, **settings), "GET", "/health", headers={"host": "chat.example", **headers}, peer=peer
    )
    assert (answer.headers.get(HSTS.decode()) == "max-age=15552000") is told


async def test_what_a_route_says_itself_stays() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Content-Security-Policy", b"default-src 'self'"), (b"x-frame-options", b"SAMEORIGIN")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    answer = await call(secured(app), "GET", "/")
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert "content-security-policy" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("refusal", [HttpRefusal(400, "No."), EngineRefusal(wire.BAD_REQUEST)])
def test_what_is_refused_before_there_is_an_application_is_not_sniffed(refusal: HttpRefusal) -> None:
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in refusal.response()


async def test_text_comes_back_as_it_was_sent_and_as_json(nursery: trio.Nursery) -> None:
    """Nothing is escaped on the way in, so whoever shows it has to; and no answer is a page that could show it."""
    text = "<script>alert('&amp;')</script> \u202e\U0001f408 'quoted' \"twice\" ${x} {{x}}"
    api: Api = await open_api(nursery)
    client = api.server.connect()
    await client.ask("hello", {"user": text[:40], "name": "<b>Ann</b>"})
    await client.ask("room:join", {"room": "r"})
    await client.ask("chat:send", {"room": "r", "content": text, "data": {text: [text]}})
    (message,) = client.heard("chat:message")
    assert (message["content"], message["data"]) == (text, {text: [text]})
    assert (message["user"], message["name"]) == (text[:40], "<b>Ann</b>")
    history = await client.ask("chat:history", {"room": "r"})
    assert history["messages"][0]["content"] == text
    answer = await call(secured(api.app), "GET", "/api/messages?roomId=r")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["messages"][0]["content"] == text
