"""What a session can do for its vocabulary, beyond what the native one asks for."""

from __future__ import annotations

import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import Rejected
from catfish.rooms.model import Message
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Server, start_server

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery, jwt_secret=SECRET)


async def test_a_client_names_itself_while_it_is_in_no_room(server: Server) -> None:
    who = server.connect().session.participant
    await who.introduce(user="ann")
    assert (who.user, who.name) == ("ann", "ann")
    await who.introduce(name=" Ann ")
    assert (who.user, who.name) == ("ann", "Ann")
    await who.join(room="lobby")
    await who.introduce(user="ann", name="Annie")
    assert who.name == "Annie"
    for bad, code in (({"user": "bob"}, "forbidden"), ({"user": "\n"}, "bad_request"), ({"name": ""}, "bad_request")):
        with pytest.raises(Rejected) as refused:
            await who.introduce(**bad)
        assert refused.value.code == code
    assert (who.user, who.name) == ("ann", "Annie")


async def test_the_id_of_a_token_stays(server: Server) -> None:
    who = server.connect().session.participant
    assert not who.identified
    await who.authenticate(jwt.encode({"sub": "ann", "name": "Ann"}, SECRET), None, None)
    await who.introduce(user="eve", name="Annie")
    assert (who.identified, who.user, who.name) == (True, "ann", "Annie")


async def test_ids_that_cannot_be_are_not_looked_up(server: Server) -> None:
    who = server.connect().session.participant
    for place in ({"room": "a\0b"}, {"room": "x" * 129}, {"code": "\0"}, {"code": "x" * 13}):
        with pytest.raises(Rejected, match=r"^(room|code): "):
            await who.find(**place)


async def test_only_rooms_in_memory_are_found_without_waiting(server: Server) -> None:
    one, two = (server.connect().session.participant for _ in range(2))
    assert two.hosted(room="lobby") is None
    entry = await one.join(room="lobby")
    assert two.hosted(room="lobby") is entry.live


async def test_a_message_may_have_another_author_and_time(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    who = ann.session.participant
    done: list[Message | Rejected] = []
    live = who.live("lobby")
    for _ in range(2):
        who.send(
            number=live.number,
            room=live.id,
            content="hi",
            user="bob",
            name="Bob",
            client_id="m-1",
            created_at=1000,
            done=done.append,
        )
    await wait_all_tasks_blocked()
    [told] = ann.heard("chat:message")
    assert (told["user"], told["name"], told["createdAt"], told["clientId"]) == ("bob", "Bob", 1000, "m-1")
    assert [answer.seq for answer in done if isinstance(answer, Message)] == [1, 1]


async def test_without_a_grace_period_the_others_hear_at_once_who_is_gone(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, grace_s=0.0)
    ann, bob = await server.join("lobby", "ann", "bob")
    commits = len(server.store.batches)
    await bob.vanish()
    assert ann.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "gone"}]
    assert len(server.store.batches) == commits + 1


async def test_without_a_grace_period_a_user_stays_as_long_as_it_is_on_another_instance(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    server, other = await start_server(nursery, store, grace_s=0.0), await start_server(nursery, store, grace_s=0.0)
    ann, bob = await server.join("lobby", "ann", "bob")
    [bob_elsewhere] = await other.join("lobby", "bob")
    await bob.vanish()
    await trio.sleep(5)
    assert ann.heard("room:left") == []
    assert [member.user for member in await store.members(1, 10)] == ["ann", "bob"]
    await bob_elsewhere.vanish()
    await trio.sleep(5)
    assert [member.user for member in await store.members(1, 10)] == ["ann"]


async def test_without_a_grace_period_a_leaving_that_is_refused_is_stored_later(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, grace_s=0.0, journal_items_max=1)
    ann, bob = await server.join("lobby", "ann", "bob")
    server.store.hold()
    ann.request("chat:send", {"room": "lobby", "content": "one"})
    await wait_all_tasks_blocked()
    ann.request("chat:send", {"room": "lobby", "content": "two"})
    await bob.vanish()
    await trio.sleep(5)
    assert ann.heard("room:left") == []
    server.store.release()
    await trio.sleep(5)
    assert ann.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "gone"}]
