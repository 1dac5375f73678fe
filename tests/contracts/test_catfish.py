"""Catfish: pairs of strangers."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contracts.harness import Socket, Sockets
from tests.server.harness import start_server


async def pair(sockets: Sockets) -> tuple[Socket, Socket]:
    """Two who are matched; `ann` waited."""
    ann, bob = sockets.connect(), sockets.connect()
    await ann.tell("join-room", "ann")
    await bob.tell("join-room", "bob")
    assert ann.heard() == [("user-joined", "bob")]
    assert bob.heard() == []
    return ann, bob


async def test_two_who_join_at_once_are_matched_with_each_other(sockets: Sockets) -> None:
    four = [sockets.connect() for _ in range(4)]
    for number, socket in enumerate(four):
        socket.emit("join-room", f"u{number}")
    await wait_all_tasks_blocked()
    heard = [socket.heard() for socket in four]
    assert sorted(len(each) for each in heard) == [0, 0, 1, 1]
    await four[0].tell("send-message", "hi")
    assert sum(socket.heard() == [("receive-message", "hi")] for socket in four) == 2
    assert len({socket.who.state for socket in four}) == 2


async def test_who_waits_and_joins_again_waits_as_before(sockets: Sockets) -> None:
    ann = sockets.connect()
    await ann.tell("join-room", "ann")
    await ann.tell("join-room", "other")
    bob = sockets.connect()
    await bob.tell("join-room", "bob")
    assert ann.heard() == [("user-joined", "bob")]
    await ann.tell("leave-room")
    assert bob.heard() == [("user-disconnected", "ann")]


async def test_joining_from_a_room_leaves_it_first(sockets: Sockets) -> None:
    ann, bob = await pair(sockets)
    cyd = sockets.connect()
    await cyd.tell("join-room", "cyd")
    await ann.tell("join-room", "ann2")
    assert bob.heard() == [("user-disconnected", "ann")]
    assert cyd.heard() == [("user-joined", "ann2")]
    await ann.tell("send-message", "hi")
    assert (cyd.heard(), bob.heard()) == ([("receive-message", "hi")], [])
    assert ann.heard() == [("receive-message", "hi")]


async def test_sockets_that_say_the_same_id_are_two_strangers_and_no_third_gets_in(sockets: Sockets) -> None:
    ann, bob, eve = (sockets.connect() for _ in range(3))
    for socket in (ann, bob, eve):
        await socket.tell("join-room", "same")
    assert ann.heard() == [("user-joined", "same")]
    await bob.tell("send-message", "for ann")
    assert (ann.heard(), eve.heard()) == ([("receive-message", "for ann")], [])


async def test_leaving_is_answered_once_also_when_alone_and_nothing_reaches_the_old_room(sockets: Sockets) -> None:
    ann, bob = await pair(sockets)
    await ann.tell("leave-room")
    await ann.tell("leave-room")
    await ann.tell("send-message", "x")
    await ann.tell("toggle-mic", "ann", False)
    await ann.tell("stream-started")
    assert ann.heard() == [("ready-to-join",), ("receive-message", "x")]
    assert bob.heard() == [("user-disconnected", "ann")]
    await bob.tell("leave-room")
    assert bob.heard() == [("ready-to-join",)]
    stranger = sockets.connect()
    await stranger.tell("leave-room")
    assert stranger.heard() == []


async def test_the_partner_hears_at_once_who_is_gone_and_its_room_is_open_for_the_next(sockets: Sockets) -> None:
    ann, bob = await pair(sockets)
    await bob.vanish()
    assert ann.heard() == [("user-disconnected", "bob")]
    cyd = sockets.connect()
    await cyd.tell("join-room", {"id": "cyd"})
    assert ann.heard() == [("user-joined", {"id": "cyd"})]
    cyd.emit("stream-started")
    cyd.close()
    await wait_all_tasks_blocked()
    assert ann.heard() == [("stream-started",), ("user-disconnected", {"id": "cyd"})]


async def test_a_socket_that_joins_and_is_gone_in_one_tick_leaves_no_ghost(sockets: Sockets) -> None:
    ghost = sockets.connect()
    ghost.emit("join-room", "ghost")
    ghost.close()
    await wait_all_tasks_blocked()
    ann, bob = await pair(sockets)
    assert ann.heard() == bob.heard() == []


async def test_who_is_gone_while_the_store_is_away_is_told_later(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sockets = Sockets(await start_server(nursery, journal_wait_s_max=2.0))
    ann, bob = await pair(sockets)
    sockets.server.store.away = True
    await bob.vanish()
    await trio.sleep(20)
    assert ann.heard() == []
    sockets.server.store.away = False
    await trio.sleep(20)
    assert ann.heard() == [("user-disconnected", "bob")]


@pytest.mark.parametrize(
    ("args", "heard"),
    [
        ([], True),
        (["ann"], True),
        (["ann", []], True),
        (["ann", {}], True),
        (["ann", "0"], True),
        (["ann", -1], True),
        (["ann", b""], True),
        (["ann", 0.0], False),
        (["ann", ""], False),
        (["ann", None], False),
    ],
)
async def test_the_sender_hears_its_toggle_when_the_second_argument_is_truthy_in_javascript(
    sockets: Sockets, args: list[object], heard: bool
) -> None:
    ann, bob = await pair(sockets)
    echo = [("camera-toggled", args[0] if args else None)]
    await ann.tell("toggle-camera", *args)
    assert (bob.heard(), ann.heard()) == (echo, echo if heard else [])


async def test_before_a_join_the_sender_alone_hears_itself(sockets: Sockets) -> None:
    ann = sockets.connect()
    await ann.tell("toggle-camera", 7)
    await ann.tell("send-message", b"\x00\x01", 2)
    await ann.tell("send-message")
    await ann.tell("stream-started")
    assert ann.heard() == [("camera-toggled", 7), ("receive-message", b"\x00\x01"), ("receive-message", None)]


async def test_nothing_is_acknowledged_and_an_id_without_measure_is_refused(sockets: Sockets) -> None:
    ann = sockets.connect()
    assert await ann.ask("send-message", "hi") is None
    assert await ann.ask("join-room", "x" * 100_000) is None
    assert sockets.ignored == {"join-room": 1}
    assert ann.who.rooms == []


async def test_a_native_partner_is_one_like_any_other(sockets: Sockets) -> None:
    ann = sockets.connect()
    await ann.tell("join-room", "ann-1")
    native = sockets.server.connect()
    await native.ask("hello", {"user": "nat", "name": "Nat"})
    matched = await native.ask("room:match", {})
    room = matched["room"]["id"]
    assert matched["peer"]["name"] == "ann-1"
    assert ann.heard() == [("user-joined", "nat")]
    native.read()
    native.events.clear()

    await ann.tell("toggle-mic", "ann-1", False)
    await ann.tell("stream-started")
    await ann.tell("send-message", {"userName": "Ann", "userId": "ann-1", "messageContent": "hello"})
    await ann.tell("send-message", {"no": "text"})
    user = matched["peer"]["user"]
    assert native.heard("media:toggled") == [{"room": room, "user": user, "device": "mic", "on": True}]
    assert native.heard("media:started") == [{"room": room, "user": user}]
    [said] = native.heard("chat:message")
    assert (said["content"], said["name"], said["user"], said["seq"], said["id"]) == ("hello", "Ann", user, 0, 0)

    ann.heard()
    await native.ask("chat:send", {"room": room, "content": "hi there"})
    await native.ask("media:toggle", {"room": room, "device": "camera", "on": True})
    await native.ask("media:toggle", {"room": room, "device": "screen", "on": True})
    await native.ask("media:started", {"room": room})
    assert ann.heard() == [
        ("receive-message", {"userName": "Nat", "userId": "nat", "messageContent": "hi there"}),
        ("camera-toggled", "nat"),
        ("stream-started",),
    ]
    await native.ask("room:leave", {"room": room})
    assert ann.heard() == [("user-disconnected", "nat")]
