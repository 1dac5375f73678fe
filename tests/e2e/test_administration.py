"""`catfish instances` and `catfish rooms`, in processes of their own, beside a server that runs."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import catfish
from catfish.mirror.private_redis import PrivateRedis
from tests.e2e.clients import talk_by_trio_websocket
from tests.e2e.process import ServerProcess
from tests.redis_server import redis_dir  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120.0


class Operator:
    """Somebody with a shell on the machine of the server."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return await trio.run_process(
            [sys.executable, "-m", "catfish", *arguments, "--state-dir", str(self._state_dir)],
            cwd=ROOT,
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )

    async def ask(self, *arguments: str) -> Any:
        """The JSON that it prints."""
        done = await self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    async def until_instances(self, right: Callable[[list[Any]], bool]) -> list[Any]:
        """The instances, once they are right: what they tell is as old as their last renewal."""
        while True:
            found: list[Any] = (await self.ask("instances"))["instances"]
            if right(found):
                return found
            await trio.sleep(0.1)

    async def refused(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        return done.stderr.decode()


async def test_an_operator_sees_the_server_and_closes_a_room_of_it(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "state")
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path / "state", "--set", "lease_s=3") as server,
            talk_by_trio_websocket(server.url, binary=False) as ann,
            talk_by_trio_websocket(server.url, binary=True) as bob,
        ):
            for client, name in ((ann, "ann"), (bob, "bob")):
                await client.ask("hello", {"user": name})
                await client.ask("room:join", {"room": "lobby"})
            await ann.ask("chat:send", {"room": "lobby", "content": "hi \x1b[31m"})
            created = await ann.ask("room:create", {"kind": "private", "name": "Den"})

            [instance] = await operator.until_instances(lambda instances: instances[0]["connections"] == 2)
            assert (instance["state"], instance["version"]) == ("alive", catfish.__version__)
            assert (instance["pid"], instance["connections"], instance["rooms"]) == (server.pid, 2, 1)
            assert (instance["mirror"], 0 < instance["leaseLeftMs"] <= 3_000) == ("off", True)

            listed = await operator.ask("rooms", "list", "--limit", "1")
            assert [room["id"] for room in listed["rooms"]] == [created["room"]["id"]]
            listed = await operator.ask("rooms", "list", "--before", str(listed["before"]))
            assert [(room["id"], room["membersCount"], room["seq"]) for room in listed["rooms"]] == [("lobby", 2, 1)]
            assert listed["before"] is None

            shown = await operator.ask("rooms", "show", created["room"]["code"].upper())
            assert shown["room"]["name"] == "Den"
            shown = await operator.ask("rooms", "show", "lobby")
            assert [member["user"] for member in shown["members"]] == ["ann", "bob"]
            assert [message["content"] for message in shown["messages"]] == ["hi \x1b[31m"]
            plain = (await operator.run("rooms", "show", "lobby")).stdout
            assert b"hi" in plain
            assert b"\x1b" not in plain

            assert "--yes" in await operator.refused("rooms", "close", "lobby")
            assert "no room with the id or code 'nowhere'" in await operator.refused(
                "rooms", "close", "nowhere", "--yes"
            )
            done = await operator.run("rooms", "close", "lobby", "--yes")
            assert (done.returncode, done.stdout) == (0, b"closed the open room lobby with 2 members\n")
            assert await ann.hear("room:closed") == await bob.hear("room:closed") == {"room": "lobby"}
            for event, data in (
                ("room:join", {"room": "lobby"}),
                ("chat:send", {"room": "lobby", "content": "anybody?"}),
            ):
                with pytest.raises(AssertionError, match="room_closed"):
                    await ann.ask(event, data)
            done = await operator.run("rooms", "close", "lobby", "--yes")
            assert (done.returncode, b"closed before" in done.stdout) == (0, True)

        # Nobody runs the private Postgres now, so the command runs it.
        assert (await operator.ask("instances"))["instances"] == []
        [instance] = (await operator.ask("instances", "--all"))["instances"]
        assert instance["state"] == "stopped"
        [room, _] = (await operator.ask("rooms", "list", "--closed"))["rooms"][::-1]
        assert (room["id"], room["membersCount"], room["closedAt"] is not None) == ("lobby", 0, True)


