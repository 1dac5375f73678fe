"""Rooms, their members and their messages over HTTP, and what servers do with the API key."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio

from catfish.store.postgres import PostgresStore
from tests.e2e.process import until
from tests.http.harness import Answer, Api, open_api_on
from tests.http.people import sign_in
from tests.server.harness import Client

SECRET = "a secret of at least thirty-two bytes"
KEY = "the key of the server"


@pytest.fixture
async def api(postgres: PostgresStore, nursery: trio.Nursery) -> Api:
    return await open_api_on(postgres, nursery, api_key=KEY, jwt_secret=SECRET)


def token(user: str) -> str:
    return f"Bearer {jwt.encode({'sub': user}, SECRET)}"


async def as_server(api: Api, method: str, path: str, content: Any = None, **fields: str) -> Answer:
    if method == "GET":
        return await api.get(path, x_api_key=KEY)
    return await api.send(method, path, content, x_api_key=KEY, **fields)


async def make(api: Api, user: str = "ann", **body: Any) -> dict[str, Any]:
    answer = await api.post("/api/rooms", body, authorization=token(user))
    assert answer.status == 201
    room: dict[str, Any] = answer.json["room"]
    return room


async def enter(api: Api, room: str, user: str) -> Client:
    client = api.server.connect()
    for event, data in (("hello", {"token": jwt.encode({"sub": user}, SECRET)}), ("room:join", {"room": room})):
        id = client.request(event, data)
        await until_replied(client, id)
    client.events.clear()
    return client


async def until_replied(client: Client, id: int) -> Any:
    def replied() -> bool:
        client.read()
        return id in client.replies

    with trio.fail_after(10):
        await until(replied)
    return client.replies.pop(id)


async def hear(client: Client, name: str) -> Any:
    """Data of the first event of that name."""
    found: list[Any] = []

    def heard() -> bool:
        found.extend(client.heard(name))
        return bool(found)

    with trio.fail_after(10):
        await until(heard)
    return found[0]


async def test_a_room_is_made_shown_and_found_by_its_code(api: Api) -> None:
    room = await make(api, name="Tea", capacity=3)
    assert (room["name"], room["capacity"], room["kind"], len(room["code"])) == ("Tea", 3, "open", 6)
    for path in (f"/api/rooms/{room['id']}", f"/api/codes/{room['code']}", f"/api/codes/{room['code'].upper()}"):
        answer = await api.get(path)
        assert (answer.status, answer.json) == (200, {"room": room})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "open", "access": "invited"}, 400),
        ({"access": "pair"}, 400),
        ({"kind": "secret"}, 400),
        ({"name": ""}, 400),
        ({"name": "x" * 65}, 400),
        ({"capacity": 0}, 400),
        ({"capacity": 10**30}, 400),
        ({"unknown": 1}, 400),
        ({"user": "bob"}, 403),
        ([], 400),
        (None, 400),
    ],
)
async def test_rooms_that_cannot_be_made(api: Api, body: Any, status: int) -> None:
    answer = await api.post("/api/rooms", body, authorization=token("ann"))
    assert (answer.status, answer.json["status"]) == (status, "fail")
    assert isinstance(answer.json["code"], str)


async def test_rooms_that_are_not_there(api: Api) -> None:
    for path in ("/api/rooms/none", "/api/rooms/none/members", "/api/rooms/none/messages"):
        answer = await api.get(path)
        assert (answer.status, answer.json["code"]) == (404, "no_such_room")
    assert (await api.get("/api/codes/zzzzzz")).json["code"] == "no_such_code"
    for path in ("/api/rooms/%00", f"/api/rooms/{'x' * 129}", f"/api/codes/{'x' * 13}"):
        assert (await api.get(path)).status == 400
    for path in ("/api/rooms/", "/api/rooms//members", "/api/rooms/a/b"):
        assert (await api.get(path)).status == 404


async def test_who_made_a_room_closes_it_and_nobody_else(api: Api) -> None:
    room = await make(api, "ann")
    ann = await enter(api, room["id"], "ann")
    path = f"/api/rooms/{room['id']}"
    for fields in ({}, {"authorization": token("bob")}):
        answer = await api.send("DELETE", path, **fields)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    answer = await api.send("DELETE", path, authorization=token("ann"))
    assert (answer.status, answer.json) == (200, {"closed": True})
    assert await hear(ann, "room:closed") == {"room": room["id"]}
    assert (await api.get(path)).status == 404


async def test_a_server_closes_any_room(api: Api) -> None:
    room = await make(api, "ann")
    assert (await as_server(api, "DELETE", f"/api/rooms/{room['id']}")).json == {"closed": True}


async def test_private_rooms_are_seen_by_who_made_them_and_who_is_in_them(api: Api) -> None:
    room = await make(api, "ann", kind="private")
    client = api.server.connect()
    await until_replied(client, client.request("hello", {"token": jwt.encode({"sub": "bob"}, SECRET)}))
    await until_replied(client, client.request("room:join", {"code": room["code"]}))
    for suffix in ("", "/members", "/messages"):
        path = f"/api/rooms/{room['id']}{suffix}"
        for user in ("ann", "bob"):
            assert (await api.get(path, authorization=token(user))).status == 200
        assert (await api.get(path, authorization=token("cyd"))).status == 403
        assert (await api.get(path)).status == 403
        assert (await as_server(api, "GET", path)).status == 200
    assert (await api.get(f"/api/codes/{room['code']}")).status == 200


async def test_conversations_are_seen_by_their_members(api: Api) -> None:
    ann, bob, cyd = [await sign_in(api, name) for name in ("ANN", "BOB", "CYD")]
    conversation = await ann.talk(bob)
    for suffix in ("", "/members", "/messages"):
        path = f"/api/rooms/{conversation}{suffix}"
        assert (await bob.get(path)).status == 200
        assert (await cyd.get(path)).status == 403


async def test_members_come_in_pages(api: Api) -> None:
    room = await make(api)
    for user in ("ann", "bob", "cyd"):
        await enter(api, room["id"], user)
    path = f"/api/rooms/{room['id']}/members?limit=2"
    first = (await api.get(path)).json
    assert [member["user"] for member in first["members"]] == ["ann", "bob"]
    second = (await api.get(f"{path}&cursor={first['next']}")).json
    assert ([member["user"] for member in second["members"]], second["next"]) == (["cyd"], None)


async def test_messages_come_in_pages_either_way(api: Api) -> None:
    room = await make(api)
    path = f"/api/rooms/{room['id']}/messages"
    for number in range(5):
        answer = await as_server(api, "POST", path, {"user": "bot", "content": str(number)})
        assert answer.status == 201

    async def page(query: str) -> tuple[list[str], bool]:
        answer = await api.get(f"{path}?{query}")
        assert answer.status == 200
        return [message["content"] for message in answer.json["messages"]], answer.json["more"]

    assert await page("limit=2") == (["3", "4"], True)
    assert await page("limit=2&before=2") == (["0"], False)
    assert await page("limit=2&after=0") == (["0", "1"], True)
    assert await page("after=5") == ([], False)
    for query in ("limit=0", "limit=201", "limit=x", "before=-1", "before=1&after=1", "x=1", "limit=1&limit=2"):
        answer = await api.get(f"{path}?{query}")
        assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_a_server_speaks_as_anybody(api: Api) -> None:
    room = await make(api)
    ann = await enter(api, room["id"], "ann")
    body = {"user": "bot", "name": "Bot", "content": "hello", "data": {"a": [1]}, "clientId": "c1"}
    answer = await as_server(api, "POST", f"/api/rooms/{room['id']}/messages", body)
    assert answer.status == 201
    message = answer.json["message"]
    assert (message["user"], message["name"], message["data"]) == ("bot", "Bot", {"a": [1]})
    assert await hear(ann, "chat:message") == message
    again = await as_server(api, "POST", f"/api/rooms/{room['id']}/messages", body)
    assert (again.status, again.json) == (201, answer.json)


async def test_a_server_tells_events(api: Api) -> None:
    room = await make(api)
    ann, bob = await enter(api, room["id"], "ann"), await enter(api, room["id"], "bob")
    path = f"/api/rooms/{room['id']}/events"
    assert (await as_server(api, "POST", path, {"event": "news", "data": 1, "to": "bob"})).status == 202
    assert (await as_server(api, "POST", path, {"event": "news", "data": 2, "user": "bot"})).status == 202
    heard = await hear(ann, "room:event")
    assert (heard["user"], heard["data"]) == ("bot", 2)
    bob.read()
    assert [event["data"] for event in bob.heard("room:event")] == [1, 2]
    for body in ({}, {"event": ""}, {"event": "x" * 65}, {"event": "e", "data": 2**64}, {"event": "e", "to": ""}):
        assert (await as_server(api, "POST", path, body)).status == 400


async def test_a_server_sees_where_a_user_is_and_ends_its_sessions(api: Api) -> None:
    room, other = await make(api, name="Tea"), await make(api)
    clients = [await enter(api, room["id"], "bob"), await enter(api, other["id"], "bob")]
    found = (await as_server(api, "GET", "/api/users/bob/presence")).json
    assert found["user"] == "bob"
    assert [each["room"]["id"] for each in found["rooms"]] == [room["id"], other["id"]]
    assert found["rooms"][0]["member"]["away"] is False
    answer = await as_server(api, "POST", "/api/users/bob/disconnect")
    assert (answer.status, answer.json) == (202, {"sessions": 2})
    assert all(client.connection.close_called for client in clients)
    assert (await as_server(api, "GET", "/api/users/nobody/presence")).json == {"user": "nobody", "rooms": []}


async def test_rooms_are_listed_newest_first(api: Api) -> None:
    made = [(await make(api, name=f"Room {number}"))["id"] for number in range(3)]
    await as_server(api, "DELETE", f"/api/rooms/{made[0]}")
    first = (await as_server(api, "GET", "/api/rooms?limit=1")).json
    assert [each["room"]["id"] for each in first["rooms"]] == [made[2]]
    assert (first["rooms"][0]["createdBy"], first["rooms"][0]["closedAt"]) == ("ann", None)
    second = (await as_server(api, "GET", f"/api/rooms?limit=1&cursor={first['next']}")).json
    assert ([each["room"]["id"] for each in second["rooms"]], second["next"]) == ([made[1]], None)
    every = (await as_server(api, "GET", "/api/rooms?closed=true&name=room&kind=open")).json["rooms"]
    assert [each["room"]["id"] for each in every] == made[::-1]
    assert every[-1]["closedAt"] is not None
    assert (await as_server(api, "GET", "/api/rooms?kind=private")).json["rooms"] == []


SERVERS_ONLY = [
    ("GET", "/api/rooms"),
    ("POST", "/api/rooms/lobby/messages"),
    ("POST", "/api/rooms/lobby/events"),
    ("GET", "/api/users/ann/presence"),
    ("POST", "/api/users/ann/disconnect"),
]


@pytest.mark.parametrize(("method", "path"), SERVERS_ONLY)
async def test_without_the_key_nobody_acts_as_a_server(api: Api, method: str, path: str) -> None:
    for fields in ({}, {"x_api_key": KEY[:-1]}, {"x_api_key": "ü"}, {"authorization": token("ann")}):
        answer = await (api.get(path, **fields) if method == "GET" else api.send(method, path, {}, **fields))
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")


async def test_without_a_key_in_the_settings_there_is_no_server_api(
    postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    api = await open_api_on(postgres, nursery)
    for fields in ({}, {"x_api_key": ""}, {"x_api_key": "None"}, {"authorization": "Bearer None"}):
        assert (await api.get("/api/rooms", **fields)).status == 401


async def test_where_tokens_are_required_guests_see_nothing(postgres: PostgresStore, nursery: trio.Nursery) -> None:
    api = await open_api_on(postgres, nursery, auth="required", api_key=KEY, jwt_secret=SECRET)
    room = await make(api)
    for path in (f"/api/rooms/{room['id']}", f"/api/codes/{room['code']}", f"/api/rooms/{room['id']}/messages"):
        assert (await api.get(path)).status == 401
        assert (await api.get(path, authorization=token("bob"))).status == 200
        assert (await as_server(api, "GET", path)).status == 200
    assert (await api.post("/api/rooms", {})).status == 401
    assert (await as_server(api, "POST", "/api/rooms", {"user": "ann"})).status == 201
