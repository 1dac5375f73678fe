"""Every message of a room, once and in order, whatever breaks.

Against a scripted server, over memory streams, in virtual time.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.client import (
    Client,
    ClientClosed,
    Limits,
)
from catfish.client.link import understand_close
from catfish.errors import CLOSES, GOING_AWAY, POLICY_VIOLATION, PROTOCOL_ERROR
from tests.client.fake_server import FakeRoom, FakeServer, FakeSession
from tests.client.helpers import heard, next_event, next_messages, once, open_client, refuse, swallow


async def test_missed_messages_come_in_order_and_once(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for number in range(5):
        server.say(f"old {number}")
    joined = await client.join("lobby")
    assert [message["content"] for message in joined["messages"]] == ["old 2", "old 3", "old 4"]
    server.say("live")
    assert await next_messages(client, 1) == ["live"]
    await server.session.cut()
    for number in range(8):
        server.say(f"missed {number}")
    assert await next_messages(client, 8) == [f"missed {number}" for number in range(8)]
    resumed = await next_event(client)
    assert resumed.name == "client:resumed"
    assert resumed.data["members"][0]["user"] == "u-me"
    server.say("live again")
    assert await next_messages(client, 1) == ["live again"]
    asked = [request for request in server.session.heard if request[0] != "hello"]
    assert asked == [
        ("room:join", {"room": "lobby", "since": 6}),
        ("chat:history", {"room": "lobby", "after": 9}),
        ("chat:history", {"room": "lobby", "after": 12}),
    ]


async def test_messages_that_arrive_while_history_is_read_follow_it(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    await server.session.cut()
    for number in range(7):
        server.say(f"missed {number}")

    def history(session: FakeSession, data: Any) -> Any:
        server.say(f"live {len(server.room().messages)}")
        server.tell("lobby", "chat:typing", {"user": "u-ada", "on": True})
        return server.on_chat_history(session, data)

    server.handlers["chat:history"] = history
    await trio.sleep(5)
    contents, seqs = [], []
    while client.statistics().events_waiting:
        event = await next_event(client)
        contents.append(event.data.get("content", event.name))
        seqs += [event.data["seq"]] if event.name == "chat:message" else []
    assert seqs == list(range(1, 9 + 1))
    assert contents.index("client:resumed") < contents.index("chat:typing")


async def test_what_changed_meanwhile_is_told(autojump_clock: MockClock, server: FakeServer, client: Client) -> None:
    server.say("one")
    await client.join("lobby")
    await server.session.cut()
    server.room().changed.append({**server.room().messages[0], "content": "ONE", "editedAt": 5})
    resumed = await next_event(client, "client:resumed")
    assert [message["content"] for message in resumed.data["changed"]] == ["ONE"]


async def test_what_changed_meanwhile_is_told_although_the_connection_breaks_while_messages_are_read(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.say("one")
    await client.join("lobby")
    await server.session.cut()
    for number in range(7):
        server.say(f"missed {number}")
    server.room().changed.append({**server.room().messages[0], "content": "ONE", "editedAt": 5})
    server.handlers["chat:history"] = once(swallow, server.on_chat_history)
    await trio.sleep(5)
    # The next time the client has newer messages, and is not told of that change again.
    server.room().changed.clear()
    await server.session.cut()
    resumed = await next_event(client, "client:resumed")
    assert [message["content"] for message in resumed.data["changed"]] == ["ONE"]


async def test_messages_that_follow_as_events_are_not_taken_from_history(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.say("one")
    await client.join("lobby")
    await server.session.cut()
    for number in range(4):
        server.say(f"missed {number}")

    def history(session: FakeSession, data: Any) -> Any:
        server.say("live")
        return server.on_chat_history(session, data)

    server.handlers["chat:history"] = history
    assert await next_messages(client, 5) == ["missed 0", "missed 1", "missed 2", "missed 3", "live"]
    assert client.statistics().duplicates == 0


async def test_who_is_moved_to_another_stranger_follows(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.request("room:match", {})
    server.rooms["m-9"] = FakeRoom("m-9", kind="matched")
    server.say("to somebody else", room="m-9", told=False)
    server.tell("m-1", "room:closed", {})
    server.session.rooms.add("m-9")
    server.tell("m-9", "room:joined", {"member": {"user": "u-ada"}})
    server.say("hi", room="m-9")
    names = [await next_event(client) for _ in range(4)]
    assert [event.name for event in names] == ["room:closed", "client:resumed", "room:joined", "chat:message"]
    assert names[-1].data["content"] == "hi"
    assert client.rooms == ("m-9",)
    await server.session.cut()
    server.say("again", room="m-9")
    assert await next_messages(client, 1) == ["again"]


async def test_a_room_that_was_entered_by_code_is_entered_by_code_again(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.rooms["r-den"] = FakeRoom("r-den", kind="private", code="k7m2qa")
    await client.join(code="k7m2qa")
    await client.join("lobby")
    await server.session.cut()
    await next_event(client, "client:resumed")
    assert ("room:join", {"code": "k7m2qa", "since": 0}) in server.session.heard


async def test_a_room_that_does_not_let_the_user_back_in_is_told_of(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    await client.join("other")
    server.handlers["room:join"] = lambda session, data: (
        refuse("room_closed")(session, data) if data["room"] == "lobby" else server.on_room_join(session, data)
    )
    await server.session.cut()
    refused = await next_event(client, "client:refused")
    assert refused.data == {"room": "lobby", "code": "room_closed", "message": "refused with room_closed"}
    assert client.rooms == ("other",)


async def test_a_room_that_has_no_time_is_asked_again(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    server.handlers["room:join"] = once(refuse("busy", 4_000), server.on_room_join)
    await server.session.cut()
    server.say("missed")
    assert await next_messages(client, 1) == ["missed"]
    assert server.session.heard[1:] == [("room:join", {"room": "lobby", "since": 0})] * 2


async def test_another_room_with_the_same_id_is_read_from_its_beginning(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for number in range(3):
        server.say(f"old {number}")
    await client.join("lobby")
    await server.session.cut()
    server.rooms["lobby"] = FakeRoom("lobby", created_at=2_000)
    server.say("new 0")
    assert (await next_event(client, "client:reset")).data == {"room": "lobby"}
    assert await next_messages(client, 1) == ["new 0"]


async def test_rooms_that_were_left_or_closed_are_not_entered_again(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for room in ("left", "closed", "kicked", "stays"):
        await client.join(room)
    await client.leave("left")
    server.tell("closed", "room:closed", {})
    server.tell("kicked", "room:left", {"user": "u-me", "reason": "kicked"})
    server.tell("stays", "room:left", {"user": "u-ada", "reason": "left"})
    for _ in range(3):
        await next_event(client)
    assert client.rooms == ("stays",)
    await server.session.cut()
    await next_event(client, "client:resumed")
    assert heard(server.session) == ["hello", "room:join"]


async def test_leaving_that_was_cut_off_is_not_undone_by_coming_back(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    server.handlers["room:leave"] = once(swallow, server.on_room_leave)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.leave, "lobby")
        await wait_all_tasks_blocked()
        await server.session.cut()
    assert client.rooms == ()
    assert heard(server.session) == ["hello", "room:leave"]


async def test_matching_moves_the_client_from_one_stranger_to_the_next(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    assert (await client.match())["matched"] is False
    assert client.rooms == ("lobby", "m-1")
    assert (await client.next())["matched"] is True
    assert client.rooms == ("lobby", "m-2")
    server.say("hi", room="m-2")
    assert await next_messages(client, 1) == ["hi"]


async def test_a_join_since_a_message_reads_on_by_itself(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for number in range(10):
        server.say(f"m{number}")
    joined = await client.join("lobby", since=2)
    assert [message["seq"] for message in joined["messages"]] == [3, 4, 5]
    server.say("m10")
    assert await next_messages(client, 6) == [f"m{number}" for number in range(5, 11)]


async def test_a_join_that_was_cancelled_leaves_the_client_outside(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["room:join"] = once(swallow, server.on_room_join)
    with trio.move_on_after(1):
        await client.join("lobby")
    server.session.rooms.add("lobby")
    server.say("not for you")
    assert client.rooms == ()
    joined = await client.join("lobby")
    server.say("for you")
    assert joined["seq"] == 1
    assert await next_messages(client, 1) == ["for you"]
    assert client.statistics().events_dropped == 1


async def test_duplicates_are_dropped_and_messages_that_are_not_stored_are_not(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    server.say("one")
    for message in (server.room().messages[0], {**server.room().messages[0], "seq": 0, "id": 0, "content": "fleeting"}):
        server.tell("lobby", "chat:message", message)
        server.tell("lobby", "chat:message", message)
    server.say("two")
    assert await next_messages(client, 4) == ["one", "fleeting", "fleeting", "two"]
    assert client.statistics().duplicates == 2


async def test_a_gap_is_filled_before_what_follows_it(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    server.say("one")
    for number in range(6):
        server.say(f"lost {number}", told=False)
    server.say("after")
    server.tell("lobby", "chat:typing", {"user": "u-ada", "on": True})
    assert await next_messages(client, 8) == ["one", *(f"lost {number}" for number in range(6)), "after"]
    assert [(await next_event(client)).name for _ in range(2)] == ["client:resumed", "chat:typing"]
    assert client.statistics().catch_ups == 1


async def test_a_user_who_lags_behind_misses_no_message(autojump_clock: MockClock, server: FakeServer) -> None:
    async with open_client(server, limits=Limits(events_max=4, held_max=3)) as client:
        await client.join("lobby")
        for number in range(50):
            server.say(f"m{number}")
            server.tell("lobby", "chat:typing", {"user": "u-ada", "on": True})
        await wait_all_tasks_blocked()
        assert client.statistics().events_waiting == 4
        assert await client.request("ping", "still answered") == "still answered"
        contents: list[str] = []
        resumed = 0
        while len(contents) < 51 or resumed < 2:
            event = await next_event(client)
            resumed += event.name == "client:resumed"
            if event.name == "chat:message":
                contents.append(event.data["content"])
                if len(contents) == 20:
                    await client.send("lobby", "m50")
        assert contents == [f"m{number}" for number in range(51)]
        assert 0 < client.statistics().events_dropped <= 50


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_breaks_every_message_comes_once_and_in_order(
    autojump_clock: MockClock, server: FakeServer, seed: int
) -> None:
    rng = random.Random(seed)
    limits = Limits(events_max=rng.choice([1, 5, 1000]), held_max=rng.choice([1, 4, 256]))
    seen: list[int] = []
    async with open_client(server, limits=limits) as client, trio.open_nursery() as nursery:
        await client.join("lobby")

        @nursery.start_soon
        async def _() -> None:
            async for event in client.events:
                if event.name == "chat:message":
                    seen.append(event.data["seq"])
                await trio.sleep(rng.choice([0, 0, 0.01, 0.3]))

        for _step in range(120):
            match rng.choice(["cut", "wait", "lose", "repeat", "send", "say", "say", "say", "say"]):
                case "cut":
                    await server.session.cut()
                case "wait":
                    await trio.sleep(rng.random() * 2)
                case "lose":
                    server.say("lost on the way", told=False)
                case "repeat" if server.room().messages:
                    server.tell("lobby", "chat:message", rng.choice(server.room().messages))
                case "send":
                    nursery.start_soon(client.send, "lobby", "from me")
                    await trio.lowlevel.checkpoint()
                case _:
                    server.say("hello")
        await trio.sleep(60)
        server.say("last")
        await trio.sleep(60)
        assert seen == list(range(1, len(server.room().messages) + 1))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("event", "data"), [("chat:message", {"room": "lobby"}), ("chat:message", {"room": "lobby", "seq": -1})]
)
async def test_a_server_that_breaks_the_protocol_ends_the_client(
    autojump_clock: MockClock, server: FakeServer, client: Client, event: str, data: Any
) -> None:
    await client.join("lobby")
    server.session.tell(event, data)
    with pytest.raises(ClientClosed) as caught:
        await next_event(client)
    assert caught.value.close.code == PROTOCOL_ERROR.code
    await wait_all_tasks_blocked()
    said = server.session.closed
    assert said is not None
    assert said[0] == PROTOCOL_ERROR.code


@pytest.mark.parametrize("reply", [None, {}, {"room": {}}, {"room": {"id": "x"}, "messages": [], "members": []}])
async def test_a_reply_that_is_none_ends_the_client_and_wakes_the_caller(
    autojump_clock: MockClock, server: FakeServer, client: Client, reply: Any
) -> None:
    server.handlers["room:join"] = lambda session, data: reply
    with pytest.raises(ClientClosed) as caught:
        await client.join("lobby")
    assert caught.value.close.code == PROTOCOL_ERROR.code


async def test_history_that_promises_more_without_an_end_ends_the_client(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    for number in range(5):
        server.say(f"lost {number}", told=False)
    server.handlers["chat:history"] = lambda session, data: {"messages": [], "more": True}
    server.say("after")
    with pytest.raises(ClientClosed):
        await next_event(client, "never")


async def test_events_wait_in_a_bounded_buffer_and_the_rest_is_counted(
    autojump_clock: MockClock, server: FakeServer
) -> None:
    async with open_client(server, limits=Limits(events_max=2)) as client:
        for number in range(5):
            server.session.tell("news", {"number": number})
        await client.request("ping")
        assert client.statistics().events_dropped == 3
        assert [(await next_event(client)).data["number"] for _ in range(2)] == [0, 1]


async def test_close_codes_mean_what_the_servers_table_says() -> None:
    for close in CLOSES:
        assert understand_close(close.code, "") == close
    assert understand_close(GOING_AWAY.code, "why").reason == "why"
    assert not understand_close(POLICY_VIOLATION.code, "").reconnect
    assert understand_close(1006, "").reconnect
    assert understand_close(3999, "").reconnect