async def test_members_on_every_instance_hear_of_it_without_redis(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = "--set", "lease_s=3"
    monkeypatch.setenv("CATFISH_DATABASE_URL", database_url)
    operator = Operator(tmp_path)
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path, *options, CATFISH_DATABASE_URL=database_url) as first,
            ServerProcess.running(tmp_path, *options, CATFISH_DATABASE_URL=database_url) as second,
        ):
            async with (
                talk_by_trio_websocket(first.url, binary=False) as ann,
                talk_by_trio_websocket(second.url, binary=False) as bob,
            ):
                for client, name in ((ann, "ann"), (bob, "bob")):
                    await client.ask("hello", {"user": name})
                    await client.ask("room:join", {"room": "lobby"})
                done = await operator.run("rooms", "close", "lobby", "--yes")
                assert done.returncode == 0, done.stderr
                assert await ann.hear("room:closed") == await bob.hear("room:closed") == {"room": "lobby"}
            await second.end(signal.SIGKILL)
            await operator.until_instances(lambda instances: [each["state"] for each in instances] == ["alive", "dead"])


async def health(server: ServerProcess) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer."""

    def ask() -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(server.address, timeout=10)
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            return response.status, json.load(response)
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


async def until_mirror_is(server: ServerProcess, state: str) -> tuple[int, dict[str, Any]]:
    while True:
        status, content = await health(server)
        if content["mirror"] == state:
            return status, content
        await trio.sleep(0.1)


async def test_an_outage_of_redis_is_seen_and_over_again_without_a_restart(
    tmp_path: Path,
    redis_dir: Path,  # noqa: F811 - the fixture
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis = PrivateRedis(redis_dir)
    environment = {"CATFISH_DATABASE_URL": database_url}
    options = "--set", "poll_s=0.2", "--set"
    monkeypatch.setenv("CATFISH_DATABASE_URL", database_url)
    operator = Operator(tmp_path)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = await start_service(nursery, redis)
            environment["CATFISH_REDIS_URL"] = redis.url
            async with (
                ServerProcess.running(tmp_path, *options, "lease_s=3", **environment) as quick,
                ServerProcess.running(tmp_path, *options, "lease_s=600", **environment) as slow,
                talk_by_trio_websocket(slow.url, binary=False) as ann,
                talk_by_trio_websocket(quick.url, binary=False) as bob,
            ):
                for client, name in ((ann, "ann"), (bob, "bob")):
                    await client.ask("hello", {"user": name})
                    for room in ("lobby", "den"):
                        await client.ask("room:join", {"room": room})
                await until_mirror_is(slow, "ok")
                await until_mirror_is(quick, "ok")
                # The slow one hears of it by the mirror: its lease is renewed much later.
                assert (await operator.run("rooms", "close", "lobby", "--yes")).returncode == 0
                assert await ann.hear("room:closed") == await bob.hear("room:closed") == {"room": "lobby"}
                await operator.until_instances(
                    lambda instances: any(each["mirrorLagMs"] is not None for each in instances)
                )

                running.cancel()
                status, content = await until_mirror_is(slow, "away")
                assert (status, content["database"]) == (200, "ok")
                # Now it finds it by comparing its rooms with the database.
                assert (await operator.run("rooms", "close", "den", "--yes")).returncode == 0
                assert await ann.hear("room:closed") == {"room": "den"}

                await start_service(nursery, redis)
                await until_mirror_is(slow, "ok")
                assert slow.output.count(b"Redis is away") == 1
            nursery.cancel_scope.cancel()


async def start_service(nursery: trio.Nursery, redis: PrivateRedis) -> trio.CancelScope:
    """Run it until the scope is cancelled."""
    scope = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            async with trio.open_nursery() as inner:
                await inner.start(redis.run)
                task_status.started()

    await nursery.start(run)
    return scope


async def test_where_no_server_has_run_there_is_nothing_to_administer(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT_S):
        told = await Operator(tmp_path / "nothing").refused("rooms", "list")
    assert "there is no database in" in told
    assert not (tmp_path / "nothing").exists()
