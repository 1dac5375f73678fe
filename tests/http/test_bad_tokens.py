"""Every route that looks at tokens, and every kind of bad one: refused as JSON with a code."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from catfish.config import Settings
from tests.auth.signing import SECRET, bad_tokens, pem, token
from tests.http.harness import Api, call, open_api

STRICT: dict[str, Any] = {
    "jwt_secret": SECRET,
    "jwt_keys": (pem("ES256"),),
    "jwt_issuer": "us",
    "jwt_audience": ("chat",),
    "api_key": "the key of the server",
}


@pytest.fixture
async def api(nursery: trio.Nursery) -> Api:
    return await open_api(nursery, **STRICT)


async def routes(api: Api) -> list[tuple[str, str, bytes]]:
    """Method, target and body of everything that a token, or the API key, is asked for."""
    document = (await api.get("/openapi.json")).json
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            security = operation["security"]
            if security == [{"key": []}] or any("token" in each for each in security):
                body = b'{"chatId": "x"}' if "requestBody" in operation else b""
                found.append((method.upper(), path.replace("{", "").replace("}", ""), body))
    assert len(found) > 25
    return found


@pytest.mark.parametrize("name", bad_tokens())
async def test_a_bad_token_opens_no_route(api: Api, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    text = bad_tokens()[name]
    for method, target, body in await routes(api):
        for headers, query in (({"authorization": f"Bearer {text}"}, ""), ({}, f"?access_token={text}")):
            sent = {**headers, **({"content-type": "application/json"} if body else {})}
            answer = await call(api.app, method, f"{target}{query}", body, sent)
            assert answer.status == 401, (method, target, answer)
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json["code"] == "unauthorized"
            assert text not in answer.body.decode()
    assert len(text) < 20 or text not in caplog.text
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_good_one_does(api: Api) -> None:
    good = token({"iss": "us", "aud": "chat"})
    for answer in (
        await api.get("/api/messages?roomId=a%20", authorization=f"Bearer {good}"),
        await api.get(f"/api/messages?roomId=a%20&access_token={good}"),
    ):
        assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_a_token_that_cannot_be_checked_now_may_come_again(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, auth="required", jwks_url="http://127.0.0.1:1/keys", jwks_retry_s=7.0)
    assert Settings(auth="required", jwks_url="http://127.0.0.1:1/keys").jwks_retry_s == 10
    unknown = bad_tokens()["unknown kid"]
    answer = await api.get("/api/messages?roomId=a", authorization=f"Bearer {unknown}")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert 1 <= int(answer.headers["retry-after"]) <= 7
