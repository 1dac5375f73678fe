"""Sessions and their tokens: until when, prolonged how, and that guests are nobody else."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import INTERNAL_ERROR, TOKEN_EXPIRED, UNAUTHORIZED
from catfish.rooms.grants import Grants
from catfish.server.identification import bearer_in, token_in_query
from tests.auth.signing import SECRET, STRANGE, token
from tests.doubles.memory_mirror import MemoryNetwork
from tests.server.harness import Client, Server, start_server
from tests.server.test_registry import Identities
from tests.server.test_vocabularies import Socket, World, open_world


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery, jwt_secret=SECRET)


def of(user: str, valid_s: int = 60, **claims: Any) -> str:
    return token({"sub": user, "exp": int(time.time()) + valid_s, **claims})


async def greeted(server: Server, **hello: Any) -> Client:
    client = server.connect()
    answer = await client.ask("hello", hello)
    assert isinstance(answer, dict), answer
    return client


# Until it runs out


async def test_a_session_ends_when_its_token_does_and_says_why(server: Server, autojump_clock: MockClock) -> None:
    ann = await greeted(server, token=of("ann", 60))
    await ann.ask("room:join", {"room": "lobby"})
    await trio.sleep(50)
    assert ann.connection.close_called is None
    await trio.sleep(11)
    assert ann.connection.close_called == TOKEN_EXPIRED


async def test_hello_tells_until_when_and_prolongs_in_a_room(server: Server, autojump_clock: MockClock) -> None:
    first = of("ann", 60, name="Ann", rooms={"*": ["join"]})
    ann = server.connect()
    welcome = await ann.ask("hello", {"token": first, "name": "Annie"})
    assert 58_000 < welcome["expiresAt"] - time.time() * 1000 <= 60_000
    await ann.ask("room:join", {"room": "lobby"})
    await trio.sleep(50)
    again = await ann.ask("hello", {"token": of("ann", 3600, rooms={"*": ["join", "send"]})})
    assert (again["user"], again["name"], again["session"]) == ("ann", "Annie", welcome["session"])
    await trio.sleep(50)
    assert ann.connection.close_called is None
    assert ann.session.participant.grants == Grants({"*": ["join", "send"]})
    assert ann.session.participant.rooms == ["lobby"]
    await trio.sleep(3600)
    assert ann.connection.close_called == TOKEN_EXPIRED


async def test_a_fresh_token_of_somebody_else_changes_nothing(server: Server, autojump_clock: MockClock) -> None:
    ann = await greeted(server, token=of("ann", 60))
    await ann.ask("room:join", {"room": "lobby"})
    assert (await ann.ask("hello", {"token": of("bob", 3600)})).code == "forbidden"
    assert (await ann.ask("hello", {"token": of("ann", -5)})).code == "unauthorized"
    assert ann.session.participant.user == "ann"
    await trio.sleep(61)
    assert ann.connection.close_called == TOKEN_EXPIRED


async def test_a_hello_without_a_token_takes_none_away(server: Server, autojump_clock: MockClock) -> None:
    ann = await greeted(server, token=of("ann", 60, rooms={}))
    assert (await ann.ask("hello", {"user": "bob"})).code == "bad_request"
    answer = await ann.ask("hello", {"name": "Annie"})
    assert (answer["user"], answer["name"]) == ("ann", "Annie")
    who = ann.session.participant
    assert (who.identified, who.grants) == (True, Grants({}))
    await trio.sleep(61)
    assert ann.connection.close_called == TOKEN_EXPIRED


async def test_a_token_without_an_end_and_a_guest_cost_no_timer(server: Server) -> None:
    before = server.timers.statistics().pending
    await greeted(server, token=token({"exp": ...}))
    await greeted(server, user="guest")
    assert server.timers.statistics().pending == before
    ann = await greeted(server, token=of("ann"))
    assert server.timers.statistics().pending == before + 1
    await ann.vanish()
    assert server.timers.statistics().pending == before


# With the connection


@pytest.mark.parametrize("where", ["header", "token", "access_token"])
async def test_a_token_may_come_with_the_connection(server: Server, where: str, autojump_clock: MockClock) -> None:
    text = of("ann", 60)
    if where == "header":
        ann = server.connect(authorization=f"bearer  {text}")
    else:
        ann = server.connect(target=f"/ws?x=1&{where}={text}")
    await ann.ask("room:join", {"room": "lobby"})
    assert ann.session.participant.user == "ann"
    assert (await ann.ask("hello", {"name": "Annie"}))["user"] == "ann"
    await trio.sleep(61)
    assert ann.connection.close_called == TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("text", "close"), [(of("ann", -1), TOKEN_EXPIRED), (token(key=STRANGE), UNAUTHORIZED), ("nonsense", UNAUTHORIZED)]
)
async def test_a_bad_one_is_refused_and_what_came_behind_it_is_not_done(server: Server, text: str, close: Any) -> None:
    eve = server.connect(target=f"/ws?token={text}")
    eve.send("room:join", {"room": "lobby"})
    await wait_all_tasks_blocked()
    eve.read()
    [error] = eve.errors
    assert (error.code, error.event) == ("unauthorized", "hello")
    assert eve.connection.close_called == close


async def test_a_foreign_token_means_nothing_where_there_is_no_key(nursery: trio.Nursery) -> None:
    server = await start_server(nursery)
    guest = server.connect(target="/ws?token=nonsense")
    answer = await guest.ask("hello", {"user": "bob"})
    assert answer["user"] == "bob"
    assert not guest.session.participant.identified


def test_tokens_are_found_in_headers_and_queries() -> None:
    assert bearer_in("Bearer a.b.c") == bearer_in("bearer   a.b.c ") == "a.b.c"
    assert bearer_in(None) is bearer_in("") is bearer_in("Bearer") is bearer_in("Basic abc") is None
    assert token_in_query("EIO=4&token=a.b.c") == token_in_query("access_token=a.b.c&token=x") == "a.b.c"
    for query in ("", "token=", "tokens=a", "xtoken=a", "&".join(f"token={n}" for n in range(200))):
        assert token_in_query(query) is None


# Guests


async def test_a_guest_gets_no_id_of_somebody_who_came_with_a_token(server: Server) -> None:
    await greeted(server, token=of("ann"))
    guest = server.connect()
    refused = await guest.ask("hello", {"user": "ann"})
    assert refused.code == "user_taken"
    assert guest.session.participant.user == guest.session.participant.session
    assert (await guest.ask("hello", {"user": "bob"}))["user"] == "bob"


async def test_a_guest_who_has_the_id_when_its_owner_comes_is_sent_away(server: Server) -> None:
    guest = await greeted(server, user="ann")
    other = await greeted(server, user="bob")
    ann = await greeted(server, token=of("ann"))
    assert guest.connection.close_called is not None
    assert guest.connection.close_called.code == UNAUTHORIZED.code
    assert guest.connection.close_called.reason.startswith("user_taken")
    assert ann.connection.close_called is None
    assert other.connection.close_called is None


async def test_that_holds_for_accounts_and_for_those_who_came_elsewhere(server: Server) -> None:
    store = Identities("ann")
    server.instance.registry.store = store
    guest = server.connect()
    assert (await guest.ask("hello", {"user": "ann"})).code == "user_taken"
    store.away = True
    assert (await guest.ask("hello", {"user": "bob"})).code == "unavailable"


async def test_a_guest_who_has_the_id_on_another_instance_is_sent_away_too(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network, store = MemoryNetwork(1), Identities()
    servers = [await start_server(nursery, jwt_secret=SECRET) for _ in range(2)]
    for server in servers:
        instance = server.instance
        mirror = network.mirror(instance.settings, instance.id, instance.supervisor)
        instance.supervisor.mirror = mirror
        instance.registry.store = store
        await nursery.start(mirror.run)
    guest, bob = await greeted(servers[0], user="ann"), await greeted(servers[0], user="bob")
    ann = await greeted(servers[0], token=of("joe"))
    await greeted(servers[1], token=of("ann"))
    await trio.sleep(5)
    assert guest.connection.close_called is not None
    assert guest.connection.close_called.code == UNAUTHORIZED.code
    assert store.users == {"ann", "joe"}
    assert bob.connection.close_called is ann.connection.close_called is None


async def test_a_guest_without_a_wish_asks_for_nothing(server: Server) -> None:
    store = Identities()
    server.instance.registry.store = store
    guest = server.connect()
    await guest.ask("hello", {"name": "Guest"})
    await guest.ask("room:join", {"room": "lobby"})
    assert store.calls == []


# Socket.IO


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return await open_world(nursery, jwt_secret=SECRET)


async def answer_to(socket: Socket, event: str, *args: Any) -> Any:
    socket.emit(event, *args, id=7)
    [packet] = [packet for packet in await socket.packets() if packet.startswith("437")]
    return msgspec.json.decode(packet[3:])[0]


async def test_a_socket_ends_when_its_token_does_and_hears_why(world: World, autojump_clock: MockClock) -> None:
    ann = await world.connect({"token": of("ann", 10)})
    ann.emit("joinRoom", {"roomId": "red"})
    await ann.packets()
    await trio.sleep(11)
    assert await ann.heard() == [["auth:expired", {"message": "token has expired"}]]
    assert ann.connection.close_called == TOKEN_EXPIRED


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_socket_is_prolonged_by_an_event(world: World, speaks: bool, autojump_clock: MockClock) -> None:
    ann = await world.connect({"token": of("ann", 5)})
    if speaks:
        ann.emit("joinRoom", {"roomId": "red"})
        await ann.packets()
    fresh = of("ann", 15)
    answer = await answer_to(ann, "auth:refresh", {"token": fresh})
    assert answer["ok"] is True
    assert answer["expiresAt"] > time.time() * 1000 + 10_000
    await trio.sleep(10)
    assert ann.connection.close_called is None
    ann.emit("auth:refresh", f"Bearer {fresh}")
    await trio.sleep(12)  # it is the same one, and virtual time does not move the clock on the wall
    assert ann.connection.close_called is None
    await trio.sleep(5)
    assert ann.connection.close_called == TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"token": of("bob", 86_400)}, "forbidden"),
        ({"token": "x.y.z"}, "unauthorized"),
        ({"token": of("ann", -1)}, "unauthorized"),
        ({"token": 5}, "bad_request"),
        (None, "bad_request"),
    ],
)
async def test_a_bad_refresh_is_refused_and_ends_nothing(world: World, payload: Any, code: str) -> None:
    ann = await world.connect({"token": of("ann", 60)})
    answer = await answer_to(ann, "auth:refresh", payload)
    assert (answer["ok"], answer["code"]) == (False, code)
    ann.emit("auth:refresh", payload)
    [[event, problem]] = await ann.heard()
    assert (event, problem["code"]) == ("auth:refused", code)
    assert ann.connection.close_called is None


async def test_a_guest_becomes_somebody_by_a_refresh(world: World) -> None:
    ann = await world.connect()
    assert (await answer_to(ann, "auth:refresh", {"token": of("ann")}))["ok"]
    answer = await answer_to(ann, "joinRoom", {"roomId": "red", "userId": "eve"})
    assert [each["userId"] for each in answer["users"]] == ["ann"]


async def test_what_guests_say_who_they_are_is_refused_when_that_is_somebody(world: World) -> None:
    await world.connect({"token": of("ann")})
    await wait_all_tasks_blocked()
    guest = await world.connect()
    answer = await answer_to(guest, "joinRoom", {"roomId": "red", "userId": "ann"})
    assert (answer["ok"], answer["code"]) == (False, "user_taken")
    assert (await answer_to(guest, "joinRoom", {"roomId": "red", "userId": "bob"}))["ok"]
    answer = await answer_to(guest, "sendMessage", {"roomId": "red", "userId": "ann", "content": "I am Ann"})
    assert (answer["ok"], answer["code"]) == (False, "user_taken")
    assert (await answer_to(guest, "sendMessage", {"roomId": "red", "userId": "joe", "content": "hi"}))["ok"]
    peer = await world.connect()
    peer.emit("join_room", {"userId": "ann", "username": "Ann", "roomId": "red"})
    await wait_all_tasks_blocked()
    assert [event for event in await guest.heard() if event[0] == "userJoined"] == []


async def test_a_token_in_the_address_is_one(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = await open_world(nursery, auth="required", jwt_secret=SECRET)
    good = Socket(world, None, None, f"&token={of('ann')}")
    assert (await good.packets())[0].startswith('40{"sid":')
    bad = Socket(world, None, None, "&token=x.y.z")
    assert (await bad.packets())[0].startswith('44{"message":"unauthorized"')


# Coming back to a session that was cut off


class Sessions:
    """Implements `rooms.ports.SessionStore` in memory, for one instance that goes on."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}

    async def save(self, secret: str, instance: str, record: Any) -> None:
        self.records[secret] = record

    async def end(self, secret: str, instance: str) -> None: ...

    async def end_all(self, instance: str) -> None: ...

    async def take(self, secret: str, instance: str, within_s: float) -> Any | None:
        return self.records.get(secret)

    async def prune(self, older_s: float) -> None: ...


