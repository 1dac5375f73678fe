"""Requests and replies, on one connection and over several.

Against a scripted server, over memory streams, in virtual time.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.client import (
    Client,
    ClientClosed,
    ConnectionLost,
    Event,
    Limits,
    Rejected,
    State,
)
from tests.client.fake_server import NO_REPLY, FakeServer, FakeSession
from tests.client.helpers import heard, next_event, next_messages, once, open_client, refuse, swallow


async def test_a_refusal_is_raised_with_its_code(autojump_clock: MockClock, server: FakeServer, client: Client) -> None:
    server.handlers["room:create"] = refuse("busy", 250)
    with pytest.raises(Rejected) as caught:
        await client.create(kind="private")
    assert (caught.value.code, caught.value.retry_after_ms) == ("busy", 250)


async def test_the_late_reply_to_a_cancelled_request_is_dropped(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["ping"] = once(swallow, server.on_ping)
    with trio.move_on_after(1) as patience:
        await client.request("ping", 1)
    assert patience.cancelled_caught
    server.session.put(client._codec.encode_reply(2, "late"))
    assert await client.request("ping", 2) == 2
    assert client.statistics().late_replies == 1
    assert client.statistics().requests_waiting == 0


async def test_further_requests_than_allowed_wait_for_their_turn(autojump_clock: MockClock, server: FakeServer) -> None:
    server.handlers["ping"] = swallow
    async with open_client(server, limits=Limits(requests_max=2)) as client, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(client.request, "ping", number)
            await wait_all_tasks_blocked()
        assert [data for _, data in server.session.heard[1:]] == [0, 1]
        server.session.put(client._codec.encode_reply(2, None))
        await wait_all_tasks_blocked()
        assert [data for _, data in server.session.heard[1:]] == [0, 1, 2]
        nursery.cancel_scope.cancel()


async def test_every_method_asks_for_what_the_protocol_describes(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.create(kind="private", name="Den", capacity=4)
    await client.join("lobby", limit=5)
    await client.match(["go"])
    await client.next()
    await client.members("lobby")
    await client.emit("lobby", "wave", {"x": 1})
    sent = await client.send("lobby", "hi", reply_to=1, data={"y": 2}, client_id="c")
    await client.history("lobby", before=9, limit=2)
    await client.edit("lobby", 1, "ho")
    await client.delete("lobby", 1)
    await client.react("lobby", 1, "👍", False)
    await client.read("lobby", 1)
    assert client.typing("lobby")
    await client.toggle("lobby", "mic", True)
    await client.signal("lobby", "u-eve", {"sdp": ""})
    await client.leave("lobby")
    await client.leave("lobby")
    assert sent == {"seq": 1, "id": 101, "createdAt": 1_700_000_000_001}
    assert server.session.heard[1:] == [
        ("room:create", {"kind": "private", "name": "Den", "capacity": 4}),
        ("room:join", {"room": "lobby", "limit": 5}),
        ("room:match", {"interests": ["go"]}),
        ("room:next", {}),
        ("room:members", {"room": "lobby"}),
        ("room:emit", {"room": "lobby", "event": "wave", "data": {"x": 1}}),
        ("chat:send", {"room": "lobby", "content": "hi", "clientId": "c", "replyTo": 1, "data": {"y": 2}}),
        ("chat:history", {"room": "lobby", "before": 9, "limit": 2}),
        ("chat:edit", {"room": "lobby", "seq": 1, "content": "ho"}),
        ("chat:delete", {"room": "lobby", "seq": 1}),
        ("chat:react", {"room": "lobby", "seq": 1, "emoji": "👍", "on": False}),
        ("chat:read", {"room": "lobby", "seq": 1}),
        ("chat:typing", {"room": "lobby", "on": True}),
        ("media:toggle", {"room": "lobby", "device": "mic", "on": True}),
        ("signal", {"room": "lobby", "to": "u-eve", "data": {"sdp": ""}}),
        ("room:leave", {"room": "lobby"}),
        ("room:leave", {"room": "lobby"}),
    ]
    assert client.rooms == ("m-2",)


async def test_an_error_without_a_request_is_an_event(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.session.put(client._codec.encode_refusal(None, Rejected("not_in_room", "no"), "chat:typing"))
    event = await next_event(client)
    assert event == Event("error", {"code": "not_in_room", "message": "no", "event": "chat:typing"})


async def test_an_unacknowledged_message_is_sent_again_with_its_client_id(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")

    def stored_but_not_told(session: FakeSession, data: Any) -> Any:
        server.on_chat_send(session, data)
        return NO_REPLY

    server.handlers["chat:send"] = once(stored_but_not_told, server.on_chat_send)
    sent: list[Any] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            sent.append(await client.send("lobby", "once"))

        await wait_all_tasks_blocked()
        await server.session.cut()
    assert sent[0]["seq"] == 1
    assert [message["content"] for message in server.room().messages] == ["once"]
    first, second = [dict(session.heard)["chat:send"] for session in server.all_sessions]
    assert first == second
    assert heard(server.session) == ["hello", "room:join", "chat:send"]
    assert await next_messages(client, 1) == ["once"]
    server.say("next")
    assert await next_messages(client, 1) == ["next"]


async def test_what_was_asked_for_meanwhile_is_sent_in_order_after_coming_back(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    await server.session.cut()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(client.send, "lobby", f"m{number}")
            await wait_all_tasks_blocked(0)
            assert client.state is State.RECONNECTING
    assert heard(server.session) == ["hello", "room:join"] + ["chat:send"] * 5
    assert [message["content"] for message in server.room().messages] == [f"m{number}" for number in range(5)]


async def test_a_request_that_may_not_be_repeated_fails_when_its_fate_is_unknown(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["room:create"] = once(swallow, server.on_room_create)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            with pytest.raises(ConnectionLost):
                await client.create()

        await wait_all_tasks_blocked()
        await server.session.cut()
    await next_event(client, "client:open")
    assert heard(server.session) == ["hello"]
    assert (await client.create())["id"] == "created"


async def test_a_request_that_a_draining_server_refused_goes_to_the_next(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["room:create"] = once(refuse("draining"), server.on_room_create)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert (await client.create())["id"] == "created"

        await wait_all_tasks_blocked()
        await server.session.close(1012)
    assert heard(server.session) == ["hello", "room:create"]


@pytest.mark.parametrize("code", ["busy", "unavailable", "rate_limited"])
async def test_sending_goes_on_until_the_message_is_stored(
    autojump_clock: MockClock, server: FakeServer, client: Client, code: str
) -> None:
    await client.join("lobby")
    server.handlers["chat:send"] = once(refuse(code, 2_000), server.on_chat_send)
    begun = trio.current_time()
    await client.send("lobby", "patience")
    assert trio.current_time() - begun == pytest.approx(2)
    assert len({data["clientId"] for event, data in server.session.heard if event == "chat:send"}) == 1


async def test_a_cancelled_request_is_not_sent_later(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await client.join("lobby")
    server.down = True
    await server.session.cut()
    with trio.move_on_after(1):
        await client.send("lobby", "never mind")
    server.down = False
    await next_event(client, "client:resumed")
    await client.request("ping")
    assert heard(server.session) == ["hello", "room:join", "ping"]


async def test_closing_wakes_whoever_waits(autojump_clock: MockClock, server: FakeServer) -> None:
    server.handlers["ping"] = swallow
    async with trio.open_nursery() as nursery, open_client(server) as client:

        @nursery.start_soon
        async def _() -> None:
            with pytest.raises(ClientClosed):
                await client.request("ping")

        @nursery.start_soon
        async def _() -> None:
            assert [event async for event in client.events] == []

        await wait_all_tasks_blocked()
        await client.aclose()
