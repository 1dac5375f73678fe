"""What the original servers did, done again by ours."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.contracts.harness import Sockets
from tests.contracts.replay import Replay
from tests.server.harness import start_server

FILES = sorted((Path(__file__).parents[1] / "transcripts" / "recorded").glob("*.json"))
ALL = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
TRANSCRIPTS = {name: transcript for name, transcript in ALL.items() if transcript["expect"]}
CONVERSATION, ANN, BOB, CYD = "7f1e6f6e-5f0b-4b6e-9a64-0d8f4f1c9b11", "cm0ann", "cm0bob", "cm0cyd"
CAPTURED = {"ab": CONVERSATION, "id_ann": ANN, "id_bob": BOB, "id_cyd": CYD}
SHOWN = {"{{id1}}": ANN, "{{id2}}": BOB, "{{id3}}": CYD, "{{id4}}": CONVERSATION}
"""What the HTTP steps of PulseChat's transcripts give to its sockets."""


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_clients_hear_what_the_original_server_told_them(
    name: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sockets = Sockets(await start_server(nursery))
    replay = Replay(TRANSCRIPTS[name], CAPTURED, SHOWN)
    assert await replay.run(sockets) == []


async def test_a_transcript_that_is_not_kept_is_noticed(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    transcript = copy.deepcopy(TRANSCRIPTS["catfish_pair_and_chat"])
    del transcript["expect"]["a"][2]
    transcript["expect"]["b"][1]["args"] = ["something else"]
    assert len(await Replay(transcript).run(Sockets(await start_server(nursery)))) == 2