async def cut_off(world: World, auth: dict[str, Any] | None) -> str:
    """A session that joined a room, and whose connection was lost; its secret."""
    socket = await world.connect(auth)
    [packet] = await socket.packets()
    socket.emit("joinRoom", {"roomId": "red", "userId": "ann"}, id=1)
    await socket.packets()
    socket.receiver.closed(INTERNAL_ERROR)
    await wait_all_tasks_blocked()
    secret: str = msgspec.json.decode(packet[2:])["pid"]
    return secret


async def come_back(world: World, pid: str, **auth: Any) -> tuple[Socket, Any]:
    """The socket, and what it knows of its user."""
    socket = await world.connect({"pid": pid, **auth})
    [speaker] = [each for each in world.recovery._speakers.values() if each.socket.is_connected]
    return socket, speaker.who


@pytest.fixture
async def recovering(nursery: trio.Nursery) -> World:
    return World(await start_server(nursery, jwt_secret=SECRET, recovery_s=60.0), Sessions())


async def test_what_a_token_said_is_continued_with_the_session(recovering: World) -> None:
    pid = await cut_off(recovering, {"token": of("ann", 60, rooms={"*": ["join"]})})
    _, who = await come_back(recovering, pid)
    assert (who.user, who.identified, who.rooms, who.grants) == ("ann", True, ["red"], Grants({"*": ["join"]}))
    assert 58_000 < who.expires_at - time.time() * 1000 <= 60_000


