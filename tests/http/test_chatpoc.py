"""Chat POC's messages over HTTP."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from catfish.rooms.commands import CloseRoom, CreateRoom, Delete
from catfish.rooms.model import RoomKind
from tests.contracts.harness import Socket, Sockets
from tests.http.harness import Api, open_api

PATH = "/api/messages"
CODE = "abc234"
SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
async def api(nursery: trio.Nursery) -> Api:
    api = await open_api(nursery)
    await make_room(api)
    return api


async def make_room(api: Api, code: str = CODE) -> int:
    command = CreateRoom(id=f"r-{code}", kind=RoomKind.OPEN, code=code, name=None, capacity=None, user="ann")
    record: Any = await api.server.instance.journal.perform(command, lambda record: record)
    number: int = record.number
    return number


async def post(api: Api, content: str, sender: str = "ann") -> dict[str, Any]:
    answer = await api.post(PATH, {"roomCode": CODE, "sender": sender, "content": content})
    assert answer.status == 201
    message: dict[str, Any] = answer.json
    return message


async def listed(api: Api, query: str = "") -> list[str]:
    answer = await api.get(f"{PATH}?roomCode={CODE}{query}")
    assert answer.status == 200
    return [message["content"] for message in answer.json]


async def enter(api: Api) -> Socket:
    socket = Sockets(api.server).connect()
    await socket.ask("room:join", {"code": CODE})
    socket.heard()
    return socket


async def test_a_message_that_is_posted_is_answered_delivered_and_listed_alike(api: Api) -> None:
    bob = await enter(api)
    message = await post(api, "hello ☺")
    assert list(message) == ["id", "roomId", "sender", "content", "createdAt", "roomCode"]
    assert (message["sender"], message["content"], message["roomCode"]) == ("ann", "hello ☺", CODE)
    assert type(message["id"]) is type(message["roomId"]) is int
    assert message["createdAt"].endswith("Z")
    await wait_all_tasks_blocked()
    assert bob.heard() == [("chat:message", message)]
    assert (await api.get(f"{PATH}?roomCode={CODE}")).json == [message]


async def test_what_sockets_and_requests_send_is_one_order(api: Api) -> None:
    bob = await enter(api)
    await post(api, "1")
    await bob.ask("chat:send", {"roomCode": CODE, "sender": "bob", "content": "2"})
    await post(api, "3")
    assert await listed(api) == ["3", "2", "1"]
    assert [args["content"] for _, args in bob.heard()] == ["1", "2", "3"]


async def test_the_code_is_found_in_any_case_and_told_as_it_is_stored(api: Api) -> None:
    answer = await api.post(PATH, {"roomCode": f" {CODE.upper()} ", "sender": "a", "content": "b"})
    assert (answer.status, answer.json["roomCode"]) == (201, CODE)
    assert len((await api.get(f"{PATH}?roomCode={CODE.upper()}")).json) == 1


async def test_pages_go_back_by_id(api: Api) -> None:
    await make_room(api, "other2")
    ids = {}
    for content in "abcdefg":
        ids[content] = (await post(api, content))["id"]
        await api.post(PATH, {"roomCode": "other2", "sender": "x", "content": "elsewhere"})
    assert await listed(api, "&limit=3") == ["g", "f", "e"]
    assert await listed(api, f"&limit=3&beforeId={ids['e']}") == ["d", "c", "b"]
    assert await listed(api, f"&limit=3&beforeId={ids['b']}") == ["a"]
    assert await listed(api, f"&beforeId={ids['a']}") == []
    assert await listed(api, "&beforeId=-1") == []
    assert await listed(api, f"&beforeId={10**30}") == list("gfedcba")


async def test_deleted_messages_are_not_listed_and_do_not_shorten_pages(api: Api) -> None:
    number = (await post(api, "1"))["roomId"]
    for content in "234":
        await post(api, content)
    [message] = (await api.server.store.history(number, before=4, limit=1)).messages
    await api.server.instance.publisher.perform("r-" + CODE, Delete(number=number, seq=3, user=message.user, at=1))
    assert await listed(api, "&limit=2") == ["4", "2"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 50),
        ("&limit=", 50),
        ("&limit=abc", 50),
        ("&limit=-1", 50),
        ("&limit=0", 0),
        ("&limit=1", 1),
        ("&limit=200", 60),
        ("&limit=201", 400),
        ("&limit=1.5", 400),
        ("&limit=99999999999999999999", 400),
        ("&limit=1&limit=2", 400),
        ("&beforeId=", 50),
        ("&beforeId=abc", 400),
        ("&beforeId=1.5", 400),
    ],
)
async def test_limits_are_read_as_the_original_read_them(api: Api, query: str, count: int) -> None:
    for number in range(60):
        await post(api, str(number))
    answer = await api.get(f"{PATH}?roomCode={CODE}{query}")
    if count == 400:
        assert answer.status == 400
        assert isinstance(answer.json["error"], str)
    else:
        assert (answer.status, len(answer.json)) == (200, count)


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("", 400, "roomCode query param is required"),
        ("?roomCode=", 400, "roomCode query param is required"),
        ("?limit=5", 400, "roomCode query param is required"),
        ("?roomCode=a&roomCode=b", 400, "roomCode: comes more than once"),
        ("?roomCode=nosuch", 404, "Room not found"),
        ("?roomCode=%00%ff'--", 404, "Room not found"),
    ],
)
async def test_lists_are_refused_in_words(api: Api, query: str, status: int, error: str) -> None:
    answer = await api.get(PATH + query)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert isinstance(answer.json["code"], str)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"roomCode": None}, 400, "roomCode is required"),
        ({"roomCode": 5}, 400, "roomCode must be text"),
        ({"roomCode": "ab"}, 400, "roomCode must have 3 to 12 characters"),
        ({"roomCode": "nosuch"}, 404, "Room not found"),
        ({"sender": ""}, 400, "sender must have 1 to 64 characters"),
        ({"sender": "x" * 65}, 400, "sender must have 1 to 64 characters"),
        ({"content": None}, 400, "content is required"),
        ({"content": "x" * 5001}, 400, "content must have 1 to 5000 characters"),
        ({"content": "a\0b"}, 400, "content must not have the character NUL"),
    ],
)
async def test_posts_are_refused_in_words(api: Api, changes: dict[str, Any], status: int, error: str) -> None:
    answer = await api.post(PATH, {"roomCode": CODE, "sender": "ann", "content": "hi", **changes})
    assert (answer.status, answer.json["error"]) == (status, error)
    assert await listed(api) == []


async def test_a_closed_room_is_not_found(api: Api) -> None:
    number = (await post(api, "before"))["roomId"]
    await api.server.instance.journal.perform(CloseRoom(number=number), lambda closed: closed)
    assert (await api.get(f"{PATH}?roomCode={CODE}")).status == 404
    answer = await api.post(PATH, {"roomCode": CODE, "sender": "a", "content": "b"})
    assert (answer.status, answer.json["error"]) == (404, "Room not found")


async def test_while_the_database_is_away_the_client_is_told_when_to_come_back(api: Api) -> None:
    api.server.store.away = True
    answer = await api.get(f"{PATH}?roomCode={CODE}")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "2")


async def test_where_a_token_is_required_it_is_required_here_too(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, auth="required", jwt_secret=SECRET)
    await make_room(api)
    assert (await api.get(f"{PATH}?roomCode={CODE}")).status == 401
    answer = await api.post(PATH, {"roomCode": CODE, "sender": "a", "content": "b"})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    token = "Bearer " + jwt.encode({"sub": "ann"}, SECRET)
    answer = await api.post(PATH, {"roomCode": CODE, "sender": "a", "content": "b"}, authorization=token)
    assert answer.status == 201
    [message] = (await api.server.store.history(answer.json["roomId"], limit=1)).messages
    assert (message.user, message.name) == ("ann", "a")
