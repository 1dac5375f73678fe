"""Yum: named rooms with history."""

from __future__ import annotations

import re
from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock

from tests.contracts.harness import Socket, Sockets
from tests.server.harness import start_server

SECRET = "a secret of at least thirty-two bytes"


async def join(sockets: Sockets, *users: str, room: str = "lobby") -> list[Socket]:
    joined = []
    for user in users:
        socket = sockets.connect()
        assert await socket.ask("joinRoom", {"roomId": room, "userId": user}) is not None
        joined.append(socket)
    for socket in joined:
        socket.heard()
    return joined


def without_time(message: dict[str, Any]) -> dict[str, Any]:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["timestamp"])
    return {key: value for key, value in message.items() if key != "timestamp"}


async def test_joining_is_told_to_the_others_and_answered_with_who_is_there_and_what_was_said(sockets: Sockets) -> None:
    [ann] = await join(sockets, "ann")
    await ann.ask("sendMessage", {"roomId": "lobby", "userId": "ann", "content": "one"})
    await ann.ask("sendMessage", {"roomId": "lobby", "userId": "ann", "content": "two"})
    ann.heard()
    bob = sockets.connect()
    [answer] = await bob.ask("joinRoom", {"roomId": "lobby", "userId": "bob", "more": 1}) or []
    assert ann.heard() == [("userJoined", {"roomId": "lobby", "userId": "bob"})]
    assert bob.heard() == []
    messages = [without_time(message) for message in answer.pop("messages")]
    assert answer == {
        "ok": True,
        "roomId": "lobby",
        "users": [{"userId": "ann", "name": "ann"}, {"userId": "bob", "name": "bob"}],
    }
    assert [(each["content"], each["userId"], each["seq"]) for each in messages] == [
        ("one", "ann", 1),
        ("two", "ann", 2),
    ]
    [again] = await bob.ask("joinRoom", {"roomId": "lobby"}) or []
    assert again["ok"]
    assert ann.heard() == []


