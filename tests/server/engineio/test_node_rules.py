"""The rules of the protocol's test suite, with Node's own HTTP and WebSocket clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.runner import require_node, run_node
from tests.server.docs import open_documented


async def test_every_rule_of_the_suite_holds_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    require_node("ws")
    async with open_documented("engineio.md", monkeypatch) as url:
        held = await run_node(Path(__file__).parent / "rules.mjs", url)
    assert len(held) == 17
    assert [rule for rule, holds in held.items() if not holds] == []
