"""What the native protocol refuses, and that nothing is lost by it."""

from __future__ import annotations

import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import ERROR_CODES, UNSUPPORTED_DATA
from catfish.wire.native import Refusal
from tests.server.harness import Server, start_server


@pytest.fixture
async def server(nursery: trio.Nursery, autojump_clock: MockClock) -> Server:
    return await start_server(nursery)


@pytest.mark.parametrize(
    ("event", "data", "code", "field"),
    [
        ("no:such", {}, "unknown_event", ""),
        ("room:join", {}, "bad_request", "room"),
        ("room:join", {"room": "a", "code": "b"}, "bad_request", "room"),
        ("room:join", {"room": 7}, "bad_request", "room"),
        ("room:join", {"room": ""}, "bad_request", "room"),
        ("room:join", {"room": "a", "colour": 1}, "bad_request", "colour"),
        ("room:join", {"room": "a", "since": -1}, "bad_request", "since"),
        ("room:join", {"room": "a", "limit": 201}, "bad_request", "limit"),
        ("room:join", "lobby", "bad_request", "data"),
        ("room:leave", {"room": "elsewhere"}, "not_in_room", "room"),
        ("room:create", {"kind": "secret"}, "bad_request", "kind"),
        ("room:create", {"capacity": 0}, "bad_request", "capacity"),
        ("room:match", {"interests": ["x"] * 17}, "bad_request", "interests"),
        ("chat:send", {"room": "lobby"}, "bad_request", "content"),
        ("chat:send", {"room": "lobby", "content": ""}, "bad_request", "content"),
        ("chat:send", {"room": "lobby", "content": "x" * 5001}, "bad_request", "content"),
        ("chat:send", {"room": "lobby", "content": "a\0b"}, "bad_request", "content"),
        ("chat:send", {"room": "lobby", "content": "a", "replyTo": 5}, "no_such_message", "replyTo"),
        ("chat:send", {"room": "lobby", "content": "a", "data": "x" * 70_000}, "bad_request", "data"),
        ("chat:send", {"room": "elsewhere", "content": "a"}, "not_in_room", "room"),
        ("chat:history", {"room": "lobby", "before": 1, "after": 1}, "bad_request", "before"),
        ("chat:history", {"room": "lobby", "before": 0}, "bad_request", "before"),
        ("chat:react", {"room": "lobby", "seq": 1, "emoji": "", "on": True}, "bad_request", "emoji"),
        ("chat:typing", {"room": "lobby", "on": "yes"}, "bad_request", "on"),
        ("media:toggle", {"room": "lobby", "device": "toaster", "on": True}, "bad_request", "device"),
        ("room:emit", {"room": "lobby", "event": ""}, "bad_request", "event"),
        ("room:emit", {"room": "lobby", "event": "x", "data": "x" * 70_000}, "bad_request", "data"),
        ("signal", {"room": "lobby", "to": "nobody", "data": 1}, "no_such_member", ""),
        ("hello", {"token": "x.y.z"}, "unauthorized", "token"),
        ("hello", {"user": "somebody-else"}, "forbidden", "user"),
    ],
)
async def test_a_bad_request_is_refused_with_a_code_and_the_field_and_loses_nothing(
    server: Server, event: str, data: object, code: str, field: str
) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    refusal = await ann.ask(event, data)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert code in ERROR_CODES
    assert field in refusal.message
    assert bob.events == []
    assert ann.connection.close_called is None
    await ann.ask("chat:send", {"room": "lobby", "content": "still here"})
    assert len(bob.heard("chat:message")) == 1


async def test_a_refusal_of_a_request_without_id_comes_as_an_error_event(server: Server) -> None:
    ann = server.connect()
    ann.send("room:leave", {"room": "x"})
    ann.raw("not json")
    ann.raw('["ping"]')
    ann.raw('{"event":"ping"}')
    ann.raw('["ping",1,0]')
    await wait_all_tasks_blocked()
    ann.read()
    assert [(error.code, error.event) for error in ann.errors] == [
        ("not_in_room", "room:leave"),
        ("bad_envelope", None),
        ("bad_envelope", None),
        ("bad_envelope", None),
        ("bad_envelope", None),
    ]
    assert await ann.ask("ping", 1) == 1


async def test_the_wrong_kind_of_message_closes_also_behind_a_waiting_request(server: Server) -> None:
    ann, bob = server.connect(), server.connect()
    ann.raw(b"\x93")
    assert ann.connection.close_called is not None
    assert ann.connection.close_called.code == UNSUPPORTED_DATA.code
    bob.request("room:join", {"room": "lobby"})
    bob.raw(b"\x93")
    await wait_all_tasks_blocked()
    assert bob.connection.close_called is not None
    assert bob.connection.close_called.code == UNSUPPORTED_DATA.code


async def test_what_came_behind_a_broken_message_is_dropped_and_the_session_ends(server: Server) -> None:
    [ann] = await server.join("lobby", "ann")
    bob = server.connect()
    bob.request("room:join", {"room": "lobby"})
    bob.raw(b"\x93")
    for _ in range(10):
        bob.request("chat:send", {"room": "lobby", "content": "never"})
    with trio.fail_after(5):
        await wait_all_tasks_blocked()
        await bob.vanish()
    assert server.instance.sessions == {ann.session}
    assert ann.heard("chat:message") == []


async def test_a_token_is_required_where_the_settings_say_so(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    secret = "a secret of more than thirty-two bytes, for HS256"
    server = await start_server(nursery, auth="required", jwt_secret=secret)
    ann = server.connect()
    assert (await ann.ask("room:join", {"room": "lobby"})).code == "unauthorized"
    assert await ann.ask("ping", 1) == 1
    assert (await ann.ask("hello", {"user": "ann"})).code == "unauthorized"
    for bad in (
        jwt.encode({"sub": "ann"}, "another secret of more than thirty-two bytes"),
        jwt.encode({"sub": "ann", "exp": 1}, secret),
        jwt.encode({"name": "nobody"}, secret),
        jwt.encode({"sub": "ann"}, "", algorithm="none"),
        "x",
    ):
        assert (await ann.ask("hello", {"token": bad})).code == "unauthorized"
    good = jwt.encode({"id": 17, "name": "Ann"}, secret)
    assert (await ann.ask("hello", {"token": good, "user": "bob"})).code == "bad_request"
    welcome = await ann.ask("hello", {"token": good})
    assert (welcome["user"], welcome["name"]) == ("17", "Ann")
    assert (await ann.ask("room:join", {"room": "lobby"}))["members"][0]["user"] == "17"


async def test_too_many_rooms_are_refused(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    server = await start_server(nursery, rooms_per_session_max=2)
    ann = server.connect()
    for room in "ab":
        await ann.ask("room:join", {"room": room})
    assert (await ann.ask("room:join", {"room": "c"})).code == "too_many_rooms"
    assert (await ann.ask("room:match", {})).code == "too_many_rooms"
    assert (await ann.ask("room:join", {"room": "a"}))["room"]["id"] == "a"
