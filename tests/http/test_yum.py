"""Yum's messages over HTTP."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio

from catfish.rooms.commands import CreateRoom
from catfish.rooms.model import RoomKind
from tests.contracts.harness import Socket, Sockets
from tests.http.harness import Api, open_api

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
async def api(nursery: trio.Nursery) -> Api:
    return await open_api(nursery)


async def enter(api: Api, room: str) -> Socket:
    socket = Sockets(api.server).connect()
    await socket.ask("joinRoom", {"roomId": room, "userId": "ann"})
    return socket


async def page(api: Api, query: str) -> dict[str, Any]:
    answer = await api.get(f"/api/messages?{query}")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    assert list(found) == ["messages", "nextCursor"]
    return found


async def test_messages_are_listed_as_the_sockets_told_them_newest_first(api: Api) -> None:
    ann = await enter(api, "lobby")
    for content in ("first", "second"):
        await ann.ask("sendMessage", {"roomId": "lobby", "content": content})
    told = [args for event, args in ann.heard() if event == "receiveMessage"]
    assert await page(api, "roomId=lobby") == {"messages": told[::-1], "nextCursor": None}


async def test_the_cursor_leads_through_all_pages(api: Api) -> None:
    ann = await enter(api, "lobby")
    for number in range(1, 8):
        await ann.ask("sendMessage", {"roomId": "lobby", "content": str(number)})
    found, query, pages = [], "roomId=lobby&limit=3", 0
    while True:
        answer = await page(api, query)
        found += [message["content"] for message in answer["messages"]]
        pages += 1
        if answer["nextCursor"] is None:
            break
        query = f"roomId=lobby&limit=3&cursor={answer['nextCursor']}"
    assert (found, pages) == (["7", "6", "5", "4", "3", "2", "1"], 3)


async def test_a_page_that_ends_with_the_oldest_message_is_the_last(api: Api) -> None:
    ann = await enter(api, "lobby")
    for number in range(6):
        await ann.ask("sendMessage", {"roomId": "lobby", "content": str(number)})
    first = await page(api, "roomId=lobby&limit=3")
    assert (await page(api, f"roomId=lobby&limit=3&cursor={first['nextCursor']}"))["nextCursor"] is None


async def test_a_page_has_fifty_messages_when_nothing_is_said(api: Api) -> None:
    ann = await enter(api, "lobby")
    for number in range(51):
        await ann.ask("sendMessage", {"roomId": "lobby", "content": str(number)})
    assert len((await page(api, "roomId=lobby"))["messages"]) == 50
    assert len((await page(api, "roomId=lobby&limit=200"))["messages"]) == 51


async def test_a_room_that_nobody_has_entered_is_empty(api: Api) -> None:
    assert await page(api, "roomId=nobody") == {"messages": [], "nextCursor": None}


@pytest.mark.parametrize("kind", [RoomKind.PRIVATE, RoomKind.MATCHED])
async def test_only_open_rooms_are_read_by_their_id(api: Api, kind: RoomKind) -> None:
    command = CreateRoom(id="hidden", kind=kind, code=None, name=None, capacity=2, user="ann")
    await api.server.instance.journal.perform(command, lambda record: record)
    answer = await api.get("/api/messages?roomId=hidden")
    assert (answer.status, answer.json["ok"], answer.json["code"]) == (403, False, "forbidden")


@pytest.mark.parametrize(
    "query",
    [
        "roomId=",
        "roomId=a&roomId=b",
        "roomId=%00",
        f"roomId={'x' * 129}",
        "roomId=lobby&limit=0",
        "roomId=lobby&limit=201",
        "roomId=lobby&limit=-1",
        "roomId=lobby&limit=five",
        "roomId=lobby&limit=1.0",
        "roomId=lobby&cursor=0",
        "roomId=lobby&cursor=x",
        f"roomId=lobby&cursor={10**17}",
        "roomId=lobby&cursor=%D9%A3",
    ],
)
async def test_what_is_wrong_is_named(api: Api, query: str) -> None:
    answer = await api.get(f"/api/messages?{query}")
    assert answer.status == 400
    assert (answer.json["ok"], answer.json["code"]) == (False, "bad_request")
    assert answer.json["error"].split(":")[0] in ("roomId", "limit", "cursor")


async def test_a_required_token_is_checked(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, auth="required", jwt_secret=SECRET)
    other = jwt.encode({"sub": "ann"}, "another secret, of more than 32 bytes")
    expired = jwt.encode({"sub": "ann", "exp": 1}, SECRET)
    unsigned = jwt.encode({"sub": "ann"}, "", algorithm="none")
    for headers in ({}, *({"authorization": f"Bearer {token}"} for token in (other, expired, unsigned, "x", ""))):
        answer = await api.get("/api/messages?roomId=lobby", **headers)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    token = jwt.encode({"id": 5}, SECRET)
    for scheme in ("Bearer", "bearer"):
        assert (await api.get("/api/messages?roomId=lobby", authorization=f"{scheme} {token}")).status == 200
