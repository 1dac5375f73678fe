"""Accounts with a password over HTTP: register, log in, go on, log out."""

from __future__ import annotations

from typing import Any

import argon2
import jwt
import pytest
import trio

from catfish.store.postgres import PostgresStore
from tests.http.harness import Answer, Api, call, open_api_on
from tests.http.people import sign_in
from tests.server.harness import Client

SECRET = "a secret of at least thirty-two bytes"
CHEAP: dict[str, Any] = {"argon2_memory_kib": 64, "argon2_passes": 1, "argon2_lanes": 1, "jwt_secret": SECRET}
ANN = {"email": "Ann@Example.test", "password": "correct horse"}


@pytest.fixture
async def api(postgres: PostgresStore, nursery: trio.Nursery) -> Api:
    return await open_api_on(postgres, nursery, **CHEAP)


async def register(api: Api, **changes: Any) -> Any:
    answer = await api.post("/api/auth/register", {**ANN, **changes})
    assert answer.status == 201, answer
    return answer.json


async def log_in(api: Api, **changes: Any) -> Answer:
    return await api.post("/api/auth/login", {**ANN, **changes})


async def refresh(api: Api, token: str) -> Answer:
    return await api.post("/api/auth/refresh", {"refreshToken": token})


async def until_answered(client: Client, event: str, data: Any) -> Any:
    """What a request is answered that waits for the database."""
    id = client.request(event, data)
    while id not in client.replies:
        await trio.sleep(0.001)
        client.read()
    return client.replies.pop(id)


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


async def test_who_registers_is_logged_in_and_known_everywhere(api: Api) -> None:
    answer = await api.post("/api/auth/register", {**ANN, "name": "Ann"})
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    logged = answer.json
    assert logged.keys() == {"message", "user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert (logged["tokenType"], logged["expiresIn"]) == ("Bearer", 900)
    user = logged["user"]
    assert (user["name"], user["email"], user["provider"]) == ("Ann", "ann@example.test", "password")
    assert user["token"] == f"Bearer {logged['accessToken']}"
    claims = jwt.decode(logged["accessToken"], SECRET, algorithms=["HS256"])
    assert (claims["id"], claims["exp"] - claims["iat"]) == (user["id"], 900)
    authorization = f"Bearer {logged['accessToken']}"
    assert (await api.get(f"/api/user?id={user['id']}", authorization=authorization)).json["user"]["name"] == "Ann"
    assert (await api.get(f"/api/chats/all?access_token={logged['accessToken']}")).status == 200
    client = api.server.connect()
    assert (await until_answered(client, "hello", {"token": logged["accessToken"]}))["user"] == user["id"]


async def test_the_same_email_and_password_log_in_again(api: Api) -> None:
    first = await register(api)
    assert first["user"]["name"] == "Ann"
    for email in ("ann@example.test", " ANN@example.test "):
        again = await log_in(api, email=email)
        assert again.status == 200
        assert again.json["user"]["id"] == first["user"]["id"]
        assert again.json["refreshToken"] != first["refreshToken"]


async def test_an_unknown_email_and_a_wrong_password_are_the_same(api: Api) -> None:
    await register(api)
    await sign_in(api, "Bob")
    wrong = [
        await log_in(api, password="wrong"),
        await log_in(api, email="nobody@example.test"),
        await log_in(api, email="bob@example.test"),
        await log_in(api, email="x" * 400),
        await log_in(api, email="a\0b"),
        await log_in(api, email=""),
    ]
    assert {problem(answer) for answer in wrong} == {(401, "bad_credentials")}
    assert len({answer.body for answer in wrong}) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"email": "ann"}, "email: must be an address"),
    ({"email": "a b@c"}, "email"),
    ({"email": "a@b@c"}, "email"),
    ({"email": f"{'x' * 330}@y"}, "email: has 332 characters"),
    ({"email": 5}, "email"),
    ({"email": "a\0@b"}, "email"),
    ({"password": "short"}, "password: has 5 characters, 8 are the least"),
    ({"password": ""}, "password"),
    ({"password": "x" * 1025}, "password: has more than 1024"),
    ({"name": ""}, "name"),
    ({"name": "\n"}, "name"),
    ({"admin": True}, "admin"),
]


async def test_what_is_wrong_with_a_registration_is_told(api: Api) -> None:
    for changes, words in WRONG:
        answer = await api.post("/api/auth/register", {**ANN, **changes})
        assert problem(answer) == (400, "bad_request"), changes
        assert words in answer.json["message"]


async def test_an_email_has_one_account(api: Api) -> None:
    await register(api)
    answer = await api.post("/api/auth/register", {**ANN, "password": "another one"})
    assert problem(answer) == (409, "email_taken")
    assert (await log_in(api)).status == 200


REGISTRATION: list[tuple[dict[str, Any], int]] = [
    ({}, 201),
    ({"registration": "closed"}, 403),
    ({"auth": "required"}, 403),
    ({"auth": "required", "registration": "open"}, 201),
]


async def test_who_may_register(postgres: PostgresStore, nursery: trio.Nursery) -> None:
    for number, (settings, status) in enumerate(REGISTRATION):
        api = await open_api_on(postgres, nursery, **CHEAP, api_key="the key", **settings)
        guest, server = {**ANN, "email": f"guest-{number}@x"}, {**ANN, "email": f"server-{number}@x"}
        assert (await api.post("/api/auth/register", guest)).status == status
        assert (await api.post("/api/auth/register", server, x_api_key="the key")).status == 201


