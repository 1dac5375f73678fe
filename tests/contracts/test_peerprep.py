"""PeerPrep: presence with grace."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.contracts.peerprep import WHOLE_LIST_MAX
from tests.contracts.harness import Heard, Socket, Sockets
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import start_server

TEXTS = {
    "connect": "has entered the chat.",
    "existing_users": "is already in the chat.",
    "reconnect": "has reconnected.",
    "disconnect": "has left the chat.",
}


async def join(sockets: Sockets, *users: str, room: str = "room-1") -> list[Socket]:
    """Users of these ids, who are all in the room and have heard of each other."""
    joined = []
    for user in users:
        joined.append(await rejoin(sockets, user, room))
    for socket in joined:
        socket.heard()
    return joined


async def rejoin(sockets: Sockets, user: str, room: str = "room-1", name: str | None = None) -> Socket:
    socket = sockets.connect()
    await socket.tell("join_room", {"userId": user, "username": name or user.upper(), "roomId": room})
    return socket


def system(kind: str, user: str, *users: str, name: str | None = None) -> Heard:
    name = name or user.upper()
    message: dict[str, Any] = {
        "eventType": kind,
        "event": kind,
        "userId": user,
        "username": name,
        "text": f"{name} {TEXTS[kind]}",
    }
    if users:
        message["users"] = [{"userId": each, "username": each.upper()} for each in users]
    return "system_message", message


async def test_the_room_hears_who_comes_and_the_newcomer_who_was_there(sockets: Sockets) -> None:
    ann, bob = await rejoin(sockets, "ann"), await rejoin(sockets, "bob")
    cyd = await rejoin(sockets, "cyd")
    assert ann.heard() == [system("connect", each) for each in ("ann", "bob", "cyd")]
    assert bob.heard() == [
        system("connect", "bob"),
        system("existing_users", "ann", "ann"),
        system("connect", "cyd"),
    ]
    assert cyd.heard() == [
        system("connect", "cyd"),
        system("existing_users", "ann", "ann", "bob"),
        system("existing_users", "bob", "ann", "bob"),
    ]


async def test_who_comes_at_the_same_time_is_told_of_in_one_way_only(sockets: Sockets) -> None:
    sockets.server.store.hold()
    newcomers = [sockets.connect() for _ in range(6)]
    for number, socket in enumerate(newcomers):
        socket.emit("join_room", {"userId": f"u{number}", "username": f"U{number}", "roomId": "room-1"})
    await wait_all_tasks_blocked()
    sockets.server.store.release()
    await wait_all_tasks_blocked()
    for socket in newcomers:
        users = [entry[1]["userId"] for entry in socket.heard()]
        assert sorted(users) == [f"u{number}" for number in range(6)]


@pytest.mark.parametrize("others", [WHOLE_LIST_MAX, WHOLE_LIST_MAX + 1])
async def test_what_a_newcomer_is_told_does_not_grow_with_the_square_of_the_room(sockets: Sockets, others: int) -> None:
    await join(sockets, *(f"u{number}" for number in range(others)))
    last = await rejoin(sockets, "last")
    _, *messages = last.heard()
    lists = [[user["userId"] for user in message["users"]] for _, message in messages]
    everyone = [f"u{number}" for number in range(others)]
    assert [message["userId"] for _, message in messages] == everyone
    assert lists[-1] == everyone
    small = others <= WHOLE_LIST_MAX
    assert lists[:-1] == [everyone if small else [each] for each in everyone[:-1]]


async def test_a_repeated_join_and_a_second_tab_are_silent_and_replace_the_name(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    await bob.tell("join_room", {"userId": "bob", "username": "Bobby", "roomId": "room-1"})
    tab = await rejoin(sockets, "bob", name="Robert")
    assert ann.heard() == bob.heard() == tab.heard() == []
    cyd = await rejoin(sockets, "cyd")
    assert cyd.heard()[2][1]["username"] == "Robert"
    await ann.tell("send_message", {"message": 1})
    assert bob.heard()[-1] == tab.heard()[-1] == ("receive_message", 1)


async def test_a_user_with_two_sockets_is_gone_when_both_are(sockets: Sockets, autojump_clock: MockClock) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    tab = await rejoin(sockets, "bob")
    await bob.vanish()
    await trio.sleep(30)
    assert ann.heard() == []
    await tab.vanish()
    await trio.sleep(9.9)
    assert ann.heard() == []
    await trio.sleep(0.2)
    assert ann.heard() == [system("disconnect", "bob")]


async def test_who_is_gone_and_comes_back_while_others_are_there_has_reconnected(
    sockets: Sockets, autojump_clock: MockClock
) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    await bob.vanish()
    await trio.sleep(11)
    bob = await rejoin(sockets, "bob")
    assert ann.heard() == [system("disconnect", "bob"), system("reconnect", "bob")]
    assert bob.heard() == [system("reconnect", "bob")]
    await bob.tell("leave_session")
    bob = await rejoin(sockets, "bob", name="Bobby")
    assert bob.heard() == [system("reconnect", "bob", name="Bobby")]


async def test_when_all_are_gone_the_room_is_forgotten(sockets: Sockets, autojump_clock: MockClock) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    await bob.vanish()
    await trio.sleep(11)
    await ann.vanish()
    await trio.sleep(11)
    bob = await rejoin(sockets, "bob")
    assert bob.heard() == [system("connect", "bob")]
    ann = await rejoin(sockets, "ann")
    assert ann.heard() == [system("connect", "ann"), system("existing_users", "bob", "bob")]


async def test_leaving_the_session_is_told_at_once_and_ends_the_connection(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    bob.emit("send_message", {"message": "bye"})
    bob.emit("leave_session")
    await wait_all_tasks_blocked()
    assert bob.heard() == [("$disconnect", "io server disconnect")]
    assert ann.heard() == [("receive_message", "bye"), system("disconnect", "bob")]
    stranger = sockets.connect()
    await stranger.tell("leave_session")
    assert stranger.heard() == [("$disconnect", "io server disconnect")]


async def test_a_second_tab_keeps_a_user_who_leaves_the_session_in_the_other(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    tab = await rejoin(sockets, "bob")
    await tab.tell("leave_session")
    assert ann.heard() == []
    await bob.tell("leave_session")
    assert ann.heard() == [system("disconnect", "bob")]


async def test_joining_another_room_leaves_the_first_at_once(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    [cyd] = await join(sockets, "cyd", room="room-2")
    await bob.tell("join_room", {"userId": "bob", "username": "BOB", "roomId": "room-2"})
    assert ann.heard() == [system("disconnect", "bob")]
    assert cyd.heard() == [system("connect", "bob")]
    assert bob.heard() == [system("connect", "bob"), system("existing_users", "cyd", "cyd")]
    await bob.tell("send_message", {"message": "x"})
    assert (ann.heard(), cyd.heard()) == ([], [("receive_message", "x")])


async def test_a_socket_that_joins_as_somebody_else_was_nobody_but_that_one_before(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    await bob.tell("join_room", {"userId": "cyd", "username": "CYD", "roomId": "room-1"})
    assert ann.heard() == [system("disconnect", "bob"), system("connect", "cyd")]


@pytest.mark.parametrize(
    "args",
    [
        [],
        [None],
        ["room-1"],
        [["bob", "BOB", "room-1"]],
        [{}],
        *([{"userId": "x", "username": "X", "roomId": "room-1", field: bad}] for field, bad in [
            ("userId", ""), ("userId", 7), ("userId", None), ("userId", "a\0"), ("userId", "x" * 129),
            ("username", ""), ("username", ["X"]), ("username", "\0"), ("username", "x" * 129),
            ("roomId", ""), ("roomId", {}), ("roomId", "\n"), ("roomId", "x" * 129),
        ]),
    ],
)  # fmt: skip
async def test_a_join_without_three_good_texts_is_ignored(sockets: Sockets, args: list[Any]) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    assert await bob.ask("join_room", *args) is None
    stranger = sockets.connect()
    await stranger.tell("join_room", *args)
    assert ann.heard() == bob.heard() == stranger.heard() == []
    assert sockets.ignored == {"join_room": 2}
    await bob.tell("send_message", {"message": "still here"})
    assert ann.heard() == [("receive_message", "still here")]


async def test_messages_go_to_the_others_as_they_came_and_nowhere_before_a_join(sockets: Sockets) -> None:
    ann, bob = await join(sockets, "ann", "bob")
    values: list[Any] = [{"senderId": 1, "text": b"\x01"}, [], 10**30, "x", False, {"deep": [{}]}]
    for value in values:
        assert await bob.ask("send_message", {"message": value, "more": 1}) is None
    assert ann.heard() == [("receive_message", value) for value in values]
    assert bob.heard() == []
    for wrong in (None, "text", 1, [{"message": 1}]):
        await bob.tell("send_message", wrong)
    stranger = sockets.connect()
    await stranger.tell("send_message", {"message": "x"})
    assert ann.heard() == stranger.heard() == []
    assert sockets.ignored == {"send_message": 4}


async def test_a_username_is_told_as_it_came(sockets: Sockets) -> None:
    [ann] = await join(sockets, "ann")
    await rejoin(sockets, "bob", name=" Bob\t ")
    assert ann.heard() == [system("connect", "bob", name=" Bob\t ")]


async def test_with_a_token_the_user_is_the_one_whom_it_names(nursery: trio.Nursery) -> None:
    secret = "a secret of at least thirty-two bytes"
    sockets = Sockets(await start_server(nursery, auth="required", jwt_secret=secret))
    ann = sockets.connect()
    await ann.who.authenticate(jwt.encode({"sub": "ann"}, secret), None, None)
    await ann.tell("join_room", {"userId": "eve", "username": "Ann", "roomId": "room-1"})
    await ann.tell("join_room", {"userId": "eve", "username": "Ann", "roomId": "room-1"})
    assert ann.heard() == [system("connect", "ann", name="Ann")]


async def test_the_grace_period_holds_across_instances(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    store = MemoryStore()
    one = Sockets(await start_server(nursery, store))
    two = Sockets(await start_server(nursery, store))
    ann, bob = await join(one, "ann", "bob")
    await bob.vanish()
    await trio.sleep(5)
    bob = await rejoin(two, "bob")
    await trio.sleep(60)
    assert ann.heard() == bob.heard() == []
