"""`catfish chat` as people and scripts use it: in pseudo-terminals and pipes, with a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from catfish.client import connect
from tests.e2e.process import ServerProcess
from tests.e2e.pseudo_terminal import pseudo_terminal

TIMEOUT_S = 120.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state") as server:
            yield server


async def pipe(*arguments: str, typed: bytes) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, "-m", "catfish", "chat", *arguments],
        stdin=typed,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "1"},
    )


async def test_people_in_terminals_and_a_script_talk_across_a_restart(server: ServerProcess) -> None:
    at = ("--url", server.url, "--name")
    with trio.fail_after(TIMEOUT_S):
        async with AsyncExitStack() as terminals:
            # Whoever comes first makes the room, and may then delete what others write there.
            ann = await terminals.enter_async_context(pseudo_terminal("chat", "lobby", *at, "Ann"))
            await ann.shows("In lobby.")
            bob = await terminals.enter_async_context(pseudo_terminal("chat", "lobby", *at, "Bob"))
            await ann.shows("Ann>", "2 here")
            await bob.shows("In lobby.", "Bob>", "2 here")
            await ann.type("hello Bob\r")
            await bob.shows("#1 Ann: hello Bob")
            await ann.shows("#1 Ann: hello Bob")
            await bob.type("hal")
            await ann.shows("Bob is typing…")
            await bob.type("lo\r")
            await ann.shows("#2 Bob: hallo")
            await bob.type("/edit hello\r/react 1 👍\r")
            await ann.shows("Bob changed #2: hello", "Bob reacted 👍 to #1")
            await bob.type("/delete 1\r")
            await bob.shows("Refused: ")

            done = await pipe("lobby", *at, "script", typed="from a pipe\nünd noch was".encode())
            assert done.returncode == 0, done.stderr
            lines = done.stdout.decode().splitlines()
            assert [line.split(" ", 1)[1] for line in lines] == [
                "Ann: hello Bob  👍",
                "Bob: hello (edited)",
                "script: from a pipe",
                "script: ünd noch was",
            ]
            await ann.shows("script is here", "#3 script: from a pipe", "#4 script: ünd noch was", "script left")

            assert await server.end(signal.SIGTERM) == 0
            await ann.shows("The server is about to restart.", "Connection lost (")
            await ann.type("typed meanwhile\r")
            await ann.shows("1 to be sent")
            await server.restart()
            await ann.shows("Connected again; nothing was missed.")
            await bob.shows("Connected again; nothing was missed.", "#5 Ann: typed meanwhile")
            assert bob.text.count("#4 script") == 1
            assert "Ann left" not in bob.text
            assert "Ann lost the connection" not in bob.text

            await ann.type("\x04")
            assert await ann.ends() == 0
            assert ann.attributes() == ann.attributes_before
            await bob.shows("Ann left")
            await bob.type("half a line\x03")
            await bob.type("\x03")
            assert await bob.ends() == 0
            assert bob.attributes() == bob.attributes_before
            async with pseudo_terminal("chat", "lobby", *at, "Cat") as cat:
                await cat.shows("#5 Ann: typed meanwhile", "Nobody else is here.", "Cat>")
                cat.terminate()
                assert await cat.ends() == 0
                assert cat.attributes() == cat.attributes_before

        async with connect(server.url, user="u-x") as client:
            den = await client.create(kind="private", name="Den")
            done = await pipe(den["code"].upper(), *at, "script", typed=b"by code")
            assert done.returncode == 0, done.stderr
            await client.join(den["id"])
            assert [each["content"] for each in (await client.history(den["id"]))["messages"]] == ["by code"]
            refused = await pipe(den["id"], *at, "script", typed=b"by id")
            assert refused.returncode == 1
            assert b"does not let you in" in refused.stderr
        too_long = await pipe("lobby", *at, "script", typed=b"x" * 6_000 + b"\nshort")
        assert too_long.returncode == 1
        assert b"1 of 2 lines refused: content: " in too_long.stderr


async def test_nobody_there_is_explained(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT_S):
        done = await pipe("lobby", "--url", "ws://127.0.0.1:9", typed=b"")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        "catfish: no connection to ws://127.0.0.1:9/ws: Connection refused",
        "No server seems to run there; this starts one: catfish serve --port 9",
    ]
