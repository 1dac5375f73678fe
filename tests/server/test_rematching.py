"""Nobody waits for a stranger while another waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery)


async def seek(server: Server, user: str) -> tuple[Client, dict[str, object]]:
    client = server.connect()
    await client.ask("hello", {"user": user})
    return client, await client.ask("room:match", {})


async def test_who_is_left_alone_is_brought_to_another_who_waits(server: Server, autojump_clock: MockClock) -> None:
    ann, first = await seek(server, "ann")
    bob, _ = await seek(server, "bob")
    cleo, second = await seek(server, "cleo")
    assert second["matched"] is False
    room, other = first["room"]["id"], second["room"]["id"]  # type: ignore[index]
    await bob.ask("room:leave", {"room": room})
    assert ann.heard("room:closed") == []
    await trio.sleep(10)
    ann.read()
    assert ann.order[-4:] == ["room:left", "room:closed", "room:joined", "room:ready"]
    assert ann.heard("room:closed") == [{"room": room}]
    assert ann.heard("room:left") == [{"room": room, "user": "bob", "reason": "left"}]
    [joined] = [event for event in ann.heard("room:joined") if event["room"] == other]
    assert (joined["member"]["user"], ann.heard("room:ready")[-1]) == ("cleo", {"room": other})
    assert cleo.heard("room:joined")[0]["member"]["user"] == "ann"
    assert cleo.heard("room:ready") == [{"room": other}]
    assert (await ann.ask("chat:send", {"room": other, "content": "hi"}))["seq"] == 1
    assert cleo.heard("chat:message")[0]["content"] == "hi"
    assert (await ann.ask("room:members", {"room": room})).code == "not_in_room"


async def test_both_who_lost_their_partners_with_an_instance_find_each_other(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    survivor = await start_server(nursery, store)
    async with trio.open_nursery() as dying:
        doomed = await start_server(dying, store)
        ann, _ = await seek(survivor, "ann")
        await seek(doomed, "bob")
        cleo, _ = await seek(survivor, "cleo")
        await seek(doomed, "dora")
        dying.cancel_scope.cancel()
    await trio.sleep(120)
    for client, partner in ((ann, "cleo"), (cleo, "ann")):
        assert client.heard("room:joined")[-1]["member"]["user"] == partner


async def test_who_leaves_while_it_is_being_moved_leaves_the_new_room_too(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, first = await seek(server, "ann")
    bob, _ = await seek(server, "bob")
    cleo, second = await seek(server, "cleo")
    room, other = first["room"]["id"], second["room"]["id"]  # type: ignore[index]
    await bob.ask("room:leave", {"room": room})
    server.store.hold()
    await trio.sleep(10)  # the question is on its way to the store
    ann.request("room:leave", {"room": room})
    await wait_all_tasks_blocked()
    server.store.release()
    await trio.sleep(60)
    dora, third = await seek(server, "dora")
    assert (third["matched"], third["room"]["id"]) == (True, other)  # type: ignore[index]
    members = (await dora.ask("room:members", {"room": other}))["members"]
    assert [member["user"] for member in members] == ["cleo", "dora"]
    assert cleo.connection.close_called is None


async def test_who_is_moved_before_its_answer_is_out_hears_of_that_behind_the_answer(
    server: Server, autojump_clock: MockClock
) -> None:
    ann, first = await seek(server, "ann")
    bob, _ = await seek(server, "bob")
    cleo, second = await seek(server, "cleo")
    room, other = first["room"]["id"], second["room"]["id"]  # type: ignore[index]
    await bob.ask("room:leave", {"room": room})
    ann.read()
    ann.order.clear()
    server.store.hold()
    cleo.request("chat:send", {"room": other, "content": "somebody there?"})
    await wait_all_tasks_blocked()
    id = ann.request("room:match", {})
    await trio.sleep(10)  # the question on ann's behalf waits for the same commit
    server.store.release()
    await trio.sleep(1)
    ann.read()
    assert ann.replies[id]["room"]["id"] == room
    assert ann.order == [f"reply {id}", "room:closed", "room:joined", "room:ready"]
    assert (await ann.ask("chat:send", {"room": other, "content": "yes"}))["seq"] == 2
