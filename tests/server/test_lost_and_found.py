"""What the simulation found: comings, goings and answers that cross each other, or an outage."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.doubles.memory_mirror import MemoryNetwork
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server


async def rejoin(server: Server, user: str, room: str = "lobby") -> Client:
    client = server.connect()
    await client.ask("hello", {"user": user})
    await client.ask("room:join", {"room": room})
    return client


async def connect_mirror(nursery: trio.Nursery, network: MemoryNetwork, server: Server) -> None:
    instance = server.instance
    mirror = network.mirror(instance.settings, instance.id, instance.supervisor)
    instance.supervisor.mirror = mirror
    await nursery.start(mirror.run)


async def test_the_journal_rests_while_the_store_is_away_and_nothing_waits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, journal_wait_s_max=1.0)
    [ann] = await server.join("lobby", "ann")
    server.store.away = True
    ann.request("chat:send", {"room": "lobby", "content": "one"})
    await trio.sleep(0.5)
    ann.request("chat:send", {"room": "lobby", "content": "two"})
    # A pump that never waits would keep virtual time from passing at all.
    await trio.sleep(60)
    server.store.away = False
    await trio.sleep(5)
    assert (await ann.ask("chat:send", {"room": "lobby", "content": "three"}))["seq"] == 1


async def test_nobody_is_taken_for_dead_because_the_store_was_away(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store, network = MemoryStore(), MemoryNetwork()
    servers = [await start_server(nursery, store) for _ in range(3)]
    clients = []
    for index, server in enumerate(servers):
        await connect_mirror(nursery, network, server)
        clients.append(await rejoin(server, f"user{index}"))
    await trio.sleep(1)
    for client in clients:
        client.heard("room:joined")
    store.away = True
    await trio.sleep(40)
    store.away = False
    await trio.sleep(60)
    for client in clients:
        assert (client.heard("room:left"), client.heard("room:joined")) == ([], [])
        members = (await client.ask("room:members", {"room": "lobby"}))["members"]
        assert [member["away"] for member in members] == [False] * 3


async def test_an_empty_room_in_memory_is_not_entered_with_the_members_of_yesterday(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store, network = MemoryStore(), MemoryNetwork()
    here, there = await start_server(nursery, store), await start_server(nursery, store)
    for server in (here, there):
        await connect_mirror(nursery, network, server)
    ann = await rejoin(here, "ann")
    await rejoin(there, "bob")
    await trio.sleep(1)
    await ann.ask("room:leave", {"room": "lobby"})
    network.away()
    await rejoin(there, "cleo")
    await trio.sleep(5)
    network.heal()
    await trio.sleep(5)
    joined = await ann.ask("room:join", {"room": "lobby"})
    assert [member["user"] for member in joined["members"]] == ["bob", "cleo", "ann"]


async def test_both_strangers_hear_once_that_they_are_both_there_on_two_instances(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store, network = MemoryStore(), MemoryNetwork()
    here, there = await start_server(nursery, store), await start_server(nursery, store)
    for server in (here, there):
        await connect_mirror(nursery, network, server)
    ann, bob = here.connect(), there.connect()
    for name, client in (("ann", ann), ("bob", bob)):
        await client.ask("hello", {"user": name})
        await client.ask("room:match", {})
        await trio.sleep(2)
    for client in (ann, bob):
        assert len(client.heard("room:ready")) == 1
