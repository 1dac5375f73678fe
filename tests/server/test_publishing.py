"""What is done without a session: rooms made and closed, events told, users disconnected, on every instance."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from catfish.errors import NORMAL, Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.commands import RoomRecord, SendMessage
from catfish.rooms.events import Custom
from catfish.rooms.model import RoomKind
from tests.doubles.memory_mirror import MemoryNetwork
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server


class Pair(NamedTuple):
    """Two instances on one store, with a mirror between them."""

    one: Server
    other: Server


@pytest.fixture
async def pair(nursery: trio.Nursery, autojump_clock: MockClock) -> Pair:
    store, network = MemoryStore(), MemoryNetwork()
    servers = [await start_server(nursery, store) for _ in range(2)]
    for server in servers:
        instance = server.instance
        mirror = network.mirror(instance.settings, instance.id, instance.supervisor)
        instance.supervisor.mirror = mirror
        await nursery.start(mirror.run)
    await trio.sleep(1)
    return Pair(*servers)


async def enter(server: Server, user: str, room: str = "lobby") -> Client:
    client = server.connect()
    await client.ask("hello", {"user": user})
    await client.ask("room:join", {"room": room})
    client.read()
    client.events.clear()
    return client


async def record_of(server: Server, room: str = "lobby") -> RoomRecord:
    record = await server.store.room(id=room)
    assert record is not None
    return record


def message(number: int, content: str, client_id: str | None = None) -> SendMessage:
    return SendMessage(
        number=number,
        room="lobby",
        user="backend",
        name="Backend",
        content=content,
        client_id=client_id,
        reply_to=None,
        data=None,
        created_at=now_ms(),
    )


async def test_a_message_reaches_members_on_every_instance(pair: Pair) -> None:
    ann = await enter(pair.other, "ann")
    number = (await record_of(pair.one)).number
    stored = await pair.one.instance.publisher.post(message(number, "hello", "c1"))
    again = await pair.one.instance.publisher.post(message(number, "hello", "c1"))
    assert again == stored
    await trio.sleep(1)
    [heard] = ann.heard("chat:message")
    assert (heard["content"], heard["user"], heard["seq"]) == ("hello", "backend", 1)


async def test_client_ids_of_our_own_are_not_for_others(pair: Pair) -> None:
    await enter(pair.one, "ann")
    number = (await record_of(pair.one)).number
    with pytest.raises(Rejected, match="must not begin with"):
        await pair.one.instance.publisher.post(message(number, "hello", "~1"))
    with pytest.raises(Rejected, match="no room"):
        await pair.one.instance.publisher.post(message(987_654, "hello"))


async def test_an_event_is_told_in_a_room_that_nobody_here_is_in(pair: Pair) -> None:
    ann, bob = await enter(pair.other, "ann"), await enter(pair.other, "bob")
    number = (await record_of(pair.one)).number
    tell = pair.one.instance.supervisor.tell_room
    tell(number, Custom(room="lobby", user="backend", event="news", data=1))
    tell(number, Custom(room="lobby", user="backend", event="news", data=2), "bob")
    await trio.sleep(1)
    assert [event["data"] for event in ann.heard("room:event")] == [1]
    assert [event["data"] for event in bob.heard("room:event")] == [1, 2]


async def test_a_room_is_made_once_for_an_id(pair: Pair) -> None:
    create = pair.one.instance.publisher.create
    first = await create(kind=RoomKind.OPEN, name="Tea", capacity=3, user="ann", id="r-1")
    again = await create(kind=RoomKind.OPEN, name="Tea", capacity=3, user="ann", id="r-1")
    assert (first.number, first.room.code) == (again.number, again.room.code)
    other = await create(kind=RoomKind.OPEN, name=None, capacity=None, user="ann")
    assert other.number != first.number
    with pytest.raises(Rejected, match="capacity"):
        await create(kind=RoomKind.OPEN, name=None, capacity=0, user="ann")


async def test_a_closed_room_ends_on_every_instance(pair: Pair) -> None:
    ann, bob = await enter(pair.one, "ann"), await enter(pair.other, "bob")
    number = (await record_of(pair.one)).number
    assert await pair.one.instance.publisher.close(number, "lobby")
    await trio.sleep(1)
    assert len(ann.heard("room:closed")) == len(bob.heard("room:closed")) == 1
    assert not await pair.one.instance.publisher.close(number, "lobby")


async def test_a_user_is_disconnected_on_every_instance_and_device(pair: Pair) -> None:
    clients = [await enter(pair.one, "ann"), await enter(pair.one, "ann", "other"), await enter(pair.other, "ann")]
    idle = pair.other.connect()
    await idle.ask("hello", {"user": "ann"})
    bob = await enter(pair.other, "bob")
    assert pair.one.instance.disconnect("ann") == 2
    assert pair.one.instance.disconnect("nobody") == 0
    await trio.sleep(1)
    assert [client.connection.close_called for client in (*clients, idle)] == [NORMAL] * 4
    assert bob.connection.close_called is None


async def test_sessions_are_known_by_who_they_say_they_are(nursery: trio.Nursery) -> None:
    server = await start_server(nursery)
    users = server.instance.users
    client = server.connect()
    guest = client.session.participant.user
    assert users.of(guest) == [client.session.participant]
    await client.ask("hello", {"user": "ann"})
    assert (users.of(guest), users.of("ann")) == ([], [client.session.participant])
    await client.vanish()
    assert users.of("ann") == []
