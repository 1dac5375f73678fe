"""Who may do what over HTTP: moderation by users with a token and by servers, on the real store."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio

from catfish.rooms.permissions import FOREVER
from catfish.store.postgres import PostgresStore
from tests.http.harness import Answer, Api, open_api_on
from tests.http.test_rooms import KEY, SECRET, as_server, enter, hear, make, token, until_replied


@pytest.fixture
async def api(postgres: PostgresStore, nursery: trio.Nursery) -> Api:
    return await open_api_on(postgres, nursery, api_key=KEY, jwt_secret=SECRET)


async def as_user(api: Api, user: str, method: str, path: str, content: Any = None) -> Answer:
    if method == "GET":
        return await api.get(path, authorization=token(user))
    return await api.send(method, path, content, authorization=token(user))


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


async def test_whom_a_room_admits_sees_it_and_others_do_not(api: Api) -> None:
    room = await make(api, access="members")
    path = f"/api/rooms/{room['id']}"
    assert (room["kind"], room["access"]) == ("private", "members")
    for user in ("bob", "eve"):
        assert code_of(await as_user(api, user, "GET", path)) == (403, "forbidden")
    assert code_of(await api.get(f"/api/codes/{room['code']}")) == (403, "forbidden")
    assert code_of(await api.get(f"/api/messages?roomCode={room['code']}")) == (403, "forbidden")
    posted = {"roomCode": room["code"], "sender": "x", "content": "y"}
    assert code_of(await api.post("/api/messages", posted)) == (403, "forbidden")
    assert code_of(await api.get(f"/api/messages?roomId={room['id']}")) == (403, "forbidden")
    answer = await as_user(api, "ann", "POST", f"{path}/invitations", {"user": "bob"})
    assert (answer.status, answer.json) == (200, {"user": "bob", "role": "invited"})
    assert (await as_user(api, "bob", "GET", path)).status == 200
    assert code_of(await as_user(api, "bob", "GET", f"{path}/messages")) == (403, "forbidden")
    answer = await as_user(api, "ann", "POST", f"{path}/roles", {"user": "bob", "role": "member"})
    assert answer.json == {"user": "bob", "role": "member"}
    assert (await as_user(api, "bob", "GET", f"{path}/messages")).status == 200
    assert (await as_user(api, "bob", "GET", f"/api/messages?roomId={room['id']}")).status == 200
    answer = await as_user(api, "bob", "POST", "/api/messages", {**posted, "content": "hi"})
    assert answer.status == 201
    assert (await as_server(api, "GET", f"{path}/messages")).json["messages"][0]["content"] == "hi"


async def test_a_token_opens_no_more_rooms_than_it_says(api: Api) -> None:
    await make(api)
    await enter(api, "lobby", "ann")
    await enter(api, "den", "ann")
    rights = {"sub": "ann", "rooms": {"lobby": ["join", "read"]}}
    fields = {"authorization": f"Bearer {jwt.encode(rights, SECRET)}"}
    assert (await api.get("/api/rooms/lobby/messages", **fields)).status == 200
    assert code_of(await api.get("/api/rooms/den/messages", **fields)) == (403, "forbidden")
    assert code_of(await api.send("DELETE", "/api/rooms/lobby", None, **fields)) == (403, "forbidden")
    assert code_of(await api.post("/api/rooms", {}, **fields)) == (403, "forbidden")


async def test_who_is_removed_over_http_is_so_at_once(api: Api) -> None:
    ann, bob, cyd = [await enter(api, "lobby", user) for user in ("ann", "bob", "cyd")]
    path = "/api/rooms/lobby"
    assert code_of(await as_user(api, "bob", "POST", f"{path}/kicks", {"user": "cyd"})) == (403, "forbidden")
    assert (await as_user(api, "ann", "POST", f"{path}/kicks", {"user": "cyd"})).json == {"user": "cyd"}
    assert (await hear(cyd, "room:left"))["reason"] == "kicked"
    assert (await hear(bob, "room:left"))["user"] == "cyd"
    answer = await as_server(api, "POST", f"{path}/bans", {"user": "bob", "durationMs": 3_600_000})
    assert (answer.status, answer.json["user"]) == (200, "bob")
    assert 0 < answer.json["until"] < FOREVER
    assert (await hear(bob, "room:left"))["reason"] == "banned"
    refusal = await until_replied(bob, bob.request("room:join", {"room": "lobby"}))
    assert refusal.code == "banned"
    answer = await as_user(api, "bob", "GET", f"{path}/messages")
    assert code_of(answer) == (403, "banned")
    assert 0 < int(answer.headers["retry-after"]) <= 3_600
    assert (await as_server(api, "DELETE", f"{path}/bans/bob")).json == {"changed": True}
    assert (await as_server(api, "DELETE", f"{path}/bans/bob")).json == {"changed": False}
    assert (await as_user(api, "bob", "GET", f"{path}/messages")).status == 200
    assert ann.connection.close_called is None


async def test_who_is_muted_over_http_speaks_no_more(api: Api) -> None:
    await enter(api, "lobby", "ann")
    bob = await enter(api, "lobby", "bob")
    answer = await as_user(api, "ann", "POST", "/api/rooms/lobby/mutes", {"user": "bob"})
    assert answer.json == {"user": "bob", "until": FOREVER}
    assert await hear(bob, "room:muted") == {"room": "lobby", "user": "bob", "until": FOREVER}
    for event, data in (("chat:send", {"content": "hi"}), ("chat:typing", {"on": True})):
        refusal = await until_replied(bob, bob.request(event, {"room": "lobby", **data}))
        assert refusal.code == "muted"
    # A server speaks for whomever it wants.
    content = {"user": "bob", "content": "he is sorry"}
    assert (await as_server(api, "POST", "/api/rooms/lobby/messages", content)).status == 201
    assert (await as_user(api, "ann", "DELETE", "/api/rooms/lobby/mutes/bob")).json == {"user": "bob", "until": 0}


async def test_standings_are_for_those_who_moderate(api: Api) -> None:
    await enter(api, "lobby", "ann")
    path = "/api/rooms/lobby"
    await as_user(api, "ann", "POST", f"{path}/roles", {"user": "bob", "role": "moderator"})
    await as_user(api, "ann", "POST", f"{path}/bans", {"user": "cyd"})
    assert code_of(await as_user(api, "eve", "GET", f"{path}/standings")) == (403, "forbidden")
    for user in ("ann", "bob"):
        answer = await as_user(api, user, "GET", f"{path}/standings?limit=1")
        assert (answer.json["owner"], answer.json["next"]) == ("ann", "bob")
        [bob] = answer.json["standings"]
        assert bob == {"user": "bob", "role": "moderator", "mutedUntil": 0, "bannedUntil": 0}
    answer = await as_server(api, "GET", f"{path}/standings?cursor=bob")
    assert ([each["user"] for each in answer.json["standings"]], answer.json["next"]) == (["cyd"], None)


async def test_reports_are_listed_for_servers_until_they_are_handled(api: Api) -> None:
    await enter(api, "lobby", "ann")
    for text in ("one", "two"):
        content = {"user": "bob", "content": text}
        await as_server(api, "POST", "/api/rooms/lobby/messages", content)
    body = {"reason": "rude", "user": "bob", "seq": 2}
    answer = await as_user(api, "ann", "POST", "/api/rooms/lobby/reports", body)
    assert answer.status == 201
    number = answer.json["report"]
    assert code_of(await as_user(api, "ann", "GET", "/api/reports")) == (401, "unauthorized")
    [report] = (await as_server(api, "GET", "/api/reports")).json["reports"]
    assert (report["id"], report["by"], report["user"], report["seq"]) == (number, "ann", "bob", 2)
    assert [message["content"] for message in report["messages"]] == ["one", "two"]
    assert (await as_server(api, "POST", f"/api/reports/{number}/handled")).json == {"handled": True}
    assert (await as_server(api, "GET", "/api/reports")).json == {"reports": [], "next": None}
    listed = (await as_server(api, "GET", "/api/reports?handled=true&limit=1")).json
    assert (len(listed["reports"]), listed["next"]) == (1, None)
    for unknown in ("0", "999999", "x", "-1", "9" * 40):
        answer = await as_server(api, "POST", f"/api/reports/{unknown}/handled")
        assert code_of(answer) == (404, "no_such_report")


async def test_blocks_are_for_their_user_and_for_servers(api: Api) -> None:
    path = "/api/users/ann/blocks"
    assert (await as_user(api, "ann", "POST", path, {"user": "bob"})).json == {"changed": True}
    assert (await as_server(api, "POST", path, {"user": "cyd"})).json == {"changed": True}
    assert (await as_user(api, "ann", "GET", path)).json == {"users": ["bob", "cyd"]}
    assert code_of(await as_user(api, "bob", "GET", path)) == (403, "forbidden")
    assert code_of(await api.get(path)) == (401, "unauthorized")
    assert (await as_user(api, "ann", "DELETE", f"{path}/bob")).json == {"changed": True}
    assert code_of(await as_user(api, "ann", "POST", path, {"user": "ann"})) == (400, "bad_request")


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/api/rooms/lobby/kicks", {"user": "nobody"}, (404, "no_such_member")),
        ("POST", "/api/rooms/lobby/kicks", {"user": "ann"}, (403, "forbidden")),
        ("POST", "/api/rooms/lobby/kicks", {"user": "a\0b"}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/kicks", {"user": 7}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/kicks", {}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/kicks", {"user": "bob", "unknown": 1}, (400, "bad_request")),
        ("POST", "/api/rooms/nowhere/kicks", {"user": "bob"}, (404, "no_such_room")),
        ("POST", "/api/rooms/lobby/mutes", {"user": "bob", "durationMs": 0}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/mutes", {"user": "bob", "durationMs": 10**30}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/bans", {"user": "bob", "address": "yes"}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/roles", {"user": "bob", "role": "owner"}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/roles", {"user": "bob", "role": "king"}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/reports", {"reason": ""}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/reports", {"reason": "nul \0"}, (400, "bad_request")),
        ("POST", "/api/rooms/lobby/reports", {"reason": "x", "seq": -1}, (400, "bad_request")),
        ("GET", "/api/rooms/lobby/standings?limit=0", None, (400, "bad_request")),
        ("GET", "/api/rooms/lobby/standings?cursor=%00", None, (200, "")),
        ("DELETE", "/api/rooms/lobby/bans/%00", None, (400, "bad_request")),
        ("POST", "/api/users/%20/blocks", {"user": "bob"}, (400, "bad_request")),
    ],
)
async def test_bad_input_is_refused_with_a_code(
    api: Api, method: str, path: str, body: Any, expected: tuple[int, str]
) -> None:
    await enter(api, "lobby", "ann")
    answer = await as_user(api, "ann", method, path, body)
    assert (answer.status, answer.json.get("code", "")) == expected


async def test_guests_do_nothing_about_others(api: Api) -> None:
    await enter(api, "lobby", "ann")
    for path in ("kicks", "mutes", "bans", "invitations"):
        assert code_of(await api.post(f"/api/rooms/lobby/{path}", {"user": "ann"})) == (401, "unauthorized")
