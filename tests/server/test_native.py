"""The native protocol end to end, without sockets."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish import __version__
from catfish.contracts import native, native_moderation
from catfish.errors import ERROR_CODES, Rejected
from catfish.rooms.events import Event
from tests.server.harness import Server, start_server


@pytest.fixture
async def server(nursery: trio.Nursery, autojump_clock: MockClock) -> Server:
    return await start_server(nursery)


async def test_hello_names_the_session_and_tells_the_limits(server: Server) -> None:
    client = server.connect()
    welcome = await client.ask("hello", {"user": "ann", "name": "Ann"})
    assert (welcome["user"], welcome["name"], welcome["version"]) == ("ann", "Ann", __version__)
    assert welcome["session"].startswith("s-")
    assert welcome["heartbeatMs"] == 25_000
    assert welcome["limits"] == {
        "messageBytesMax": 1_048_576,
        "contentCharsMax": 5_000,
        "dataBytesMax": 65_536,
        "historyPageMax": 200,
        "roomsPerSessionMax": 256,
        "requestsWaitingMax": 64,
    }


async def test_without_hello_a_session_is_a_guest_of_its_own(server: Server) -> None:
    client = server.connect()
    welcome = await client.ask("hello", {})
    assert welcome["user"] == welcome["name"] == welcome["session"]


@pytest.mark.parametrize("data", ["x", 1, None, [1, {"a": None}], {"deep": [[[]]]}])
async def test_ping_gives_back_what_it_got(server: Server, data: object) -> None:
    for subprotocol in (None, "catfish.v1.json", "catfish.v1.msgpack"):
        assert await server.connect(subprotocol).ask("ping", data) == data


async def test_joining_an_unknown_room_makes_an_open_one(server: Server) -> None:
    ann = server.connect()
    await ann.ask("hello", {"user": "ann", "name": "Ann"})
    joined = await ann.ask("room:join", {"room": "lobby"})
    assert joined["room"]["id"] == "lobby"
    assert joined["room"]["kind"] == "open"
    assert (joined["room"]["membersCount"], joined["seq"], joined["messages"], joined["more"]) == (1, 0, [], False)
    [member] = joined["members"]
    media = {"camera": False, "mic": False, "screen": False}
    assert {**member, "since": 0} == {"user": "ann", "name": "Ann", "since": 0, "media": media, "away": False}


async def test_the_others_hear_who_comes_and_who_leaves(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    cleo = server.connect()
    await cleo.ask("hello", {"user": "cleo", "name": "Cleo"})
    await cleo.ask("room:join", {"room": "lobby"})
    for other in (ann, bob):
        [event] = other.heard("room:joined")
        assert (event["room"], event["member"]["user"], event["member"]["name"]) == ("lobby", "cleo", "Cleo")
    assert cleo.heard("room:joined") == []
    assert await cleo.ask("room:leave", {"room": "lobby"}) == {}
    assert ann.heard("room:left") == bob.heard("room:left") == [{"room": "lobby", "user": "cleo", "reason": "left"}]
    assert (await cleo.ask("room:members", {"room": "lobby"})).code == "not_in_room"
    members = (await ann.ask("room:members", {"room": "lobby"}))["members"]
    assert [member["user"] for member in members] == ["ann", "bob"]


async def test_a_message_reaches_everyone_with_its_place_and_then_the_sender_its_answer(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    request = {"room": "lobby", "content": "hi 🐟", "clientId": "c1", "data": {"k": [1]}}
    sent = await ann.ask("chat:send", request)
    assert sent["seq"] == 1
    [message] = bob.heard("chat:message")
    assert message == {
        "room": "lobby",
        "seq": 1,
        "id": sent["id"],
        "user": "ann",
        "name": "ann",
        "content": "hi 🐟",
        "clientId": "c1",
        "data": {"k": [1]},
        "createdAt": sent["createdAt"],
    }
    assert ann.order == ["chat:message", "reply 3"]
    assert ann.heard("chat:message") == [message]


async def test_the_same_client_id_is_stored_and_told_once(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    first = await ann.ask("chat:send", {"room": "lobby", "content": "hi", "clientId": "c1"})
    again = await ann.ask("chat:send", {"room": "lobby", "content": "hi", "clientId": "c1"})
    other = await bob.ask("chat:send", {"room": "lobby", "content": "hi", "clientId": "c1"})
    assert first == again
    assert other["seq"] == 2
    assert [message["seq"] for message in bob.heard("chat:message")] == [1, 2]


async def test_automatic_client_ids_are_not_shown_and_cannot_be_forged(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await ann.ask("chat:send", {"room": "lobby", "content": "hi"})
    assert "clientId" not in bob.heard("chat:message")[0]
    assert "clientId" not in (await bob.ask("chat:history", {"room": "lobby"}))["messages"][0]
    assert (await ann.ask("chat:send", {"room": "lobby", "content": "x", "clientId": "~s:1"})).code == "bad_request"


async def test_requests_sent_in_one_breath_take_effect_in_order(server: Server) -> None:
    ann = server.connect()
    ann.request("hello", {"user": "ann"})
    ann.request("room:join", {"room": "lobby"})
    sends = [ann.request("chat:send", {"room": "lobby", "content": str(index)}) for index in range(20)]
    history = ann.request("chat:history", {"room": "lobby", "limit": 1})
    ann.request("room:leave", {"room": "lobby"})
    await wait_all_tasks_blocked()
    ann.read()
    assert [ann.replies[id]["seq"] for id in sends] == list(range(1, 21))
    assert ann.replies[history]["messages"] == [] or ann.replies[history]["messages"][0]["seq"] <= 20


async def test_what_is_sent_right_before_the_connection_ends_counts(server: Server) -> None:
    [bob] = await server.join("lobby", "bob")
    ann = server.connect()
    ann.request("hello", {"user": "ann"})
    ann.request("room:join", {"room": "lobby"})
    ann.request("chat:send", {"room": "lobby", "content": "bye"})
    await ann.vanish()
    assert [message["content"] for message in bob.heard("chat:message")] == ["bye"]


async def test_history_pages_both_ways(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    for index in range(25):
        await ann.ask("chat:send", {"room": "lobby", "content": str(index + 1)})

    async def page(**where: int) -> tuple[list[int], bool]:
        answer = await ann.ask("chat:history", {"room": "lobby", "limit": 10, **where})
        return [message["seq"] for message in answer["messages"]], answer["more"]

    assert await page() == (list(range(16, 26)), True)
    assert await page(before=16) == (list(range(6, 16)), True)
    assert await page(before=6) == (list(range(1, 6)), False)
    assert await page(after=0) == (list(range(1, 11)), True)
    assert await page(after=20) == (list(range(21, 26)), False)
    assert await page(after=25) == ([], False)


async def test_edits_deletions_and_reactions_are_told_and_kept(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    for text in ("one", "two"):
        await ann.ask("chat:send", {"room": "lobby", "content": text})
    assert await ann.ask("chat:edit", {"room": "lobby", "seq": 1, "content": "ONE"}) == {}
    assert await bob.ask("chat:react", {"room": "lobby", "seq": 1, "emoji": "👍", "on": True}) == {}
    assert await bob.ask("chat:react", {"room": "lobby", "seq": 1, "emoji": "👍", "on": True}) == {}
    assert await ann.ask("chat:delete", {"room": "lobby", "seq": 2}) == {}
    assert await ann.ask("chat:delete", {"room": "lobby", "seq": 2}) == {}
    [edited] = bob.heard("chat:edited")
    [reacted] = bob.heard("chat:reacted")
    [deleted] = bob.heard("chat:deleted")
    assert (edited["seq"], edited["content"], edited["user"], edited["revision"]) == (1, "ONE", "ann", 3)
    assert (reacted["seq"], reacted["emoji"], reacted["on"], reacted["user"]) == (1, "👍", True, "bob")
    assert (deleted["seq"], deleted["user"]) == (2, "ann")
    one, two = (await bob.ask("chat:history", {"room": "lobby"}))["messages"]
    assert (one["content"], one["reactions"]) == ("ONE", {"👍": ["bob"]})
    assert (two["content"], "deletedAt" in two) == ("", True)


async def test_only_the_author_changes_a_message(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await ann.ask("chat:send", {"room": "lobby", "content": "mine"})
    assert (await bob.ask("chat:edit", {"room": "lobby", "seq": 1, "content": "x"})).code == "not_your_message"
    assert (await bob.ask("chat:delete", {"room": "lobby", "seq": 1})).code == "not_your_message"
    assert (await ann.ask("chat:edit", {"room": "lobby", "seq": 9, "content": "x"})).code == "no_such_message"
    assert (
        await ann.ask("chat:react", {"room": "lobby", "seq": 9, "emoji": "x", "on": True})
    ).code == "no_such_message"


async def test_read_positions_move_forward_and_are_told_when_they_do(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    for text in "abc":
        await ann.ask("chat:send", {"room": "lobby", "content": text})
    for seq in (2, 1, 99):
        assert await bob.ask("chat:read", {"room": "lobby", "seq": seq}) == {}
    assert ann.heard("chat:read") == [
        {"room": "lobby", "user": "bob", "seq": 2},
        {"room": "lobby", "user": "bob", "seq": 3},
    ]


async def test_ephemeral_events_go_to_the_others_at_once(server: Server) -> None:
    ann, bob, cleo = await server.join("lobby", "ann", "bob", "cleo")
    assert await ann.ask("chat:typing", {"room": "lobby", "on": True}) == {}
    assert await ann.ask("media:toggle", {"room": "lobby", "device": "camera", "on": True}) == {}
    assert await ann.ask("media:started", {"room": "lobby"}) == {}
    assert await ann.ask("room:emit", {"room": "lobby", "event": "draw", "data": [1, 2]}) == {}
    assert await ann.ask("signal", {"room": "lobby", "to": "bob", "data": {"sdp": "x"}}) == {}
    for other in (bob, cleo):
        assert other.heard("chat:typing") == [{"room": "lobby", "user": "ann", "on": True}]
        assert other.heard("media:toggled") == [{"room": "lobby", "user": "ann", "device": "camera", "on": True}]
        assert other.heard("media:started") == [{"room": "lobby", "user": "ann"}]
        assert other.heard("room:event") == [{"room": "lobby", "user": "ann", "event": "draw", "data": [1, 2]}]
    assert bob.heard("signal") == [{"room": "lobby", "user": "ann", "data": {"sdp": "x"}}]
    assert cleo.heard("signal") == []
    assert ann.events == []
    late = await server.connect().ask("room:join", {"room": "lobby"})
    assert [member["media"]["camera"] for member in late["members"]] == [True, False, False, False]
    assert (await ann.ask("signal", {"room": "lobby", "to": "zoe", "data": 1})).code == "no_such_member"


async def test_a_created_room_is_found_by_its_code_in_any_case(server: Server) -> None:
    ann, bob = server.connect(), server.connect("catfish.v1.msgpack")
    room = (await ann.ask("room:create", {"kind": "private", "name": "Ours", "capacity": 2}))["room"]
    assert (room["kind"], room["name"], room["capacity"], room["membersCount"], len(room["code"])) == (
        "private",
        "Ours",
        2,
        0,
        6,
    )
    joined = await bob.ask("room:join", {"code": f" {room['code'].upper()} "})
    assert joined["room"]["id"] == room["id"]
    assert (await server.connect().ask("room:join", {"room": room["id"]})).code == "forbidden"
    assert (await ann.ask("room:join", {"room": room["id"]}))["room"]["membersCount"] == 2
    assert (await server.connect().ask("room:join", {"code": room["code"]})).code == "room_full"
    assert (await ann.ask("room:join", {"code": "zzzzzz"})).code == "no_such_code"


async def test_resuming_gives_what_was_missed_and_then_what_comes(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    for text in "abc":
        await ann.ask("chat:send", {"room": "lobby", "content": text})
    assert [message["seq"] for message in bob.heard("chat:message")] == [1, 2, 3]
    await bob.vanish()
    for text in "de":
        await ann.ask("chat:send", {"room": "lobby", "content": text})
    await ann.ask("chat:edit", {"room": "lobby", "seq": 2, "content": "B"})
    back = server.connect()
    await back.ask("hello", {"user": "bob"})
    joined = await back.ask("room:join", {"room": "lobby", "since": 3})
    assert [message["content"] for message in joined["messages"]] == ["d", "e"]
    assert [(message["seq"], message["content"]) for message in joined["changed"]] == [(2, "B")]
    assert (joined["seq"], joined["more"]) == (5, False)
    await ann.ask("chat:send", {"room": "lobby", "content": "f"})
    assert [message["seq"] for message in back.heard("chat:message")] == [6]
    assert ann.heard("room:left") == ann.heard("room:joined") == []


async def test_resuming_in_pages_leaves_nothing_out(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    for index in range(10):
        await ann.ask("chat:send", {"room": "lobby", "content": str(index)})
    back = server.connect()
    joined = await back.ask("room:join", {"room": "lobby", "since": 2, "limit": 3})
    assert ([message["seq"] for message in joined["messages"]], joined["seq"], joined["more"]) == ([3, 4, 5], 10, True)
    page = await back.ask("chat:history", {"room": "lobby", "after": 5, "limit": 200})
    assert ([message["seq"] for message in page["messages"]], page["more"]) == ([6, 7, 8, 9, 10], False)


async def test_live_events_wait_until_the_history_of_a_join_is_out(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    await ann.ask("chat:send", {"room": "lobby", "content": "a"})
    read = trio.Event()
    history = server.store.history

    async def slow_history(*args: object, **where: object) -> object:
        await read.wait()
        return await history(*args, **where)  # type: ignore[arg-type]

    server.store.history = slow_history  # type: ignore[method-assign, assignment]
    bob = server.connect()
    join = bob.request("room:join", {"room": "lobby"})
    await wait_all_tasks_blocked()
    await ann.ask("chat:send", {"room": "lobby", "content": "b"})
    await ann.ask("chat:typing", {"room": "lobby", "on": True})
    assert bob.connection.frames == []
    read.set()
    await wait_all_tasks_blocked()
    bob.read()
    assert bob.order == ["reply 1", "chat:message", "chat:typing"]
    assert [message["seq"] for message in bob.replies[join]["messages"]] == [1]
    assert [message["seq"] for message in bob.heard("chat:message")] == [2]


async def test_a_history_that_cannot_be_read_is_refused_as_retryable_and_joining_again_works(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    await ann.ask("chat:send", {"room": "lobby", "content": "a"})
    bob = server.connect()
    join = bob.request("room:join", {"room": "lobby"})
    server.store.hold()
    await wait_all_tasks_blocked()
    server.store.release()
    history = server.store.history
    server.store.history = _unavailable  # type: ignore[method-assign, assignment]
    await wait_all_tasks_blocked()
    bob.read()
    refusal = bob.replies[join]
    assert (refusal.code, refusal.retry_after_ms) == ("unavailable", 2000)
    server.store.history = history  # type: ignore[method-assign]
    again = await bob.ask("room:join", {"room": "lobby"})
    assert [message["seq"] for message in again["messages"]] == [1]
    assert len(ann.heard("room:joined")) == 1


async def _unavailable(*_: object, **__: object) -> object:
    from catfish.rooms.ports import StoreUnavailable

    raise StoreUnavailable("away")


async def test_two_strangers_are_matched_and_told_so(server: Server) -> None:
    ann, bob = server.connect(), server.connect()
    await ann.ask("hello", {"user": "ann"})
    await bob.ask("hello", {"user": "bob"})
    waiting = await ann.ask("room:match", {"interests": ["fish"]})
    assert (waiting["matched"], waiting["room"]["kind"], waiting["room"]["capacity"]) == (False, "matched", 2)
    assert "peer" not in waiting
    assert await ann.ask("room:match", {}) == waiting
    matched = await bob.ask("room:match", {})
    room = matched["room"]["id"]
    assert (matched["matched"], matched["peer"]["user"], room) == (True, "ann", waiting["room"]["id"])
    ann.read()
    assert ann.order[-2:] == ["room:joined", "room:ready"]
    assert bob.order[-2:] == ["reply 2", "room:ready"]
    assert (await ann.ask("room:match", {})).code == "already_in_room"
    assert (await server.connect().ask("room:join", {"room": room})).code == "forbidden"


async def test_next_leaves_and_the_one_who_stays_waits_again(server: Server) -> None:
    users = []
    for name in ("ann", "bob", "cleo"):
        client = server.connect()
        await client.ask("hello", {"user": name})
        users.append(client)
    ann, bob, cleo = users
    first = await ann.ask("room:match", {})
    await bob.ask("room:match", {})
    await cleo.ask("room:match", {})
    moved = await bob.ask("room:next", {})
    assert (moved["matched"], moved["peer"]["user"]) == (True, "cleo")
    assert ann.heard("room:left") == [{"room": first["room"]["id"], "user": "bob", "reason": "left"}]
    again = await cleo.ask("room:next", {})
    assert (again["matched"], again["peer"]["user"], again["room"]["id"]) == (True, "ann", first["room"]["id"])


async def test_somebody_who_waits_is_better_than_nobody(server: Server) -> None:
    answers = []
    server.store.hold()  # so that two wait before somebody comes
    for name, interests in (("ann", ["chess"]), ("bob", ["Fish", "jazz"]), ("cleo", ["jazz ", "chess", "fish"])):
        client = server.connect()
        await client.ask("hello", {"user": name})
        client.request("room:match", {"interests": interests})
        answers.append(client)
    server.store.release()
    await wait_all_tasks_blocked()
    for client in answers:
        client.read()
    ann, bob, cleo = (client.replies[2] for client in answers)
    # Somebody who waits is better than nobody, so bob got ann although they have nothing in common.
    assert (ann["matched"], bob["peer"]["user"], cleo["matched"]) == (False, "ann", False)


async def test_a_broadcast_is_encoded_once_for_each_codec_and_the_bytes_are_shared(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [server.connect(name) for name in ("catfish.v1.json", "catfish.v1.msgpack") for _ in range(10)]
    for client in clients:
        await client.ask("room:join", {"room": "lobby"})
    for client in clients:
        client.connection.frames.clear()
    rendered: list[Event] = []
    render = native.render

    def counting_render(event: Event) -> tuple[str, object] | None:
        rendered.append(event)
        return render(event)

    monkeypatch.setattr(native, "render", counting_render)
    clients[0].send("room:emit", {"room": "lobby", "event": "e", "data": 1})
    assert len(rendered) == 2
    for group in (clients[1:10], clients[10:]):
        frames = [client.connection.frames[-1] for client in group]
        assert all(frame is frames[0] for frame in frames)


async def test_reading_pauses_while_too_many_requests_wait(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    server.store.hold()
    for index in range(64):
        ann.request("chat:send", {"room": "lobby", "content": str(index)})
    assert ann.connection.paused
    server.store.release()
    await wait_all_tasks_blocked()
    ann.read()
    assert (ann.connection.paused, len(ann.heard("chat:message"))) == (False, 64)


async def test_every_event_of_the_design_has_a_handler_and_every_refusal_a_known_code() -> None:
    assert set(native.HANDLERS) == {
        "hello", "ping", "room:create", "room:join", "room:match", "room:next", "room:leave", "room:members",
        "room:emit", "chat:send", "chat:history", "chat:edit", "chat:delete", "chat:react", "chat:read", "chat:typing",
        "media:toggle", "media:started", "signal",
        *native_moderation.HANDLERS,
    }  # fmt: skip
    assert all(Rejected(code, "").code == code for code in ERROR_CODES)
