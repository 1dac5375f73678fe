"""Members who vanish and come back, on one instance and when instances die; rooms that end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.contracts import native
from catfish.errors import INTERNAL_ERROR
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server

GONE = {"room": "lobby", "user": "bob", "reason": "gone"}


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery)


async def rejoin(server: Server, user: str, room: str = "lobby") -> Client:
    client = server.connect()
    await client.ask("hello", {"user": user})
    await client.ask("room:join", {"room": room})
    return client


async def test_a_member_who_returns_within_the_grace_period_was_never_away_for_the_others(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await bob.vanish()
    await trio.sleep(9)
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["away"] for member in members] == [False, True]
    await rejoin(server, "bob")
    await trio.sleep(60)
    assert (ann.heard("room:left"), ann.heard("room:joined")) == ([], [])
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["away"] for member in members] == [False, False]


async def test_a_member_who_does_not_return_is_gone_once_when_the_grace_period_ends(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await bob.vanish()
    await trio.sleep(9.5)
    assert ann.heard("room:left") == []
    await trio.sleep(1)
    assert ann.heard("room:left") == [GONE]
    await rejoin(server, "bob")
    assert len(ann.heard("room:joined")) == 1
    await trio.sleep(60)
    assert ann.heard("room:left") == []


async def test_leaving_is_told_at_once_and_only_once(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await bob.ask("room:leave", {"room": "lobby"})
    await bob.vanish()
    await trio.sleep(60)
    assert ann.heard("room:left") == [{**GONE, "reason": "left"}]


async def test_one_user_on_two_devices_is_one_member_until_both_are_gone(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, phone = await server.join("lobby", "ann", "bob")
    laptop = await rejoin(server, "bob")
    assert ann.heard("room:joined") == []
    await phone.vanish()
    await trio.sleep(60)
    assert ann.heard("room:left") == []
    await laptop.ask("room:leave", {"room": "lobby"})
    assert ann.heard("room:left") == [{**GONE, "reason": "left"}]


async def test_the_absence_is_stored_and_resolved_although_the_store_is_away_meanwhile(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    server.store.away = True
    await bob.vanish()
    await trio.sleep(120)
    assert ann.heard("room:left") == []
    server.store.away = False
    await trio.sleep(30)
    assert ann.heard("room:left") == [GONE]


async def test_who_returns_while_the_store_is_away_stays(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    server.store.away = True
    await bob.vanish()
    await trio.sleep(12)
    back = server.connect()
    back.request("hello", {"user": "bob"})
    back.request("room:join", {"room": "lobby"})
    await trio.sleep(2)
    server.store.away = False
    await trio.sleep(120)
    assert (ann.heard("room:left"), ann.heard("room:joined")) == ([], [])
    assert len((await ann.ask("room:members", {"room": "lobby"}))["members"]) == 2


async def test_a_connection_that_ends_while_its_join_is_being_stored_leaves_no_ghost(
    server: Server, autojump_clock: MockClock
) -> None:
    [ann] = await server.join("lobby", "ann")
    server.store.hold()
    bob = server.connect()
    bob.request("hello", {"user": "bob"})
    bob.request("room:join", {"room": "lobby"})
    await wait_all_tasks_blocked()
    bob.connection.close(INTERNAL_ERROR)
    bob.session.closed(INTERNAL_ERROR)
    bob.scope.cancel()
    await wait_all_tasks_blocked()
    server.store.release()
    await trio.sleep(60)
    assert len(ann.heard("room:joined")) == 1
    assert ann.heard("room:left") == [GONE]
    assert server.instance.departures.absent_count == 0


async def test_the_members_of_an_instance_that_died_are_announced_as_gone_by_another(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as dying:
        doomed = await start_server(dying, store)
        await doomed.join("lobby", "bob", "cleo")
        dying.cancel_scope.cancel()
    survivor = await start_server(nursery, store)
    ann = await rejoin(survivor, "ann")
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["user"] for member in members] == ["bob", "cleo", "ann"]
    await rejoin(survivor, "cleo")
    await trio.sleep(60)
    assert ann.heard("room:left") == [GONE]
    assert ann.heard("room:joined") == []
    await trio.sleep(120)
    assert ann.heard("room:left") == []


async def test_an_instance_that_stops_hands_its_members_over_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as stopping:
        first = await start_server(stopping, store)
        await first.join("lobby", "bob")
        await first.instance.finish()
        stopping.cancel_scope.cancel()
    second = await start_server(nursery, store)
    ann = await rejoin(second, "ann")
    await trio.sleep(30)
    assert ann.heard("room:left") == [GONE]


async def test_an_empty_room_leaves_memory_and_comes_back_from_the_store(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await ann.ask("chat:send", {"room": "lobby", "content": "kept"})
    for client in (ann, bob):
        await client.ask("room:leave", {"room": "lobby"})
    await trio.sleep(120)
    assert server.instance.supervisor.statistics().rooms == 0
    joined = await ann.ask("room:join", {"room": "lobby"})
    assert [message["content"] for message in joined["messages"]] == ["kept"]
    assert server.instance.supervisor.statistics().rooms == 1


async def test_a_storm_of_connects_and_disconnects_leaves_nothing_behind(
    server: Server, autojump_clock: MockClock
) -> None:
    for _ in range(20):
        clients = await server.join("lobby", *(f"user{index}" for index in range(10)))
        for client in clients:
            await client.vanish()
    await trio.sleep(200)
    rooms, absent = server.instance.supervisor.statistics().rooms, server.instance.departures.absent_count
    assert (rooms, absent, len(server.instance.sessions)) == (0, 0, 0)
    assert server.timers.statistics().pending == 0
    assert await server.store.members(1, 100) == []


async def test_a_fault_in_one_room_ends_its_members_here_and_no_others(
    server: Server,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    [cleo] = await server.join("elsewhere", "cleo")
    with monkeypatch.context() as patch:
        patch.setattr(native, "render", _bug)
        ann.send("chat:typing", {"room": "lobby", "on": True})
    assert "room failed" in caplog.text
    assert ann.connection.close_called == bob.connection.close_called == INTERNAL_ERROR
    assert cleo.connection.close_called is None
    assert await cleo.ask("room:members", {"room": "elsewhere"})
    again = await rejoin(server, "dora")
    assert (await again.ask("chat:send", {"room": "lobby", "content": "hi"}))["seq"] == 1


async def test_a_handler_that_raises_ends_its_connection_alone(
    server: Server, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    monkeypatch.setattr(type(ann.session.participant), "say", _bug)
    ann.send("chat:typing", {"room": "lobby", "on": True})
    assert ann.connection.close_called == INTERNAL_ERROR
    monkeypatch.setattr(type(bob.session.participant), "leave", _bug)
    bob.send("room:leave", {"room": "lobby"})
    await wait_all_tasks_blocked()
    assert bob.connection.close_called == INTERNAL_ERROR
    assert server.instance.sessions == {ann.session}


def _bug(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a bug")


async def test_changes_that_nobody_heard_of_are_found_after_an_outage(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    server.store.fail_next(1, applied=True)
    ann.request("chat:send", {"room": "lobby", "content": "unconfirmed"})
    await wait_all_tasks_blocked()
    server.store.away = True
    await trio.sleep(20)
    assert bob.heard("chat:message") == []
    server.store.away = False
    await trio.sleep(5)
    # The sender was refused, and yet it is stored: both see it in its place.
    await bob.ask("chat:send", {"room": "lobby", "content": "next"})
    await trio.sleep(5)
    for client in (ann, bob):
        assert [(m["seq"], m["content"]) for m in client.heard("chat:message")] == [(1, "unconfirmed"), (2, "next")]


async def test_draining_tells_everyone_when_to_come_back(server: Server, autojump_clock: MockClock) -> None:
    clients = await server.join("lobby", *(f"u{index}" for index in range(50)))
    server.instance.announce_draining()
    hints = [client.heard("server:draining")[0]["reconnectAfterMs"] for client in clients]
    assert all(0 <= hint <= 3_000 for hint in hints)
    assert len(set(hints)) > 10


async def test_who_leaves_right_after_a_restart_has_left_and_is_not_gone_later(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    before = await start_server(nursery, store)
    await before.join("lobby", "ann", "bob")
    await before.instance.finish()
    after = await start_server(nursery, store)
    ann, bob = await after.join("lobby", "ann", "bob")
    await bob.ask("room:leave", {"room": "lobby"})
    await trio.sleep(60)
    assert ann.heard("room:left") == [{**GONE, "reason": "left"}]