async def test_a_message_reaches_the_room_with_its_sender_and_then_is_acknowledged(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    [answer] = await ann.ask("sendMessage", {"roomId": "lobby", "userId": "ann", "content": "hi"}) or []
    assert [entry[0] for entry in ann.log] == ["receiveMessage", "$ack"]
    [(name, message)] = bob.heard()
    assert ann.heard() == [(name, message)] == [("receiveMessage", message)]
    assert list(message) == ["roomId", "userId", "content", "timestamp", "id", "seq"]
    assert without_time(message) == {"roomId": "lobby", "userId": "ann", "content": "hi", "id": 1, "seq": 1}
    assert answer == {"ok": True, **message}


async def test_without_a_token_a_user_is_who_it_says_it_is_or_its_socket(sockets: Sockets) -> None:
    [ann] = await join(sockets, "ann")
    guest = sockets.connect()
    await guest.ask("joinRoom", {"roomId": "lobby"})
    await guest.ask("sendMessage", {"roomId": "lobby", "content": "hi"})
    await guest.ask("sendMessage", {"roomId": "lobby", "content": "hi", "userId": "gus"})
    session = guest.who.session
    assert [entry[1]["userId"] for entry in ann.heard()] == [session, session, "gus"]
    await guest.ask("joinRoom", {"roomId": "lobby", "userId": "gus"})
    await guest.ask("leaveRoom", {"roomId": "lobby"})
    assert ann.heard() == [("userLeft", {"roomId": "lobby", "userId": session})]


async def test_with_a_token_the_user_cannot_be_chosen(nursery: trio.Nursery) -> None:
    sockets = Sockets(await start_server(nursery, auth="required", jwt_secret=SECRET))
    ann, bob = sockets.connect(), sockets.connect()
    await ann.who.authenticate(jwt.encode({"sub": "ann"}, SECRET), None, None)
    await bob.who.authenticate(jwt.encode({"id": "bob"}, SECRET), None, None)
    await ann.ask("joinRoom", {"roomId": "lobby", "userId": "eve"})
    [answer] = await bob.ask("joinRoom", {"roomId": "lobby"}) or []
    assert [user["userId"] for user in answer["users"]] == ["ann", "bob"]
    await bob.ask("sendMessage", {"roomId": "lobby", "userId": "ann", "content": "it was not me"})
    assert [entry[1]["userId"] for entry in ann.heard()] == ["bob", "bob"]


async def test_the_others_hear_who_left_and_who_is_gone_once_the_grace_period_is_over(
    sockets: Sockets, autojump_clock: MockClock
) -> None:
    ann, bob, cyd = await join(sockets, "ann", "bob", "cyd")
    assert await bob.ask("leaveRoom", {"roomId": "lobby"}) == [{"ok": True, "roomId": "lobby"}]
    assert ann.heard() == [("userLeft", {"roomId": "lobby", "userId": "bob"})]
    await cyd.vanish()
    await trio.sleep(9)
    assert ann.heard() == []
    await trio.sleep(2)
    assert ann.heard() == [("userLeft", {"roomId": "lobby", "userId": "cyd"})]
    assert bob.heard() == []


@pytest.mark.parametrize(
    ("event", "args", "code", "field"),
    [
        ("joinRoom", [], "bad_request", "payload"),
        ("joinRoom", ["lobby"], "bad_request", "payload"),
        ("joinRoom", [{}], "bad_request", "roomId"),
        ("joinRoom", [{"roomId": 7}], "bad_request", "roomId"),
        ("joinRoom", [{"roomId": ""}], "bad_request", "roomId"),
        ("joinRoom", [{"roomId": "a\nb"}], "bad_request", "roomId"),
        ("joinRoom", [{"roomId": "x", "userId": 3}], "bad_request", "userId"),
        ("joinRoom", [{"roomId": "x", "userId": "\0"}], "bad_request", "userId"),
        ("leaveRoom", [{"roomId": "elsewhere"}], "not_in_room", "room"),
        ("leaveRoom", [{"roomId": None}], "bad_request", "roomId"),
        ("sendMessage", [{"roomId": "elsewhere", "content": "x"}], "not_in_room", "room"),
        ("sendMessage", [{"roomId": "lobby"}], "bad_request", "content"),
        ("sendMessage", [{"roomId": "lobby", "content": ["x"]}], "bad_request", "content"),
        ("sendMessage", [{"roomId": "lobby", "content": ""}], "bad_request", "content"),
        ("sendMessage", [{"roomId": "lobby", "content": "\0"}], "bad_request", "content"),
        ("sendMessage", [{"roomId": "lobby", "content": "x" * 5001}], "bad_request", "content"),
        ("sendMessage", [{"roomId": "lobby", "content": "x", "userId": {}}], "bad_request", "userId"),
    ],
)
async def test_what_is_refused_is_acknowledged_so_or_comes_as_an_error(
    sockets: Sockets, event: str, args: list[Any], code: str, field: str
) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    [answer] = await ann.ask(event, *args) or []
    assert (answer["ok"], answer["code"]) == (False, code)
    assert answer["error"].startswith(f"{field}: ")
    await ann.tell(event, *args)
    assert ann.heard() == [("error", {"event": event, "code": code, "message": answer["error"]})]
    assert bob.heard() == []
    assert sockets.ignored == {event: 2}


async def test_what_the_store_refuses_is_told_as_well(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sockets = Sockets(await start_server(nursery, journal_wait_s_max=2.0))
    [ann] = await join(sockets, "ann")
    sockets.server.store.away = True
    acks = ann.request("sendMessage", {"roomId": "lobby", "content": "one"})
    ann.emit("sendMessage", {"roomId": "lobby", "content": "two"})
    await trio.sleep(5)
    assert (acks[0][0]["ok"], acks[0][0]["code"]) == (False, "unavailable")
    [(name, error)] = ann.heard()
    assert (name, error["event"], error["code"]) == ("error", "sendMessage", "unavailable")
