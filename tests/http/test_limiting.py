"""Too many requests over HTTP: 429, and when to come again."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio
from starlette.requests import Request

from catfish.errors import Rejected
from catfish.http.pulse.common import caller
from tests.http.harness import Answer, Api, call, open_api
from tests.server.test_vocabularies import SECRET

PATH = "/api/messages?roomCode=ABC234"
ADDRESS = "203.0.113.9"


def sign_token(user: str) -> str:
    return jwt.encode({"sub": user}, SECRET, algorithm="HS256")


async def ask(api: Api, path: str = PATH, method: str = "GET", peer: str = ADDRESS, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(api.app, method, path, headers=fields, peer=peer)


async def test_requests_of_an_address_beyond_the_limit_are_answered_429(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, limit_rest_address="0.1/2", origins=("https://chat.example",))
    for _ in range(2):
        assert (await ask(api)).status == 404
    answer = await ask(api, origin="https://chat.example")
    assert answer.status == 429
    assert answer.json == {"status": "fail", "code": "rate_limited", "message": "too many requests in a short time"}
    assert answer.headers["retry-after"] == "10"
    assert answer.headers["access-control-allow-origin"] == "https://chat.example", "pages may read why"
    assert (await ask(api, peer="203.0.113.8")).status == 404
    assert (await ask(api, "/nothing")).status == 429
    assert (await ask(api, "/health")).status == 200, "probes are not limited"
    assert api.server.instance.limits.refused == {"rest": 2}


@pytest.mark.parametrize(
    ("peer", "headers", "limited"),
    [
        ("127.0.0.1", {}, False),
        ("", {}, False),
        (ADDRESS, {"x_api_key": "the key"}, False),
        (ADDRESS, {"authorization": "Bearer the key"}, False),
        (ADDRESS, {"x_api_key": "another"}, True),
        (ADDRESS, {}, True),
    ],
)
async def test_this_machine_and_servers_with_the_key_are_not_limited(
    peer: str, headers: dict[str, str], limited: bool, nursery: trio.Nursery
) -> None:
    api = await open_api(nursery, limit_rest_address="0.001/1", api_key="the key")
    statuses = [(await ask(api, peer=peer, **headers)).status for _ in range(3)]
    assert (statuses[-1] == 429) is limited


async def test_a_user_is_limited_wherever_it_asks_from(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, limit_rest_user="0.001/2", jwt_secret=SECRET)
    token = {"authorization": f"Bearer {sign_token('ann')}"}
    statuses = [(await ask(api, peer=f"203.0.113.{host}", **token)).status for host in range(3)]
    assert statuses == [404, 404, 429]
    other = {"authorization": f"Bearer {sign_token('bob')}"}
    assert (await ask(api, **other)).status == 404


async def test_so_it_is_on_the_routes_of_pulsechat(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, limit_rest_user="0.001/2", jwt_secret=SECRET)
    fields = [(b"authorization", f"Bearer {sign_token('ann')}".encode())]
    request = Request({"type": "http", "headers": fields, "query_string": b"", "path": "/", "client": (ADDRESS, 1)})
    assert [await caller(api.accounts, request) for _ in range(2)] == ["ann", "ann"]
    with pytest.raises(Rejected, match="too many requests"):
        await caller(api.accounts, request)


async def test_sign_ins_have_a_limit_of_their_own(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, limit_login_address="0.001/2", api_key="the key")

    async def post(path: str, **headers: str) -> Any:
        answer = await ask(api, path, "POST", **headers)
        return answer.json["code"]

    assert [await post("/api/auth/login") == "rate_limited" for _ in range(3)] == [False, False, True]
    assert await post("/api/auth/register") == "rate_limited"
    assert await post("/api/auth/refresh") != "rate_limited"
    assert await post("/api/auth/login", x_api_key="the key") != "rate_limited"
    assert await post("/api/messages") != "rate_limited"
    assert (await ask(api)).status == 404
