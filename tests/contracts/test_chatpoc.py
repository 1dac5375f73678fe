"""Chat POC: rooms by code."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contracts.harness import Socket, Sockets


async def create(sockets: Sockets) -> tuple[Socket, dict[str, Any]]:
    """Who made a room and is in it, and the room."""
    socket = sockets.connect()
    [answer] = await socket.ask("room:create") or []
    assert answer["ok"]
    socket.heard()
    return socket, answer["room"]


async def join(sockets: Sockets, code: str, **more: Any) -> Socket:
    socket = sockets.connect()
    [answer] = await socket.ask("room:join", {"code": code, **more}) or []
    assert answer["ok"]
    socket.heard()
    return socket


def error(text: str) -> list[Any]:
    return [{"ok": False, "error": text}]


async def test_a_room_has_a_number_a_code_and_a_time_in_that_order(sockets: Sockets) -> None:
    _, room = await create(sockets)
    assert list(room) == ["id", "code", "createdAt"]
    assert isinstance(room["id"], int)
    assert len(room["code"]) == 6
    assert room["createdAt"].endswith("Z")


async def test_a_code_is_found_in_any_case(sockets: Sockets) -> None:
    _, room = await create(sockets)
    bob = sockets.connect()
    assert await bob.ask("room:join", {"code": f" {room['code'].upper()} "}) == [{"ok": True, "room": room}]


async def test_joining_or_creating_leaves_the_former_room_silently(sockets: Sockets) -> None:
    ann, first = await create(sockets)
    bob = await join(sockets, first["code"])
    ann.heard()
    [answer] = await bob.ask("room:create") or []
    assert len(bob.who.rooms) == 1
    await ann.ask("room:join", {"code": answer["room"]["code"]})
    await ann.ask("chat:send", {"roomCode": answer["room"]["code"], "sender": "ann", "content": "here"})
    assert [entry[0] for entry in bob.heard()] == ["room:participant-joined", "chat:message"]
    assert [entry[0] for entry in ann.heard()] == ["chat:message"]
    await bob.ask("chat:send", {"roomCode": first["code"], "sender": "bob", "content": "there"})
    assert ann.heard() == bob.heard() == []


async def test_a_join_that_fails_changes_nothing(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    bob = await join(sockets, room["code"], nickname="bob")
    ann.heard()
    assert await bob.ask("room:join", {"code": "nosuch", "nickname": "other"}) == error("Room not found")
    await bob.ask("chat:send", {"roomCode": room["code"], "sender": "bob", "content": "still here"})
    assert [entry[0] for entry in bob.heard()] == ["chat:message"]
    await bob.ask("room:join", {"code": room["code"]})
    assert ann.heard()[-1] == ("room:participant-joined", {"roomCode": room["code"], "nickname": "bob"})


async def test_a_nickname_is_told_as_it_came_whatever_the_domain_calls_the_member(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    nickname = "x" * 100 + "\n\u2028" + "y"
    bob = await join(sockets, room["code"], nickname=f"  {nickname} ")
    assert ann.heard() == [("room:participant-joined", {"roomCode": room["code"], "nickname": nickname})]
    assert bob.who.name == "x" * 64


async def test_a_disconnect_tells_nobody(sockets: Sockets, autojump_clock: MockClock) -> None:
    ann, room = await create(sockets)
    bob = await join(sockets, room["code"])
    ann.heard()
    await bob.vanish()
    await trio.sleep(60)
    assert ann.heard() == []


async def test_a_sender_who_is_no_member_gets_the_acknowledgement_only(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    eve = sockets.connect()
    [answer] = (
        await eve.ask("chat:send", {"roomCode": room["code"].upper(), "sender": " eve ", "content": " hi "}) or []
    )
    assert list(answer["message"]) == ["id", "roomId", "sender", "content", "createdAt", "roomCode"]
    expected = {"roomId": room["id"], "sender": " eve ", "content": " hi ", "roomCode": room["code"]}
    assert expected.items() <= answer["message"].items()
    assert ann.heard() == [("chat:message", answer["message"])]
    assert eve.heard() == []


async def test_in_a_room_that_nobody_is_in_messages_are_stored_in_order(
    sockets: Sockets, autojump_clock: MockClock
) -> None:
    ann, room = await create(sockets)
    await ann.vanish()
    await trio.sleep(200)
    assert sockets.server.instance.supervisor.find(code=room["code"]) is None
    eve, acks = sockets.connect(), []
    for number in range(3):
        acks.append(eve.request("chat:send", {"roomCode": room["code"], "sender": "eve", "content": str(number)}))
    acks.append(eve.request("chat:send", {"roomCode": "zzzzzz", "sender": "eve", "content": "x"}))
    await wait_all_tasks_blocked()
    assert [ack[0][0]["message"]["content"] for ack in acks[:3]] == ["0", "1", "2"]
    assert acks[3] == [error("Room not found")]
    page = await sockets.server.store.history(room["id"], limit=10)
    assert [(message.content, message.name, message.seq) for message in page.messages] == [
        ("0", "eve", 1),
        ("1", "eve", 2),
        ("2", "eve", 3),
    ]


async def test_join_and_send_in_one_breath(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    bob = sockets.connect()
    bob.emit("room:join", {"code": room["code"], "nickname": "bob"})
    bob.emit("chat:send", {"roomCode": room["code"], "sender": "bob", "content": "hi"})
    bob.close()
    await wait_all_tasks_blocked()
    assert [entry[0] for entry in ann.heard()] == ["room:participant-joined", "chat:message"]


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (None, "Room code is required"),
        ("abc234", "Room code is required"),
        ([], "Room code is required"),
        ({}, "Room code is required"),
        ({"code": ""}, "Room code is required"),
        ({"code": None}, "Room code is required"),
        ({"code": 123}, "Room code must be text"),
        ({"code": "ab"}, "Room not found"),
        ({"code": "nosuch"}, "Room not found"),
        ({"code": "\0\0\0"}, "Room not found"),
        ({"code": "x" * 500}, "Room not found"),
    ],
)
async def test_what_joining_refuses(sockets: Sockets, payload: Any, text: str) -> None:
    bob = sockets.connect()
    assert await bob.ask("room:join", payload) == error(text)
    await bob.tell("room:join", payload)
    assert bob.heard() == []
    assert sockets.ignored == {"room:join": 2}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"roomCode": None}, "roomCode is required"),
        ({"roomCode": 7}, "roomCode must be text"),
        ({"roomCode": "ab"}, "roomCode must have 3 to 12 characters"),
        ({"roomCode": "x" * 13}, "roomCode must have 3 to 12 characters"),
        ({"roomCode": "no-such"}, "Room not found"),
        ({"roomCode": "zzzzzz"}, "Room not found"),
        ({"sender": ""}, "sender must have 1 to 64 characters"),
        ({"sender": "x" * 65}, "sender must have 1 to 64 characters"),
        ({"sender": ["x"]}, "sender must be text"),
        ({"sender": "\0"}, "sender must not have the character NUL"),
        ({"content": ""}, "content must have 1 to 5000 characters"),
        ({"content": "x" * 5001}, "content must have 1 to 5000 characters"),
        ({"content": "\0"}, "content must not have the character NUL"),
    ],
)
async def test_what_sending_refuses(sockets: Sockets, change: dict[str, Any], text: str) -> None:
    ann, room = await create(sockets)
    payload = {"roomCode": room["code"], "sender": "s", "content": "c", **change}
    assert await ann.ask("chat:send", payload) == error(text)
    await ann.tell("chat:send", payload)
    assert ann.heard() == []
    assert await ann.ask("chat:send", "x") == error("roomCode is required")


async def test_an_acknowledgement_that_is_not_in_its_place_is_not_called(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    assert await ann.ask("room:join") is None
    assert await ann.ask("room:create", {"nickname": "ann"}) is None
    assert await ann.ask("chat:send", {"roomCode": room["code"], "sender": "a", "content": "x"}, "more") is None
    [answer] = await ann.ask("room:create", {"kind": "open"}) or []
    assert answer["ok"]


async def test_what_native_members_do_and_hear(sockets: Sockets) -> None:
    ann, room = await create(sockets)
    native = sockets.server.connect()
    await native.ask("hello", {"user": "nat", "name": "Nat"})
    joined = await native.ask("room:join", {"code": room["code"]})
    await sockets.server.connect().ask("room:join", {"code": room["code"]})
    await native.ask("chat:send", {"room": joined["room"]["id"], "content": "hi"})
    heard = ann.heard()
    assert heard[:2] == [
        ("room:participant-joined", {"roomCode": room["code"], "nickname": "Nat"}),
        ("room:participant-joined", {"roomCode": room["code"], "nickname": ""}),
    ]
    assert heard[2][1]["sender"] == "Nat"
    native.read()
    native.events.clear()
    bob = await join(sockets, room["code"], nickname="bob")
    await bob.ask("room:join", {"code": room["code"]})
    await bob.ask("chat:send", {"roomCode": room["code"], "sender": "Bobby", "content": "yo"})
    await bob.vanish()
    [member] = [event["member"] for event in native.heard("room:joined")]
    [message] = native.heard("chat:message")
    [left] = native.heard("room:left")
    assert (member["name"], message["name"], message["content"]) == ("bob", "Bobby", "yo")
    assert member["user"] == message["user"] == left["user"] == bob.who.session
