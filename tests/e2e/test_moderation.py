"""Moderation with real processes: two servers on one database, which hear of each other through nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.e2e.clients import Talker, talk_by_trio_websocket
from tests.e2e.process import ServerProcess

TIMEOUT_S = 120.0


async def enter(talker: Talker, user: str) -> None:
    await talker.ask("hello", {"user": user})
    await talker.ask("room:join", {"room": "lobby"})


async def test_who_is_removed_on_one_server_is_out_on_the_other(tmp_path: Path, database_url: str) -> None:
    options = "--migrate", "--set", "lease_s=1.5"
    environment = {"CATFISH_DATABASE_URL": database_url}
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path, *options, **environment) as first,
            ServerProcess.running(tmp_path, *options, **environment) as second,
            talk_by_trio_websocket(first.url, binary=False) as ann,
            talk_by_trio_websocket(first.url, binary=True) as cyd,
            talk_by_trio_websocket(second.url, binary=True) as bob,
            talk_by_trio_websocket(second.url, binary=False) as dan,
        ):
            for talker, user in ((ann, "ann"), (bob, "bob"), (cyd, "cyd"), (dan, "dan")):
                await enter(talker, user)
            await dan.ask("chat:send", {"room": "lobby", "content": "rude"})
            await ann.ask("room:ban", {"room": "lobby", "user": "bob", "durationMs": 3_600_000})
            await ann.ask("room:kick", {"room": "lobby", "user": "cyd"})
            await ann.ask("room:mute", {"room": "lobby", "user": "dan"})
            with pytest.raises(AssertionError, match="muted"):
                await dan.ask("chat:send", {"room": "lobby", "content": "ruder"})
            for talker, user, reason in ((cyd, "cyd", "kicked"), (bob, "bob", "banned")):
                left = await talker.hear("room:left")
                while left["user"] != user:
                    left = await talker.hear("room:left")
                assert left["reason"] == reason
            for event in ("room:join", "chat:send"):
                with pytest.raises(AssertionError, match=r"banned|not_in_room"):
                    await bob.ask(event, {"room": "lobby", **({"content": "x"} if event == "chat:send" else {})})
            assert [message["seq"] for message in (await cyd.ask("room:join", {"room": "lobby"}))["messages"]] == [1]
            await ann.ask("room:report", {"room": "lobby", "user": "dan", "reason": "rude"})
            listing = await trio.run_process(
                [sys.executable, "-m", "catfish", "reports", "list", "--json"],
                env={"CATFISH_DATABASE_URL": database_url, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                cwd=Path(__file__).parents[2],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
            )
            [report] = json.loads(listing.stdout)["reports"]
            assert (report["by"], report["user"], report["messages"][0]["content"]) == ("ann", "dan", "rude")
