"""`catfish load`, as people type it: wrong arguments, servers that are none, and every scenario against a real one.

Nothing here looks at a time: machines differ.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click.testing
import pytest
import trio

from catfish.cli import cli
from catfish.load.plan import PROTOCOLS, SCENARIOS
from catfish.load.report import show
from catfish.load.statistics import Figure, Report
from tests.e2e.process import ServerProcess
from tests.node.runner import MODULES, require_node
from tests.redis_server import redis_prefix, redis_server  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0
SMALL = {"echo": 5, "fan": 5, "pair": 4, "chat": 10, "idle": 12, "storm": 5}
PATTERN = re.compile(r"listens on port (\d+)")


async def load(*arguments: str, status: int = 0) -> str:
    """Run the command; what it wrote."""
    done = await trio.run_process(
        [sys.executable, "-m", "catfish", "load", *arguments],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=ROOT,
    )
    output = done.stdout.decode()
    assert done.returncode == status, output
    return output


async def measure(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await load(*arguments, "--json", "--seconds", "0.3"))
    return found


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["load", *arguments], prog_name="catfish")


# Arguments


def test_the_help_has_examples_and_every_scenario() -> None:
    text = run("--help").output
    assert "Examples:" in text
    for scenario in SCENARIOS:
        assert re.search(rf"^ +{scenario} ", text, re.MULTILINE)


def test_the_document_names_every_scenario_and_option() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    for scenario in SCENARIOS:
        assert f"| `{scenario}` |" in text
    for option in re.findall(r"^  (--(?!json)\w+)", run("--help").output, re.MULTILINE):
        assert f"| `{option}` |" in text


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["echo", "--n", "x"], ["echo", "--n", "0"], ["cross"], ["echo", "--url", "wss://x"]]
)
def test_a_wrong_command_is_exit_status_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_report_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    figures = (Figure("a", "requests", 12345.6, "per s", 0), Figure("b", "server CPU", None, "us"))
    show(Report("echo", "native", 5, 0.3, 100, figures, ("look here",)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "echo over native: n=5, 0.3 s, 100 bytes"
    assert [line.split() for line in lines[2:4]] == [["requests", "12,346", "per", "s"], ["server", "CPU", "-", "us"]]
    assert lines[-1] == "Note: look here."


# Servers that are none


async def test_nobody_listens() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        output = await load("echo", "--n", "1", "--url", f"ws://127.0.0.1:{port}", status=1)
    assert output == f"catfish: cannot connect to 127.0.0.1:{port}: Connection refused\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "the server refuses a WebSocket: HTTP/1.1 404 Not Found"),
        (b"HTTP/1.1 101 OK\r\n\r\n", "the server chose the subprotocol None, not catfish.v1.json"),
        (b"HTTP/1.1", "ended a connection after b'HTTP/1.1'"),
        (b"x" * 20_000, "answers with an endless head"),
        (
            b"HTTP/1.1 101 OK\r\nSec-WebSocket-Protocol: catfish.v1.json\r\n\r\n\x88\x04\x03\xf7no",
            "the server closed a connection: 1015 no",
        ),
    ],
)
async def test_a_server_that_is_none_is_told_in_a_line(answer: bytes, said: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        if await stream.receive_some(4096):  # the first connection only asks whether there is somebody
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        output = await load("echo", "--n", "1", "--url", f"ws://127.0.0.1:{port}", status=1)
        nursery.cancel_scope.cancel()
    assert output.startswith("catfish: ")
    assert said in output
    assert len(output.splitlines()) == 1


async def test_a_server_that_vanishes_is_told_in_a_line(tmp_path: Path) -> None:
    """It accepts the handshake and is gone with the first request."""

    async def serve(stream: trio.SocketStream) -> None:
        if await stream.receive_some(4096):
            await stream.send_all(b"HTTP/1.1 101 OK\r\nSec-WebSocket-Protocol: catfish.v1.json\r\n\r\n")
            await stream.receive_some(4096)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        output = await load("echo", "--n", "2", "--url", f"ws://localhost:{port}", status=1)
        nursery.cancel_scope.cancel()
    assert re.fullmatch(rf"catfish: localhost:{port} (ended|lost) a connection.*\n", output)


# Every scenario


async def test_every_scenario_in_every_protocol(tmp_path: Path, database_url: str) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state", CATFISH_DATABASE_URL=database_url) as server:
            for scenario, n in SMALL.items():
                for protocol in ("native", "socketio") if scenario != "echo" else PROTOCOLS:
                    arguments = scenario, "--n", str(n), "--protocol", protocol, "--url", f"ws://{server.address}"
                    check(await measure(*arguments), scenario, protocol)
            text = await load("echo", "--n", "2", "--seconds", "0.2", "--url", server.url, "--pid", str(server.pid))
    assert text.startswith("echo over native: n=2, 0.2 s, 100 bytes\n")
    assert re.search(r"^server CPU per request +[\d.]+ +us", text, re.MULTILINE)
    assert b"ERROR" not in server.output
    assert b"WARNING" not in server.output


def check(found: dict[str, Any], scenario: str, protocol: str) -> None:
    assert (found["scenario"], found["protocol"]) == (scenario, protocol)
    figures = found["figures"]
    rates = [value for key, value in figures.items() if key.endswith("_per_s")]
    assert bool(rates) == (scenario != "idle")
    assert all(rate > 0 for rate in rates)
    if scenario == "chat":
        assert figures["refused"] == 0
    if Path("/proc/self/fd").is_dir():
        unknown = [key for key, value in figures.items() if value is None]
        assert unknown == []


async def test_cross_measures_two_instances(
    tmp_path: Path,
    database_url: str,
    redis_server: str,  # noqa: F811
    redis_prefix: str,  # noqa: F811
) -> None:
    shared = {
        "CATFISH_DATABASE_URL": database_url,
        "CATFISH_REDIS_URL": redis_server,
        "CATFISH_REDIS_PREFIX": redis_prefix,
    }
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path / "one", **shared) as one,
            ServerProcess.running(tmp_path / "two", **shared) as two,
        ):
            urls = "--url", f"ws://{one.address}", "--url", f"ws://{two.address}"
            figures = (await measure("cross", *urls, "--n", "20", "--rate", "100"))["figures"]
    for kind in ("chat", "emit"):
        assert figures[f"{kind}_lost"] == 0
        assert figures[f"{kind}_cross_wait_p50_ms"] > 0


async def test_cross_says_when_nothing_crosses(tmp_path: Path, database_url: str, empty_database_url: str) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with (
            ServerProcess.running(tmp_path / "one", CATFISH_DATABASE_URL=database_url) as one,
            ServerProcess.running(tmp_path / "two", "--migrate", CATFISH_DATABASE_URL=empty_database_url) as two,
        ):
            urls = "--url", f"ws://{one.address}", "--url", f"ws://{two.address}"
            output = await load("cross", *urls, "--n", "10", "--seconds", "0.2", status=1)
    assert output.startswith("catfish: no stored message arrived: do both instances have one database")


# The peer on Node


@asynccontextmanager
async def documented_peer(directory: Path) -> AsyncIterator[str]:
    """Run the server of `docs/performance.md`; its URL."""
    found = re.search(r"```js\n(.*?)```", (ROOT / "docs" / "performance.md").read_text(), re.DOTALL)
    assert found is not None
    script = directory / "peer.mjs"
    script.write_text(found[1])
    (directory / "node_modules").symlink_to(MODULES)
    node = shutil.which("node")
    assert node is not None
    process = await trio.lowlevel.open_process([node, str(script), "0"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with process.stdout:
            line = b""
            while not (match := PATTERN.search(line.decode())):
                more = await process.stdout.receive_some()
                assert more, "it has ended"
                line += more
            yield f"ws://127.0.0.1:{match[1]}"
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_the_documented_peer_is_driven_in_every_scenario(tmp_path: Path) -> None:
    require_node("socket.io")
    with trio.fail_after(TIMEOUT_S):
        async with documented_peer(tmp_path) as url:
            for scenario, n in SMALL.items():
                arguments = scenario, "--n", str(n), "--protocol", "socketio-peer", "--url", url
                check(await measure(*arguments), scenario, "socketio-peer")
