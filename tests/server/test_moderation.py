"""Moderation over the native protocol, on one instance and on two: what is allowed, who hears what, who is out."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.config import Settings
from catfish.rooms.permissions import FOREVER
from catfish.wire.native import Refusal
from tests.doubles.memory_mirror import MemoryNetwork
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Client, Server, start_server

HOUR_MS = 3_600_000


@pytest.fixture
async def server(nursery: trio.Nursery, autojump_clock: MockClock) -> Server:
    return await start_server(nursery)


async def connect(server: Server, *users: str) -> list[Client]:
    clients = [server.connect() for _ in users]
    for client, user in zip(clients, users, strict=True):
        await client.ask("hello", {"user": user})
    return clients


def code_of(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


async def of(client: Client, event: str, user: str, room: str = "lobby", **given: Any) -> Any:
    return await client.ask(event, {"room": room, "user": user, **given})


# Access


@pytest.mark.parametrize("access", ["members", "invited"])
async def test_a_room_for_those_whom_somebody_lets_in(server: Server, access: str) -> None:
    ann, bob = await connect(server, "ann", "bob")
    room = (await ann.ask("room:create", {"access": access, "name": "Den"}))["room"]
    assert (room["kind"], room["access"]) == ("private", access)
    assert code_of(await bob.ask("room:join", {"code": room["code"]})) == "forbidden"
    await ann.ask("room:join", {"room": room["id"]})
    assert await of(ann, "room:invite", "bob", room["id"]) == {"role": "invited"}
    assert ann.heard("room:role") == [{"room": room["id"], "user": "bob", "role": "invited"}]
    assert bob.heard("room:invited") == [{"room": room["id"], "user": "bob", "by": "ann"}]
    joined = await bob.ask("room:join", {"room": room["id"]})
    assert [member["user"] for member in joined["members"]] == ["ann", "bob"]
    assert await of(ann, "room:role", "bob", room["id"], role="none") == {"role": "none"}
    assert bob.heard("room:left") == [{"room": room["id"], "user": "bob", "reason": "kicked"}]
    assert code_of(await bob.ask("chat:send", {"room": room["id"], "content": "hi"})) == "not_in_room"
    assert code_of(await bob.ask("room:join", {"room": room["id"]})) == "forbidden"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"kind": "open", "access": "members"}, "access"),
        ({"access": "pair"}, "access"),
        ({"access": "secret"}, "access"),
    ],
)
async def test_kind_and_access_must_agree(server: Server, data: dict[str, str], field: str) -> None:
    [ann] = await connect(server, "ann")
    refusal = await ann.ask("room:create", data)
    assert code_of(refusal) == "bad_request"
    assert field in refusal.message


async def test_two_meet_in_a_matched_room_by_its_code_and_strangers_do_not_get_in(server: Server) -> None:
    ann, bob, eve = await connect(server, "ann", "bob", "eve")
    room = (await ann.ask("room:create", {"kind": "matched"}))["room"]
    assert (room["kind"], room["access"], room["capacity"]) == ("matched", "code", 2)
    await ann.ask("room:join", {"code": room["code"]})
    assert (await eve.ask("room:match", {}))["matched"] is False
    await bob.ask("room:join", {"code": room["code"].upper()})
    for client in (ann, bob):
        assert client.heard("room:ready") == [{"room": room["id"]}]
    assert code_of(await eve.ask("room:join", {"code": room["code"]})) == "room_full"
    # Who is in such a room may look for a stranger besides.
    assert (await ann.ask("room:match", {}))["peer"]["user"] == "eve"


# Removal


async def test_who_is_kicked_hears_so_and_may_come_back(server: Server, autojump_clock: MockClock) -> None:
    ann, bob, cyd = await server.join("lobby", "ann", "bob", "cyd")
    assert code_of(await of(bob, "room:kick", "cyd")) == "forbidden"
    assert await of(ann, "room:kick", "bob") == {}
    for client in (ann, bob, cyd):
        assert client.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "kicked"}]
    await ann.ask("chat:send", {"room": "lobby", "content": "is he gone?"})
    assert (bob.heard("chat:message"), len(cyd.heard("chat:message"))) == ([], 1)
    speaking: dict[str, dict[str, Any]] = {
        "chat:typing": {"on": True},
        "room:emit": {"event": "x"},
        "signal": {"to": "ann", "data": 1},
    }
    for event, data in speaking.items():
        assert code_of(await bob.ask(event, {"room": "lobby", **data})) == "not_in_room"
    assert code_of(await of(ann, "room:kick", "bob")) == "no_such_member"
    joined = await bob.ask("room:join", {"room": "lobby", "since": 0})
    assert [message["content"] for message in joined["messages"]] == ["is he gone?"]
    assert [each["member"]["user"] for each in cyd.heard("room:joined")] == ["bob"]
    await bob.vanish()
    await trio.sleep(30)
    assert cyd.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "gone"}]


async def test_who_is_banned_is_out_with_all_devices_and_cannot_come_back(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    [second] = await server.join("lobby", "bob")
    ann.heard("room:left")
    assert await of(ann, "room:ban", "bob") == {"until": FOREVER}
    for client in (bob, second):
        assert client.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "banned"}]
        assert code_of(await client.ask("room:join", {"room": "lobby"})) == "banned"
    assert ann.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": "banned"}]
    assert await of(ann, "room:unban", "bob") == {}
    assert (await bob.ask("room:join", {"room": "lobby"}))["room"]["membersCount"] == 2


async def test_a_ban_with_a_time_says_when_it_is_over_and_is(server: Server, autojump_clock: MockClock) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await of(ann, "room:ban", "bob", durationMs=60_000)
    refusal = await bob.ask("room:join", {"room": "lobby"})
    assert code_of(refusal) == "banned"
    assert 0 < refusal.retry_after_ms <= 60_000
    await trio.sleep(61)
    assert (await bob.ask("room:join", {"room": "lobby"}))["seq"] == 0


async def test_a_ban_of_the_address_keeps_out_who_comes_from_there(server: Server) -> None:
    clients = []
    for user, address in (("ann", "10.0.0.1"), ("bob", "10.0.0.2"), ("cyd", "10.0.0.2"), ("dan", "10.0.0.3")):
        [client] = await connect(server, user)
        client.session.participant.address = address
        await client.ask("room:join", {"room": "lobby"})
        clients.append(client)
    ann, _, cyd, dan = clients
    await of(ann, "room:ban", "bob", address=True)
    assert [left["user"] for left in dan.heard("room:left")] == ["bob", "cyd"]
    assert [left["user"] for left in cyd.heard("room:left")] == ["bob", "cyd"]
    await cyd.ask("hello", {"user": "someone-new"})
    assert code_of(await cyd.ask("room:join", {"room": "lobby"})) == "banned"
    await of(ann, "room:unban", "bob")
    await cyd.ask("room:join", {"room": "lobby"})


async def test_who_is_being_let_in_when_it_is_removed_is_disconnected(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    [late] = await connect(server, "bob")
    server.store.hold()
    late.request("room:join", {"room": "lobby", "since": 0})
    await wait_all_tasks_blocked()
    ann.request("room:kick", {"room": "lobby", "user": "bob"})
    await wait_all_tasks_blocked()
    server.store.release()
    await wait_all_tasks_blocked()
    assert bob.heard("room:left")[-1]["reason"] == "kicked"
    members = await ann.ask("room:members", {"room": "lobby"})
    assert [member["user"] for member in members["members"]] == ["ann"]
    assert late.connection.close_called is not None or late.heard("room:left")


# Mutes


async def test_who_is_muted_is_heard_by_nobody_until_the_time_is_over(
    server: Server, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catfish.server.speaking.now_ms", server.store._now)
    ann, bob = await server.join("lobby", "ann", "bob")
    await bob.ask("chat:send", {"room": "lobby", "content": "before"})
    until = (await of(ann, "room:mute", "bob", durationMs=60_000))["until"]
    for client in (ann, bob):
        assert client.heard("room:muted") == [{"room": "lobby", "user": "bob", "until": until}]
    ann.events.clear()
    speaking: dict[str, dict[str, Any]] = {
        "chat:send": {"content": "hi"},
        "chat:edit": {"seq": 1, "content": "hi"},
        "chat:react": {"seq": 1, "emoji": "👍", "on": True},
        "chat:typing": {"on": True},
        "room:emit": {"event": "x"},
        "signal": {"to": "ann", "data": 1},
        "media:toggle": {"device": "mic", "on": True},
        "media:started": {},
    }
    for event, data in speaking.items():
        refusal = await bob.ask(event, {"room": "lobby", **data})
        assert code_of(refusal) == "muted", event
        assert 0 < refusal.retry_after_ms <= 60_000, event
    ann.read()
    assert ann.events == []
    assert (await bob.ask("chat:history", {"room": "lobby"}))["more"] is False
    assert await bob.ask("chat:read", {"room": "lobby", "seq": 1}) == {}
    assert await bob.ask("chat:delete", {"room": "lobby", "seq": 1}) == {}
    await trio.sleep(61)
    for event, data in speaking.items():
        if event not in ("chat:edit", "chat:react"):
            assert not isinstance(await bob.ask(event, {"room": "lobby", **data}), Refusal), event


async def test_a_mute_is_remembered_when_its_user_comes_again_and_can_be_taken_back(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    await bob.ask("room:leave", {"room": "lobby"})
    assert (await of(ann, "room:mute", "bob"))["until"] == FOREVER
    await bob.ask("room:join", {"room": "lobby"})
    for event, data in (("chat:send", {"content": "hi"}), ("chat:typing", {"on": True})):
        refusal = await bob.ask(event, {"room": "lobby", **data})
        assert (code_of(refusal), refusal.retry_after_ms) == ("muted", None)
    assert await of(ann, "room:unmute", "bob") == {}
    assert bob.heard("room:muted")[-1] == {"room": "lobby", "user": "bob"}
    assert await bob.ask("chat:typing", {"room": "lobby", "on": True}) == {}


@pytest.mark.parametrize(
    ("event", "data", "code"),
    [
        ("room:kick", {"user": "ann"}, "forbidden"),
        ("room:kick", {"user": ""}, "bad_request"),
        ("room:kick", {"user": "nobody"}, "no_such_member"),
        ("room:mute", {"user": "bob", "durationMs": -1}, "bad_request"),
        ("room:ban", {"user": "bob", "durationMs": 0}, "bad_request"),
        ("room:ban", {"user": "bob", "durationMs": 10**15}, "bad_request"),
        ("room:role", {"user": "bob", "role": "owner"}, "bad_request"),
        ("room:role", {"user": "bob", "role": "king"}, "bad_request"),
        ("room:invite", {"user": "x" * 200}, "bad_request"),
        ("room:report", {"reason": ""}, "bad_request"),
        ("room:report", {"reason": "x" * 1001}, "bad_request"),
        ("room:report", {"reason": "rude", "seq": 0}, "bad_request"),
        ("room:kick", {"room": "nowhere", "user": "bob"}, "no_such_room"),
    ],
)
async def test_what_makes_no_sense_is_refused(server: Server, event: str, data: dict[str, Any], code: str) -> None:
    ann, _ = await server.join("lobby", "ann", "bob")
    assert code_of(await ann.ask(event, {"room": "lobby", **data})) == code


async def test_who_moderates_deletes_what_others_wrote(server: Server) -> None:
    ann, bob, cyd = await server.join("lobby", "ann", "bob", "cyd")
    await bob.ask("chat:send", {"room": "lobby", "content": "rude"})
    assert code_of(await cyd.ask("chat:delete", {"room": "lobby", "seq": 1})) == "not_your_message"
    assert await of(ann, "room:role", "cyd", role="moderator") == {"role": "moderator"}
    assert await cyd.ask("chat:delete", {"room": "lobby", "seq": 1}) == {}
    assert bob.heard("chat:deleted")[0]["user"] == "cyd"


# Blocks and reports


async def test_signals_of_neither_reach_the_other_when_one_has_blocked_the_other(server: Server) -> None:
    ann, bob = await server.join("lobby", "ann", "bob")
    assert await bob.ask("user:block", {"user": "ann"}) == {}
    for client, to in ((ann, "bob"), (bob, "ann")):
        assert code_of(await client.ask("signal", {"room": "lobby", "to": to, "data": 1})) == "blocked"
    assert await bob.ask("user:blocked", {}) == {"users": ["ann"]}
    [later] = await server.join("lobby", "ann")
    assert code_of(await later.ask("signal", {"room": "lobby", "to": "bob", "data": 1})) == "blocked"
    assert await bob.ask("user:unblock", {"user": "ann"}) == {}
    assert await ann.ask("signal", {"room": "lobby", "to": "bob", "data": 1}) == {}
    assert code_of(await bob.ask("user:block", {"user": "bob"})) == "bad_request"


async def test_strangers_who_met_or_are_blocked_do_not_meet_and_others_do(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server = await start_server(nursery, partner_pause_s=120.0)
    ann, bob, cyd = await connect(server, "ann", "bob", "cyd")
    await ann.ask("room:match", {})
    assert (await bob.ask("room:match", {}))["peer"]["user"] == "ann"
    assert (await bob.ask("room:next", {}))["matched"] is False
    await trio.sleep(30)
    assert bob.heard("room:ready")[1:] == ann.heard("room:ready")[1:] == []
    await cyd.ask("user:block", {"user": "bob"})
    assert (await cyd.ask("room:match", {}))["peer"]["user"] == "ann"
    await cyd.ask("room:next", {})
    await trio.sleep(30)
    assert [client.heard("room:joined") for client in (bob, cyd)] == [[], []]
    await trio.sleep(120)  # the pause of ann and bob is over, and the one of ann and cyd as well: somebody got ann
    assert len(bob.heard("room:joined") + cyd.heard("room:joined") + ann.heard("room:joined")) >= 2


async def test_a_report_has_what_was_said(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    server = await start_server(nursery, report_messages=2)
    ann, bob = await server.join("lobby", "ann", "bob")
    for text in ("one", "two", "three"):
        await bob.ask("chat:send", {"room": "lobby", "content": text})
    answer = await ann.ask("room:report", {"room": "lobby", "user": "bob", "reason": "rude"})
    page = await server.store.moderation.reports(below=None, limit=10, handled=False)
    [report] = page.reports
    assert (report.id, report.by, report.user, report.reason) == (answer["report"], "ann", "bob", "rude")
    assert [message.content for message in report.messages] == ["two", "three"]
    [stranger] = await connect(server, "eve")
    den = (await ann.ask("room:create", {"access": "members"}))["room"]["id"]
    assert code_of(await stranger.ask("room:report", {"room": den, "reason": "?"})) == "forbidden"


# Several instances


async def start_two(nursery: trio.Nursery, **settings: Any) -> tuple[Server, Server, MemoryNetwork]:
    """Two instances on one store and one mirror."""
    store, network, servers = MemoryStore(), MemoryNetwork(1), []
    for _ in range(2):
        server = await start_server(nursery, store, **settings)
        supervisor = server.instance.supervisor
        mirror = supervisor.mirror = network.mirror(Settings(**settings), server.instance.id, supervisor)
        await nursery.start(mirror.run)
        servers.append(server)
    return servers[0], servers[1], network


async def test_the_other_instance_hears_of_everything(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    one, other, _ = await start_two(nursery)
    [ann] = await one.join("lobby", "ann")
    bob, cyd = await other.join("lobby", "bob", "cyd")
    await trio.sleep(1)
    await of(ann, "room:mute", "bob")
    await trio.sleep(1)
    assert bob.heard("room:muted") == cyd.heard("room:muted") == [{"room": "lobby", "user": "bob", "until": FOREVER}]
    assert code_of(await bob.ask("chat:typing", {"room": "lobby", "on": True})) == "muted"
    assert code_of(await bob.ask("chat:send", {"room": "lobby", "content": "x"})) == "muted"
    await of(ann, "room:unmute", "bob")
    await ann.ask("user:block", {"user": "bob"})
    await of(ann, "room:invite", "bob")
    await trio.sleep(1)
    assert bob.heard("room:invited") == [{"room": "lobby", "user": "bob", "by": "ann"}]
    assert await bob.ask("chat:typing", {"room": "lobby", "on": True}) == {}
    assert code_of(await bob.ask("signal", {"room": "lobby", "to": "ann", "data": 1})) == "blocked"
    await of(ann, "room:kick", "cyd")
    await of(ann, "room:ban", "bob")
    await trio.sleep(1)
    for client, user, reason in ((cyd, "cyd", "kicked"), (bob, "bob", "banned")):
        assert client.heard("room:left")[-1] == {"room": "lobby", "user": user, "reason": reason}
    assert code_of(await bob.ask("room:join", {"room": "lobby"})) == "banned"
    assert (await cyd.ask("room:join", {"room": "lobby"}))["room"]["membersCount"] == 2
    await trio.sleep(60)
    assert [each["user"] for each in (await ann.ask("room:members", {"room": "lobby"}))["members"]] == ["ann", "cyd"]


@pytest.mark.parametrize("reason", ["kicked", "banned"])
async def test_who_is_removed_while_redis_is_away_learns_it_through_the_database(
    nursery: trio.Nursery, autojump_clock: MockClock, reason: str
) -> None:
    one, other, network = await start_two(nursery, poll_s=0.5)
    [ann] = await one.join("lobby", "ann")
    bob, cyd = await other.join("lobby", "bob", "cyd")
    network.away()
    await trio.sleep(5)
    await of(ann, "room:mute", "cyd")
    await of(ann, "room:kick" if reason == "kicked" else "room:ban", "bob")
    assert [each["user"] for each in (await ann.ask("room:members", {"room": "lobby"}))["members"]] == ["ann", "cyd"]
    await trio.sleep(5)
    assert bob.heard("room:left") == [{"room": "lobby", "user": "bob", "reason": reason}]
    assert bob.connection.close_called is None
    assert code_of(await bob.ask("chat:send", {"room": "lobby", "content": "x"})) == "not_in_room"
    assert code_of(await cyd.ask("chat:typing", {"room": "lobby", "on": True})) == "muted"
    network.back()
    await trio.sleep(10)
    for client in (ann, cyd):
        members = (await client.ask("room:members", {"room": "lobby"}))["members"]
        assert [each["user"] for each in members] == ["ann", "cyd"]
    answer = await bob.ask("room:join", {"room": "lobby"})
    assert (code_of(answer) if reason == "banned" else answer["room"]["membersCount"]) in ("banned", 3)
    await trio.sleep(10)
    assert len((await ann.ask("room:members", {"room": "lobby"}))["members"]) == (2 if reason == "banned" else 3)
