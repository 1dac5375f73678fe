"""What sessions are told when they do too much, in every vocabulary, and what that costs those who do not."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.config import Settings
from catfish.contracts import pulsechat
from catfish.errors import RATE_LIMITED, Rejected
from catfish.rooms.events import LimitsSpent
from catfish.server.instance import Instance
from catfish.server.limits import SHARE_S, Limits, retry_after_s
from catfish.wire.http import HttpRefusal
from catfish.wire.native import Refusal
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server
from tests.server.test_vocabularies import SECRET, Socket, open_world

NOBODY: Any = {"limits_exempt": ()}
PROXIED = {"x-forwarded-for": "203.0.113.9"}


def setting_of(name: str, value: str) -> Any:
    return {name: value}


def refused(answer: Any, retry_after_ms: int | None = None) -> bool:
    if not isinstance(answer, Refusal) or answer.code != "rate_limited":
        return False
    assert answer.retry_after_ms
    assert retry_after_ms is None or answer.retry_after_ms == retry_after_ms
    return True


async def connect(server: Server, user: str | None = None, address: str = "unix") -> Client:
    """A client from somewhere."""
    server.next_address = address
    client = server.connect()
    if user is not None:
        assert not isinstance(await client.ask("hello", {"user": user}), Refusal)
    return client


async def test_a_client_of_this_machine_has_no_meter(nursery: trio.Nursery) -> None:
    server = await start_server(nursery)
    assert (await connect(server)).session.participant.meter is None
    assert (await connect(server, address="127.0.0.1")).session.participant.meter is None
    assert (await connect(server, address="203.0.113.9")).session.participant.meter is not None


def test_who_comes_through_a_proxy_that_nobody_named_is_limited_but_not_by_its_address() -> None:
    limits = Limits(Settings(limit_sending_address="1/1", limit_sending_connection="1/2"), clock=lambda: 0.0)
    for _ in range(3):
        meter = limits.meter("127.0.0.1", PROXIED)
        assert meter is not None
        meter.check("sending")
        meter.check("sending")
        with pytest.raises(Rejected):
            meter.check("sending")


async def test_events_beyond_the_limit_are_refused_and_say_when_to_come_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, **NOBODY, limit_events_connection="2/4")
    client = await connect(server)
    answers = [await client.ask("ping", number) for number in range(6)]
    assert answers[:4] == [0, 1, 2, 3]
    assert refused(answers[4], 500)
    assert refused(answers[5], 1_000), "behind the one before"
    await trio.sleep(0.5)
    assert await client.ask("ping", "again") == "again"
    assert refused(await client.ask("ping"))
    assert server.instance.limits.refused == {"events": 3}
    client.send("ping")
    client.raw("no envelope")
    client.read()
    assert [error.code for error in client.errors] == ["rate_limited", "bad_envelope"]


@pytest.mark.parametrize(
    ("setting", "requests"),
    [
        ("sending", [("chat:send", {"room": "r", "content": "x"})]),
        ("sending", [("chat:edit", {"room": "r", "seq": 1, "content": "y"})]),
        ("sending", [("chat:react", {"room": "r", "seq": 1, "emoji": "+", "on": True})]),
        ("joining", [("room:join", {"room": "r"})]),
        ("joining", [("room:create", {})]),
        ("matching", [("room:match", {}), ("room:next", {})]),
    ],
)
@pytest.mark.parametrize("scope", ["connection", "user", "address"])
async def test_each_kind_of_request_has_a_limit_of_each_scope(
    setting: str, requests: list[tuple[str, Any]], scope: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, **NOBODY, **setting_of(f"limit_{setting}_{scope}", "1/4"))
    one = await connect(server, "ann", "203.0.113.1")
    await one.ask("room:join", {"room": "r"})
    await one.ask("chat:send", {"room": "r", "content": "x"})
    answers = [await one.ask(*request) for _ in range(5) for request in requests]
    assert any(refused(answer) for answer in answers)
    assert refused(answers[-1])

    same_user = await connect(server, "ann", "203.0.113.2")
    same_address = await connect(server, "bob", "203.0.113.1")
    stranger = await connect(server, "eve", "203.0.113.3")
    event, data = requests[0]
    for client in (same_user, same_address, stranger):
        if setting == "sending":
            await client.ask("room:join", {"room": "r"})
    assert refused(await same_user.ask(event, data)) is (scope == "user")
    assert refused(await same_address.ask(event, data)) is (scope == "address")
    assert not refused(await stranger.ask(event, data))
    await trio.sleep(10)
    assert not refused(await one.ask(event, data))


async def test_reading_marks_are_no_messages(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, **NOBODY, limit_sending_connection="0.001/1")
    client = await connect(server, "ann")
    await client.ask("room:join", {"room": "r"})
    await client.ask("chat:send", {"room": "r", "content": "x"})
    for _ in range(3):
        assert await client.ask("chat:read", {"room": "r", "seq": 1}) == {}


async def test_who_becomes_somebody_again_and_again_is_refused(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, **NOBODY, limit_connecting_user="0.1/2")
    clients = [await connect(server) for _ in range(3)]
    answers = [await client.ask("hello", {"user": "ann"}) for client in clients]
    assert [refused(answer) for answer in answers] == [False, False, True]
    assert not refused(await clients[0].ask("hello", {"user": "ann", "name": "Ann"})), "it is that user already"
    assert not refused(await clients[2].ask("hello", {"user": "bob"}))


async def test_a_token_in_the_address_that_comes_too_often_may_come_again_on_the_same_connection(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, **NOBODY, limit_connecting_user="1/1", jwt_secret=SECRET)
    token = jwt.encode({"sub": "ann"}, SECRET, algorithm="HS256")
    server.connect(target=f"/ws?token={token}")
    await wait_all_tasks_blocked()
    client = server.connect(target=f"/ws?token={token}")
    await wait_all_tasks_blocked()
    client.read()
    assert [(error.code, error.retry_after_ms) for error in client.errors] == [("rate_limited", 1_000)]
    assert client.connection.close_called is None
    await trio.sleep(1)
    assert (await client.ask("hello", {"token": token}))["user"] == "ann"


async def test_sustained_abuse_closes_the_connection(nursery: trio.Nursery) -> None:
    server = await start_server(
        nursery, **NOBODY, limit_events_connection="0.001/1", limit_refused_connection="0.001/3"
    )
    client = await connect(server)
    closes = []
    for _ in range(5):
        client.send("ping")
        closes.append(client.connection.close_called)
    assert closes == [None, None, None, None, RATE_LIMITED]
    assert server.instance.limits.statistics().cut == 1


async def test_a_limit_can_be_switched_off(nursery: trio.Nursery) -> None:
    off: Any = {f"limit_events_{scope}": "off" for scope in ("connection", "user", "address")}
    server = await start_server(nursery, **NOBODY, **off)
    client = await connect(server)
    for _ in range(2_000):
        client.send("ping", None, 1)
    client.read()
    assert client.errors == []
    assert server.instance.limits.refused == {}


async def test_what_sessions_hold_is_given_back(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, **NOBODY)
    clients = [await connect(server, f"user {index}", f"203.0.113.{index}") for index in range(5)]
    for client in clients:
        await client.ask("room:join", {"room": "r"})
    limits = server.instance.limits
    assert limits.statistics().kept >= 5
    for client in clients:
        await client.vanish()
    held = [buckets._held for buckets in limits._shared.values()]
    assert not any(held)


def test_handshakes_beyond_the_limit_are_refused_with_a_time() -> None:
    limits = Limits(Settings(limit_connecting_address="0.5/2"), clock=lambda: 0.0)
    for _ in range(2):
        limits.refuse_handshake("203.0.113.9", {})
        limits.refuse_handshake("203.0.113.8", {})
    with pytest.raises(HttpRefusal) as caught:
        limits.refuse_handshake("203.0.113.9", {})
    assert (caught.value.status, caught.value.headers) == (429, (("Retry-After", "2"),))
    assert caught.value.text == "Too many connections in a short time."
    assert limits.admit_request("203.0.113.9", {}, True) == 2
    assert limits.admit_request("203.0.113.9", {}, False) == 0
    for _ in range(5):
        limits.refuse_handshake("127.0.0.1", {})


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    limits = Limits(Settings(limit_connecting_address="0.5/2"), clock=lambda: 0.0)
    limits.refuse_handshake("2001:db8::1", {})
    limits.refuse_handshake("2001:db8::2", {})
    limits.refuse_handshake("2001:db8:0:1::1", {})
    with pytest.raises(HttpRefusal):
        limits.refuse_handshake("2001:db8::3", {})


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(None, 1), (1, 1), (1_000, 1), (1_001, 2)])
def test_http_knows_whole_seconds(retry_after_ms: int | None, seconds: int) -> None:
    assert retry_after_s(Rejected("rate_limited", "", retry_after_ms)) == seconds


# Socket.IO


async def ask(socket: Socket, event: str, *args: Any) -> Any:
    """The acknowledgement of an event; None when there is none."""
    socket.emit(event, *args, id=1)
    for packet in await socket.packets():
        if packet.startswith("431["):
            return msgspec.json.decode(packet[3:])
    return None


@pytest.mark.parametrize(
    ("event", "data", "shape"),
    [
        (
            "joinRoom",
            {"roomId": "red", "userId": "ann"},
            [{"ok": False, "error": "too many rooms in a short time", "code": "rate_limited"}],
        ),
        (
            "room:join",
            {"code": "ABC234", "nickname": "Ann"},
            [{"ok": False, "error": "too many rooms in a short time"}],
        ),
        ("join_room", {"userId": "ann", "username": "Ann", "roomId": "red"}, None),
    ],
)
async def test_each_vocabulary_tells_of_it_in_its_own_way(
    event: str, data: Any, shape: Any, nursery: trio.Nursery
) -> None:
    world = await open_world(nursery, **NOBODY, limit_joining_connection="0.001/1")
    socket = await world.connect()
    args = [] if data is None else [data]
    await ask(socket, event, *args)
    answer = await ask(socket, event, *args)
    assert world.server.instance.limits.refused == {"joining": 1}
    assert world.server.instance.refusals["rate_limited"] == 1
    if shape is not None:
        assert answer == shape


def test_pulsechat_has_a_status_for_it() -> None:
    answers: list[Any] = []
    pulsechat.refuse(Rejected("rate_limited", "too many messages in a short time", 500), answers.append)
    assert answers == [{"message": "too many messages in a short time", "status": 429}]


async def test_events_are_refused_before_they_are_looked_at(nursery: trio.Nursery) -> None:
    world = await open_world(nursery, **NOBODY, limit_events_connection="0.001/3", limit_refused_connection="0.001/2")
    socket = await world.connect()  # to connect is the first
    assert (await ask(socket, "joinRoom", {"roomId": "red", "userId": "ann"}))[0]["ok"]
    assert await ask(socket, "ping", 5) == [5]
    answer = await ask(socket, "sendMessage", {"roomId": "red", "content": "x"})
    assert answer == [{"ok": False, "error": "too many events in a short time", "code": "rate_limited"}]
    assert await ask(socket, "ping", 5) == answer
    assert socket.connection.close_called is None
    assert await ask(socket, "ping", 5) is None
    assert socket.connection.close_called == RATE_LIMITED


async def test_all_sockets_of_a_connection_share_its_buckets(nursery: trio.Nursery) -> None:
    world = await open_world(nursery, **NOBODY, limit_events_connection="0.001/3", socketio_namespaces=("/", "/a"))
    socket = await world.connect()
    socket.send("40/a,")
    socket.emit("no-such-event")
    socket.send("40/b,")
    socket.send("41/a,")
    socket.send("40/a,")
    packets = await socket.packets()
    assert packets[-1].startswith('44/a,{"message":"rate_limited","data":{"code":"rate_limited",')
    assert '"retryAfterMs":' in packets[-1]


async def test_a_session_that_was_not_admitted_leaves_nothing_behind(nursery: trio.Nursery) -> None:
    world = await open_world(nursery, auth="required", jwt_secret=SECRET)
    for auth in (None, {"token": "nonsense"}):
        socket = await world.connect(auth)
        assert (await socket.packets())[-1].startswith("44")
    assert world.server.instance.users._sessions == {}


# Other instances


class Wire:
    """A mirror that hands everything to another instance."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.to: Instance | None = None

    def publish(self, number: int, event: Any, to: str | None = None) -> None:
        self.sent.append(event)
        if self.to is not None:
            self.to.supervisor.mirrored(number, event, to)