async def test_a_login_goes_on_by_tokens_that_are_used_once(api: Api) -> None:
    first = await register(api)
    second = (await refresh(api, first["refreshToken"])).json
    assert second.keys() == {"accessToken", "refreshToken", "tokenType", "expiresIn"}
    third = (await refresh(api, second["refreshToken"])).json
    assert (await api.get("/api/chats/all", authorization=f"Bearer {third['accessToken']}")).status == 200
    stolen = await refresh(api, first["refreshToken"])
    assert problem(stolen) == (401, "unauthorized")
    assert "used before" in stolen.json["message"]
    assert problem(await refresh(api, third["refreshToken"])) == (401, "unauthorized")


async def test_what_is_no_refresh_token_is_refused(api: Api) -> None:
    logged = await register(api)
    for nonsense in ("x", "x" * 5000, "\0", "'; --", logged["accessToken"]):
        assert problem(await refresh(api, nonsense)) == (401, "unauthorized")
    bodies: list[Any] = [{}, {"refreshToken": ""}, {"refreshToken": 5}, {"refreshToken": "x", "y": 1}, []]
    for body in bodies:
        assert problem(await api.post("/api/auth/refresh", body)) == (400, "bad_request")
    forged = await api.get("/api/chats/all", authorization=f"Bearer {logged['refreshToken']}")
    assert forged.status == 401


async def test_logging_out_ends_a_login_or_all_of_them(api: Api) -> None:
    logins = [(await register(api)), *[(await log_in(api)).json for _ in range(3)]]
    tokens = [login["refreshToken"] for login in logins]
    assert (await api.post("/api/auth/logout", {"refreshToken": tokens[0]})).json == {}
    assert (await api.post("/api/auth/logout", {"refreshToken": tokens[0]})).status == 200
    assert (await refresh(api, tokens[0])).status == 401
    assert (await refresh(api, tokens[1])).status == 200
    client = api.server.connect()
    await until_answered(client, "hello", {"token": logins[2]["accessToken"]})
    assert (await api.post("/api/auth/logout", {"refreshToken": tokens[2], "everywhere": True})).status == 200
    assert (await refresh(api, tokens[3])).status == 401
    assert client.connection.close_called is not None


async def test_a_new_password_ends_the_other_logins(api: Api) -> None:
    logged = await register(api)
    other = (await log_in(api)).json
    authorization = f"Bearer {logged['accessToken']}"

    async def change(**body: Any) -> Answer:
        return await api.post("/api/auth/password", body, authorization=authorization)

    assert problem(await change(password="wrong", newPassword="battery staple")) == (401, "bad_credentials")
    assert problem(await change(password=ANN["password"], newPassword="x")) == (400, "bad_request")
    assert problem(await api.post("/api/auth/password", {})) == (401, "unauthorized")
    changed = await change(password=ANN["password"], newPassword="battery staple")
    assert changed.status == 200
    assert (await refresh(api, other["refreshToken"])).status == 401
    assert (await refresh(api, changed.json["refreshToken"])).status == 200
    assert (await log_in(api)).status == 401
    assert (await log_in(api, password="battery staple")).status == 200


async def test_a_hash_is_made_anew_when_the_parameters_change(
    api: Api, postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    await register(api)

    async def passes() -> int:
        found = await postgres.logins.credentials(email="ann@example.test")
        assert found is not None
        assert found.hash is not None
        return argon2.extract_parameters(found.hash).time_cost

    assert await passes() == 1
    stronger = await open_api_on(postgres, nursery, **{**CHEAP, "argon2_passes": 2})
    assert (await log_in(stronger, password="wrong")).status == 401
    assert await passes() == 1
    assert (await log_in(stronger)).status == 200
    assert await passes() == 2
    assert (await log_in(stronger)).status == 200


async def test_logging_in_by_password_needs_no_trusted_address(api: Api) -> None:
    await register(api)
    headers = {"content-type": "application/json", "origin": "http://localhost"}
    body = b'{"email": "ann@example.test", "password": "correct horse"}'
    assert (await call(api.app, "POST", "/api/auth/login", body, headers, peer="203.0.113.5")).status == 200
    vouched = b'{"name":"Ann","email":"ann@example.test","provider":"google","oauth_id":"1"}'
    assert (await call(api.app, "POST", "/api/auth/login", vouched, headers, peer="203.0.113.5")).status == 403
    both = b'{"name":"Ann","email":"ann@example.test","provider":"google","oauth_id":"1","password":"x"}'
    assert (await call(api.app, "POST", "/api/auth/login", both, headers, peer="203.0.113.5")).status == 400


async def test_who_is_vouched_for_ends_the_password_that_somebody_chose_for_that_email(api: Api) -> None:
    squatted = await register(api, email="bob@example.test")
    bob = await sign_in(api, "Bob")
    assert bob.id == squatted["user"]["id"]
    assert bob.user["provider"] == "google"
    assert problem(await log_in(api, email="bob@example.test")) == (401, "bad_credentials")
    assert (await refresh(api, squatted["refreshToken"])).status == 401


async def test_a_guest_takes_no_id_of_an_account(api: Api) -> None:
    logged = await register(api)
    guest = api.server.connect()
    assert (await until_answered(guest, "hello", {"user": logged["user"]["id"]})).code == "user_taken"


async def test_passwords_are_logged_nowhere(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await register(api)
    await log_in(api, password="wrong horse")
    assert "horse" not in caplog.text
