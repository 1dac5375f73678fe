"""What the simulation found: comings, goings and answers that cross each other, or an outage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from trio.testing import MockClock

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, Rematch
from catfish.rooms.ports import StoreUnavailable
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


class LateAnswers:
    """A store whose answers to commits come when `release` is called; the commits are made at once."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.held: trio.Event | None = None
        self.lose: type[Command] | None = None
        """The store goes away when such a command is committed, before it has answered."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def hold(self) -> None:
        self.held = trio.Event()

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        answers = await self.store.commit(batch)
        if self.lose is not None and any(isinstance(command, self.lose) for command in batch):
            self.lose, self.store.away = None, True
            raise StoreUnavailable("the connection was lost before the commit was confirmed")
        if self.held is not None:
            await self.held.wait()
        return answers


async def seek(server: Server, user: str, client: Client | None = None) -> tuple[Client, Any]:
    if client is None:
        client = server.connect()
        await client.ask("hello", {"user": user})
    return client, await client.ask("room:match", {})


async def test_who_left_and_who_came_while_a_pairing_was_answered_is_told_behind_the_answer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store, network = MemoryStore(), MemoryNetwork()
    late = LateAnswers(store)
    here = await start_server(nursery, late, partner_pause_s=0)  # type: ignore[arg-type]
    there = await start_server(nursery, store, partner_pause_s=0)
    for server in (here, there):
        await connect_mirror(nursery, network, server)
    bob, _ = await seek(there, "bob")
    ann, paired = await seek(here, "ann")
    room = paired["room"]["id"]
    await ann.ask("room:leave", {"room": room})
    ann.read()
    ann.order.clear()
    late.hold()
    id = ann.request("room:match", {})
    await trio.sleep(1)
    await bob.ask("room:leave", {"room": room})
    await seek(there, "dora")
    await trio.sleep(1)
    assert late.held is not None
    late.held.set()
    await trio.sleep(1)
    ann.read()
    assert ann.replies[id]["peer"]["user"] == "bob"
    assert ann.order == [f"reply {id}", "room:left", "room:joined", "room:ready"]
    assert ann.heard("room:left")[0]["user"] == "bob"
    assert ann.heard("room:joined")[0]["member"]["user"] == "dora"


async def test_who_is_lost_again_with_a_second_instance_has_the_whole_grace_period_anew(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    first = await start_server(nursery, store)
    ann, bob = await rejoin(first, "ann"), await rejoin(first, "bob")
    await bob.vanish()
    await trio.sleep(6)
    async with trio.open_nursery() as stopping:
        second = await start_server(stopping, store)
        await rejoin(second, "bob")
        await trio.sleep(1)
        await second.instance.finish()
        stopping.cancel_scope.cancel()
    await trio.sleep(9)  # it was lost 16 s ago for the first time, and 9 s ago for the last
    assert ann.heard("room:left") == []
    await trio.sleep(10)
    assert [left["user"] for left in ann.heard("room:left")] == ["bob"]


async def test_who_was_moved_to_another_stranger_knows_although_the_answer_was_lost(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    late = LateAnswers(MemoryStore())
    server = await start_server(nursery, late, journal_wait_s_max=0.5)  # type: ignore[arg-type]
    ann, first = await seek(server, "ann")
    bob, _ = await seek(server, "bob")
    cleo, second = await seek(server, "cleo")
    await bob.ask("room:leave", {"room": first["room"]["id"]})
    late.lose = Rematch
    await trio.sleep(10)
    assert late.store.away
    late.store.away = False
    await trio.sleep(3)
    for client, partner in ((ann, "cleo"), (cleo, "ann")):
        assert client.heard("room:joined")[-1]["member"]["user"] == partner
    members = await ann.ask("room:members", {"room": second["room"]["id"]})
    assert [member["user"] for member in members["members"]] == ["cleo", "ann"]


async def test_who_died_in_an_outage_of_the_store_may_have_lived_until_its_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    survivor = await start_server(nursery, store)
    ann = await rejoin(survivor, "ann")
    async with trio.open_nursery() as dying:
        await rejoin(await start_server(dying, store), "bob")
        await trio.sleep(1)
        store.away = True
        await trio.sleep(60)
        dying.cancel_scope.cancel()
    store.away = False
    ann.read()
    ann.events.clear()
    lease_s = survivor.instance.settings.lease_s
    await trio.sleep(lease_s + 2)  # the others had the time to renew theirs, and this one's members are taken over
    assert survivor.instance.departures.absent_count == 1
    await trio.sleep(30)
    assert [left["user"] for left in ann.heard("room:left")] == ["bob"]


async def test_an_old_leaving_whose_answer_is_late_does_not_undo_a_coming_that_was_heard_of_since(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store, network = MemoryStore(), MemoryNetwork()
    late = LateAnswers(store)
    here, there = await start_server(nursery, late), await start_server(nursery, store)  # type: ignore[arg-type]
    for server in (here, there):
        await connect_mirror(nursery, network, server)
    ann, bob = await rejoin(here, "ann"), await rejoin(here, "bob")
    late.hold()
    bob.request("room:leave", {"room": "lobby"})
    await trio.sleep(1)
    await rejoin(there, "bob")
    await trio.sleep(1)
    assert late.held is not None
    late.held.set()
    await trio.sleep(20)
    told = [("room:left", left["user"]) for left in ann.heard("room:left")]
    assert told == []
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["user"] for member in members] == ["ann", "bob"]


async def test_who_leaves_in_an_outage_and_is_cut_off_is_no_ghost(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, journal_wait_s_max=10.0)
    ann, bob = await rejoin(server, "ann"), await rejoin(server, "bob")
    server.store.away = True
    bob.request("room:leave", {"room": "lobby"})
    await trio.sleep(1)
    await bob.vanish()
    bob.scope.cancel()  # its task is given up while the leaving still waits to be stored
    await trio.sleep(20)
    server.store.away = False
    await trio.sleep(20)
    assert [left["user"] for left in ann.heard("room:left")] == ["bob"]
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["user"] for member in members] == ["ann"]
    assert server.store._rooms.shelf.by_id["lobby"].users() == {"ann"}
