"""Signing in, and finding others."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
import trio

from catfish.store.postgres import PostgresStore
from tests.http.harness import Api, call, open_api_on
from tests.http.people import Person, sign_in

LOGIN = "/api/auth/login"
BODY = {"name": "ANN", "email": "ann@example.test", "provider": "google", "oauth_id": "oid-ann"}
SECRET = "a secret of at least thirty-two bytes"
UNAUTHORIZED = {"status": 401, "message": "Unauthorized", "code": "unauthorized"}


async def test_the_first_login_makes_an_account_and_later_ones_find_it(api: Api) -> None:
    answer = await api.post(LOGIN, {**BODY, "image": "http://img.test/ann.png"})
    assert (answer.status, answer.json["message"]) == (200, "Logged in Sucessfully!")
    user = answer.json["user"]
    assert list(user) == [
        *("id", "name", "email", "image", "provider", "oauth_id", "color", "createdAt", "updatedAt", "token"),
    ]
    assert user["color"] == "#5d2fc1"
    assert 0 < len(user["id"]) <= 30
    again = (await api.post(LOGIN, {**BODY, "name": "Other", "provider": "github", "oauth_id": "z"})).json["user"]
    assert {**again, "token": None} == {**user, "token": None}


async def test_the_token_holds_who_it_is_for_ten_days(postgres: PostgresStore, nursery: trio.Nursery) -> None:
    api = await open_api_on(postgres, nursery, jwt_secret=SECRET)
    user = (await api.post(LOGIN, BODY)).json["user"]
    assert user["token"].startswith("Bearer ")
    claims = jwt.decode(user["token"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 10 * 86_400
    assert claims == {"name": "ANN", "email": "ann@example.test", "id": user["id"]}


async def test_without_a_secret_in_the_settings_all_servers_use_that_of_the_database(
    ann: Person, postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    other = await open_api_on(postgres, nursery)
    answer = await other.get("/api/chats/all", authorization=ann.token)
    assert answer.status == 200


WRONG: list[dict[str, Any]] = [
    {"unknown": 1},
    {"name": None},
    {"email": ""},
    {"email": "x" * 321},
    {"provider": 5},
    {"oauth_id": "a\0b"},
    {"image": "x" * 2049},
    {"name": "\n"},
]


async def test_what_is_wrong_with_a_login_is_named(api: Api) -> None:
    for changes in WRONG:
        answer = await api.post(LOGIN, {**BODY, **changes})
        assert (answer.status, answer.json["status"], answer.json["code"]) == (400, 400, "bad_request")
        assert answer.json["message"].split(":")[0] in {*changes, "body"}


async def test_all_fields_but_the_image_are_needed(api: Api) -> None:
    for missing in BODY:
        answer = await api.post(LOGIN, {key: value for key, value in BODY.items() if key != missing})
        assert answer.status == 400
        assert missing in answer.json["message"]


PEERS: list[tuple[str, dict[str, str], int]] = [
    ("127.0.0.1", {}, 200),
    ("::1", {}, 200),
    ("::ffff:127.0.0.9", {}, 200),
    ("10.1.2.3", {}, 200),
    ("10.2.0.0", {}, 403),
    ("", {}, 403),
    ("nonsense", {}, 403),
    ("127.0.0.1", {"x-forwarded-for": "10.1.2.3"}, 403),
    ("127.0.0.1", {"via": "1.1 proxy"}, 403),
    ("127.0.0.1", {"origin": "http://localhost:3000"}, 403),
    ("127.0.0.1", {"sec-fetch-site": "same-origin"}, 403),
    ("127.0.0.1", {"sec-fetch-mode": "cors"}, 200),
    ("203.0.113.5", {"x-api-key": "the key"}, 200),
    ("203.0.113.5", {"authorization": "Bearer the key"}, 200),
    ("203.0.113.5", {"x-api-key": "another"}, 403),
]


async def test_only_trusted_servers_sign_users_in(postgres: PostgresStore, nursery: trio.Nursery) -> None:
    networks = ("127.0.0.0/8", "::1/128", "10.1.0.0/16")
    api = await open_api_on(postgres, nursery, api_key="the key", login_from=networks)
    for peer, fields, status in PEERS:
        headers = {"content-type": "application/json", **fields}
        answer = await call(api.app, "POST", LOGIN, msgspec.json.encode(BODY), headers, peer=peer)
        assert answer.status == status, (peer, fields)


async def test_peers_of_a_unix_socket_are_trusted_when_the_setting_says_so(
    postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    api = await open_api_on(postgres, nursery, login_from=("unix",))
    headers = {"content-type": "application/json"}
    assert (await call(api.app, "POST", LOGIN, msgspec.json.encode(BODY), headers, peer="")).status == 200
    assert (await call(api.app, "POST", LOGIN, msgspec.json.encode(BODY), headers)).status == 403


ROUTES = [
    ("POST", "/api/new/chat"),
    ("GET", "/api/chats/all"),
    ("GET", "/api/chat/messages?chatId=x"),
    ("GET", "/api/messages?chatId=x"),
    ("POST", "/api/chat/send/message"),
    ("DELETE", "/api/chat/message?messageId=x"),
    ("POST", "/api/friendrequest/send"),
    ("GET", "/api/friend/requests"),
    ("POST", "/api/friend/accept"),
    ("POST", "/api/friend/decline"),
    ("POST", "/api/friend/remove"),
    ("GET", "/api/users/all"),
    ("GET", "/api/user?id=x"),
]


async def test_without_a_good_token_nothing_is_told(api: Api) -> None:
    forged = jwt.encode({"id": "u-1"}, SECRET)
    for authorization in ("", "nonsense", "Bearer", "Bearer nonsense", f"Bearer {forged}"):
        for method, path in ROUTES:
            fields = {"authorization": authorization} if authorization else {}
            content = None if method == "GET" else {"chatId": "x"}
            answer = await (api.get(path, **fields) if method == "GET" else api.send(method, path, content, **fields))
            assert (answer.status, answer.json) == (401, UNAUTHORIZED), (method, path)


async def test_expired_and_unsigned_tokens_are_none(postgres: PostgresStore, nursery: trio.Nursery) -> None:
    api = await open_api_on(postgres, nursery, jwt_secret=SECRET)
    ann = await sign_in(api, "ANN")
    for token in (
        jwt.encode({"id": ann.id, "exp": 1}, SECRET),
        jwt.encode({"id": ann.id}, "", algorithm="none"),
        jwt.encode({"name": "ANN"}, SECRET),
        ann.token.removeprefix("Bearer ")[:-2],
    ):
        assert (await api.post("/api/new/chat", {}, authorization=f"Bearer {token}")).status == 401


async def test_a_token_of_somebody_without_an_account_begins_nothing(
    postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    api = await open_api_on(postgres, nursery, jwt_secret=SECRET)
    ann = await sign_in(api, "ANN")
    stranger = f"Bearer {jwt.encode({'sub': 'stranger'}, SECRET)}"
    for path, body in (("/api/new/chat", {"members": [ann.id]}), ("/api/friendrequest/send", {"friendId": ann.id})):
        answer = await api.post(path, body, authorization=stranger)
        assert (answer.status, answer.json) == (401, UNAUTHORIZED)
    assert (await api.get("/api/chats/all", authorization=stranger)).json == {"conversations": [], "status": 200}


async def test_users_are_found_by_a_part_of_their_name_thirty_a_page(ann: Person, bob: Person) -> None:
    answer = await ann.get("/api/users/all?query=bo")
    assert answer.json["status"] == 200
    [found] = answer.json["users"]
    assert list(found) == ["name", "image", "createdAt", "id", "friendOf"]
    assert (found["id"], found["friendOf"]) == (bob.id, [])
    for number in range(35):
        await sign_in(ann.api, f"User{number}")
    pages = [(await ann.get(f"/api/users/all?pageNumber={page}")).json["users"] for page in ("1", "2", "3", "", "x")]
    assert [len(page) for page in pages] == [30, 7, 0, 30, 30]
    names = [user["name"] for page in pages[:2] for user in page]
    assert names[:35] == [f"User{number}" for number in range(34, -1, -1)]
    assert sorted(names[35:]) == ["ANN", "BOB"]  # fixtures that do not need each other are made at the same time
    assert (await ann.get("/api/users/all?query=%00")).json["users"] == []


async def test_a_user_is_shown_by_id_in_the_query_or_the_body(ann: Person, bob: Person) -> None:
    shown = (await ann.get(f"/api/user?id={bob.id}")).json
    assert shown["status"] == 200
    assert (shown["user"]["id"], shown["user"]["email"]) == (bob.id, "bob@example.test")
    assert "oauth_id" not in shown["user"]
    assert (await ann.api.send("GET", "/api/user", {"id": bob.id}, authorization=ann.token)).json == shown
    own = (await ann.get(f"/api/user?id={ann.id}")).json["user"]
    assert own == {key: value for key, value in ann.user.items() if key != "token"}
    for unknown in ("nobody", "x" * 31, "%00"):
        assert (await ann.get(f"/api/user?id={unknown}")).json == {"message": "No User found", "status": 200}
    assert (await ann.get("/api/user")).status == 400


async def test_the_root_answers_where_there_are_accounts(api: Api) -> None:
    assert (await api.get("/")).status == 404
    await sign_in(api, "ANN")
    assert (await api.get("/")).status == 200