async def test_users_and_addresses_are_limited_across_instances(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    servers = []
    wires = [Wire(), Wire()]
    for wire in wires:
        server = Server(nursery, MemoryStore(), Settings(**NOBODY, limit_sending_user="0.01/20"))
        server.instance.supervisor.mirror = wire
        servers.append(server)
    wires[0].to, wires[1].to = servers[1].instance, servers[0].instance
    for server in servers:
        nursery.start_soon(server.instance._share_limits)
    await wait_all_tasks_blocked()
    here, there = (server.instance.limits.meter("203.0.113.9", {}) for server in servers)
    assert here is not None
    assert there is not None
    for meter in (here, there):
        meter.rename("ann")
    for _ in range(15):
        here.check("sending")
    await trio.sleep(2 * SHARE_S)
    (told,) = [event for event in wires[0].sent if isinstance(event, LimitsSpent)]
    assert told.spent == {"sending:user:ann": 15}
    for _ in range(5):
        there.check("sending")
    with pytest.raises(Rejected):
        there.check("sending")
    assert servers[1].instance.limits.statistics().heard == 1


def test_what_is_heard_of_limits_that_are_not_known_here_is_ignored() -> None:
    limits = Limits(Settings(limit_sending_user="off"), clock=lambda: 0.0)
    limits.charge({"sending:user:ann": 5, "nonsense": 1, "a:b:c": 2, "events:user:x:y": 3})
    assert limits.statistics().kept == 1
