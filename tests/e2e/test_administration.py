"""`catfish instances` and `catfish rooms`, in processes of their own, beside a server that runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import catfish
from tests.e2e.clients import talk_by_trio_websocket
from tests.e2e.process import ServerProcess

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

    async def refused(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        return done.stderr.decode()


async def test_an_operator_sees_the_server_and_closes_a_room_of_it(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "state")
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path / "state", "--set", "lease_s=1.5") as server,
            talk_by_trio_websocket(server.url, binary=False) as ann,
            talk_by_trio_websocket(server.url, binary=True) as bob,
        ):
            for client, name in ((ann, "ann"), (bob, "bob")):
                await client.ask("hello", {"user": name})
                await client.ask("room:join", {"room": "lobby"})
            await ann.ask("chat:send", {"room": "lobby", "content": "hi \x1b[31m"})
            created = await ann.ask("room:create", {"kind": "private", "name": "Den"})

            await trio.sleep(1.0)  # until its next renewal
            [instance] = (await operator.ask("instances"))["instances"]
            assert (instance["state"], instance["version"]) == ("alive", catfish.__version__)
            assert (instance["pid"], instance["connections"], instance["rooms"]) == (server.pid, 2, 1)
            assert (instance["mirror"], 0 < instance["leaseLeftMs"] <= 1_500) == ("off", True)

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
    options = "--set", "lease_s=1.5"
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
            await trio.sleep(2.0)  # until its lease has ended
            states = [instance["state"] for instance in (await operator.ask("instances"))["instances"]]
            assert states == ["alive", "dead"]


async def test_where_no_server_has_run_there_is_nothing_to_administer(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT_S):
        told = await Operator(tmp_path / "nothing").refused("rooms", "list")
    assert "there is no database in" in told
    assert not (tmp_path / "nothing").exists()
