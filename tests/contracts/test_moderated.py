"""What moderators do to clients that know nothing of it: they hear it in their own words, and go on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.contracts.harness import Sockets
from tests.server.harness import Client, start_server


@pytest.fixture
async def sockets(nursery: trio.Nursery, autojump_clock: MockClock) -> Sockets:
    return Sockets(await start_server(nursery))


async def owner(sockets: Sockets, room: str = "lobby") -> Client:
    client = sockets.server.connect()
    await client.ask("hello", {"user": "owner"})
    await client.ask("room:join", {"room": room})
    return client


async def test_yum_hears_that_one_left_and_is_told_why_it_may_not_write(sockets: Sockets) -> None:
    native = await owner(sockets)
    ann, bob = sockets.connect(), sockets.connect()
    for socket in (ann, bob):
        await socket.ask("joinRoom", {"roomId": "lobby"})
    user = bob.who.user
    await native.ask("room:mute", {"room": "lobby", "user": user})
    [refused] = await bob.ask("sendMessage", {"roomId": "lobby", "content": "hi"}) or []
    assert (refused["ok"], refused["code"]) == (False, "muted")
    ann.heard()
    await native.ask("room:ban", {"room": "lobby", "user": user})
    left = ("userLeft", {"roomId": "lobby", "userId": user})
    assert (ann.heard(), bob.heard()) == ([left], [left])
    [refused] = await bob.ask("sendMessage", {"roomId": "lobby", "content": "hi"}) or []
    assert refused["code"] == "not_in_room"
    [refused] = await bob.ask("joinRoom", {"roomId": "lobby"}) or []
    assert refused["code"] == "banned"
    [entered] = await bob.ask("joinRoom", {"roomId": "den"}) or []
    assert entered["ok"]
    assert (ann.crash, bob.crash) == (None, None)


async def test_chat_poc_goes_to_another_room_when_it_was_removed_from_one(sockets: Sockets) -> None:
    native = sockets.server.connect()
    await native.ask("hello", {"user": "owner"})
    rooms = [(await native.ask("room:create", {}))["room"] for _ in range(2)]
    bob = sockets.connect()
    await bob.ask("room:join", {"code": rooms[0]["code"], "nickname": "Bob"})
    await native.ask("room:kick", {"room": rooms[0]["id"], "user": bob.who.user})
    [answer] = await bob.ask("room:join", {"code": rooms[1]["code"], "nickname": "Bob"}) or []
    assert answer["ok"]
    await native.ask("room:ban", {"room": rooms[0]["id"], "user": bob.who.user})
    message = {"roomCode": rooms[0]["code"], "sender": "Bob", "content": "hi"}
    [answer] = await bob.ask("chat:send", message) or []
    assert (answer["ok"], bob.crash) == (False, None)
    den = (await native.ask("room:create", {"access": "members"}))["room"]
    [answer] = await bob.ask("chat:send", {**message, "roomCode": den["code"]}) or []
    assert not answer["ok"]


async def test_peerprep_is_out_and_may_come_back(sockets: Sockets) -> None:
    native = await owner(sockets)
    ann, bob = sockets.connect(), sockets.connect()
    for socket, name in ((ann, "ann"), (bob, "bob")):
        await socket.tell("join_room", {"userId": name, "username": name.title(), "roomId": "lobby"})
    ann.heard()
    await native.ask("room:kick", {"room": "lobby", "user": "bob"})
    assert [event[1]["event"] for event in ann.heard()] == ["disconnect"]
    await bob.tell("send_message", {"message": {"text": "unheard"}})
    assert ann.heard() == []
    await bob.tell("join_room", {"userId": "bob", "username": "Bob", "roomId": "lobby"})
    assert [event[1]["event"] for event in ann.heard()] == ["reconnect"]
    await bob.tell("send_message", {"message": {"text": "heard"}})
    assert ann.heard() == [("receive_message", {"text": "heard"})]
    assert (ann.crash, bob.crash) == (None, None)


async def test_pulsechat_leaves_a_room_that_it_was_removed_from_without_a_fault(sockets: Sockets) -> None:
    native = await owner(sockets)
    bob = sockets.connect()
    await bob.ask("JOIN", {"room": "lobby"})
    await native.ask("room:kick", {"room": "lobby", "user": bob.who.user})
    await bob.tell("MESSAGE", {"room": "lobby", "message": {"body": "unheard"}})
    await bob.ask("LEAVE", {"room": "lobby"})
    assert native.heard("chat:message") == []
    await bob.ask("JOIN", {"room": "lobby"})
    await bob.tell("MESSAGE", {"room": "lobby", "message": {"body": "heard"}})
    assert [message["content"] for message in native.heard("chat:message")] == ["heard"]
    assert bob.crash is None