async def test_a_fresh_token_counts_from_then_on(recovering: World) -> None:
    pid = await cut_off(recovering, {"token": of("ann", 60, rooms={"*": ["join"]})})
    _, who = await come_back(recovering, pid, token=of("ann", 600))
    assert (who.rooms, who.grants) == (["red"], None)
    assert who.expires_at > time.time() * 1000 + 500_000


async def test_nobody_comes_back_to_a_session_whose_token_has_run_out_or_is_of_another(recovering: World) -> None:
    pid = await cut_off(recovering, {"token": of("ann", 60)})
    [record] = recovering.recovery._sessions.records.values()
    expires_at, record["expires_at"] = record["expires_at"], 1
    _, guest = await come_back(recovering, pid)
    assert (guest.identified, guest.rooms, guest.user) == (False, [], guest.session)
    record["expires_at"] = expires_at
    recovering.recovery._speakers.clear()
    _, bob = await come_back(recovering, pid, token=of("bob"))
    assert (bob.user, bob.rooms) == ("bob", [])


async def test_a_guest_does_not_come_back_as_somebody_who_signs_in_by_now(recovering: World) -> None:
    pid = await cut_off(recovering, None)
    recovering.server.instance.recognised("ann")
    _, guest = await come_back(recovering, pid)
    assert (guest.user, guest.rooms) == (guest.session, [])
