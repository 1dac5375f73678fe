"""Rooms that are closed in the store, as `catfish rooms close` does it: instances notice and tell their members."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.rooms.commands import AUTOMATIC_CLIENT_ID, CloseRoom, SendMessage
from catfish.rooms.events import Event, RoomClosed
from catfish.rooms.ports import Mirror
from catfish.wire.native import Refusal
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Server, start_server

LEASE_S = 9.0
NOTICED_S = LEASE_S / 3 + 0.1


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery, lease_s=LEASE_S)


async def close(server: Server, room: str) -> int:
    """As an operator does it, past every instance; the room's number."""
    record = await server.store.room(id=room)
    assert record is not None
    assert await server.store.commit([CloseRoom(number=record.number)]) == [True]
    return record.number


def code(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


async def test_the_members_hear_it_and_can_do_nothing_more_in_the_room(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await ann.ask("room:join", {"room": "den"})
    number = await close(server, "lobby")
    await trio.sleep(NOTICED_S)
    assert ann.heard("room:closed") == bob.heard("room:closed") == [{"room": "lobby"}]
    assert ann.heard("room:left") == bob.heard("room:left") == []
    for event, data in [
        ("room:join", {"room": "lobby"}),
        ("chat:send", {"room": "lobby", "content": "hi"}),
        ("chat:typing", {"room": "lobby", "on": True}),
        ("room:members", {"room": "lobby"}),
    ]:
        assert code(await ann.ask(event, data)) == "room_closed"
    assert server.instance.supervisor.get(number) is None
    assert await server.store.members(number, 10) == []
    assert not isinstance(await ann.ask("chat:send", {"room": "den", "content": "hi"}), Refusal)


async def test_what_was_sent_before_the_end_is_heard_before_it(server: Server, autojump_clock: MockClock) -> None:
    [ann] = await server.join("lobby", "ann")
    record = await server.store.room(id="lobby")
    assert record is not None
    command = SendMessage(
        number=record.number,
        room="lobby",
        user="bob",
        name="Bob",
        content="last words",
        client_id=f"{AUTOMATIC_CLIENT_ID}1",
        reply_to=None,
        data=None,
        created_at=1,
    )
    await server.store.commit([command, CloseRoom(number=record.number)])
    await trio.sleep(NOTICED_S)
    ann.read()
    assert ann.order == ["chat:message", "room:closed"]


async def test_a_refused_message_shows_it_at_once(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await close(server, "lobby")
    assert code(await ann.ask("chat:send", {"room": "lobby", "content": "hi"})) == "room_closed"
    assert bob.heard("room:closed") == [{"room": "lobby"}]


async def test_it_is_noticed_although_the_store_is_away_meanwhile(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    number = await close(server, "lobby")
    server.store.away = True
    await trio.sleep(60)
    assert ann.heard("room:closed") == []
    server.store.away = False
    await trio.sleep(NOTICED_S)
    assert ann.heard("room:closed") == bob.heard("room:closed") == [{"room": "lobby"}]
    await trio.sleep(5)
    assert await server.store.members(number, 10) == []


async def test_connections_that_end_later_are_no_absences(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await close(server, "lobby")
    await trio.sleep(NOTICED_S)
    await bob.vanish()
    assert server.instance.departures.absent_count == 0
    await trio.sleep(60)
    assert ann.heard("room:left") == []
    assert await ann.ask("ping", 1) == 1


async def test_a_closed_room_does_not_count_among_those_of_a_session(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, lease_s=LEASE_S, rooms_per_session_max=1)
    [ann] = await server.join("lobby", "ann")
    assert code(await ann.ask("room:join", {"room": "den"})) == "too_many_rooms"
    await close(server, "lobby")
    await trio.sleep(NOTICED_S)
    assert not isinstance(await ann.ask("room:join", {"room": "den"}), Refusal)


async def test_strangers_whose_room_was_closed_can_be_matched_again(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = server.connect(), server.connect()
    room = ""
    for client, name in ((ann, "ann"), (bob, "bob")):
        await client.ask("hello", {"user": name})
        room = (await client.ask("room:match", {}))["room"]["id"]
    await close(server, room)
    await trio.sleep(NOTICED_S)
    assert ann.heard("room:closed") == bob.heard("room:closed") == [{"room": room}]
    assert (await ann.ask("room:next", {}))["matched"] is False
    assert (await bob.ask("room:match", {}))["matched"] is False  # they have just met
    others = server.connect(), server.connect()
    assert [(await other.ask("room:match", {}))["matched"] for other in others] == [True, True]


async def test_who_is_just_arriving_hears_it_behind_the_answer(server: Server, autojump_clock: MockClock) -> None:
    [ann] = await server.join("lobby", "ann")
    server.store.hold()
    bob = server.connect()
    await bob.ask("hello", {"user": "bob"})
    joining = bob.request("room:join", {"room": "lobby"})
    await wait_all_tasks_blocked()
    server.store.release()
    await wait_all_tasks_blocked()
    await close(server, "lobby")
    await trio.sleep(NOTICED_S)
    bob.read()
    assert bob.order[-2:] == [f"reply {joining}", "room:closed"]
    assert ann.heard("room:closed") == [{"room": "lobby"}]


class Recorder(Mirror):
    def __init__(self) -> None:
        self.published: list[tuple[int, Event]] = []

    def publish(self, number: int, event: Event, to: str | None = None) -> None:
        self.published.append((number, event))


async def test_every_instance_notices_and_a_mirror_makes_it_quicker(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    here = await start_server(nursery, store, lease_s=LEASE_S)
    there = await start_server(nursery, store, lease_s=1_000.0)
    mirror = here.instance.supervisor.mirror = Recorder()
    here.instance.supervisor.mirror_state(True)
    [ann], [bob] = await here.join("lobby", "ann"), await there.join("lobby", "bob")
    number = await close(here, "lobby")
    await trio.sleep(NOTICED_S)
    assert ann.heard("room:closed") == [{"room": "lobby"}]
    assert bob.heard("room:closed") == []
    closed = [event for _, event in mirror.published if isinstance(event, RoomClosed)]
    assert closed == [RoomClosed(room="lobby")]
    there.instance.supervisor.mirrored(number, closed[0], None)
    await trio.sleep(1)
    assert bob.heard("room:closed") == [{"room": "lobby"}]
    assert await store.members(number, 10) == []


async def test_a_join_that_was_stored_and_refused_before_the_room_was_closed_leaves_no_ghost(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, lease_s=LEASE_S, journal_wait_s_max=1.0)
    await server.join("lobby", "ann")
    bob = server.connect()
    await bob.ask("hello", {"user": "bob"})
    server.store.fail_next(1_000, applied=True)
    request = bob.request("room:join", {"room": "lobby"})
    await trio.sleep(2)
    bob.read()
    assert code(bob.replies[request]) == "unavailable"
    server.store.fail_next(0)
    number = await close(server, "lobby")
    assert [member.user for member in await server.store.members(number, 9)] == ["ann", "bob"]
    await trio.sleep(NOTICED_S)
    assert await server.store.members(number, 9) == []
