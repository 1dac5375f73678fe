"""What the original servers did, done again by a server process of ours, to the client that browsers run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.process import ServerProcess
from tests.node.runner import require_node, run_node
from tests.transcripts.expectation import Expectation

HERE = Path(__file__).parent
FILES = {path.stem: path for path in sorted((HERE / "recorded").glob("*.json"))}


@pytest.mark.parametrize("name", FILES)
async def test_clients_of_the_original_server_find_what_they_know(name: str, database_url: str, tmp_path: Path) -> None:
    require_node("socket.io-client")
    async with ServerProcess.running(tmp_path, CATFISH_DATABASE_URL=database_url) as server:
        played = await run_node(HERE / "play.mjs", f"http://{server.address}", str(FILES[name]))
    expectation = Expectation(json.loads(FILES[name].read_text("utf-8")), played["variables"])
    log = {client: [(step, event, args) for step, event, args in heard] for client, heard in played["log"].items()}
    answers = {int(step): answer for step, answer in played["answers"].items()}
    assert expectation.differences(log, answers) == []
    assert b"Traceback" not in server.output
