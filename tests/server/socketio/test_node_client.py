"""The server of `docs/socketio.md` and the clients that browsers run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.runner import require_node, run_node
from tests.server.docs import open_documented

SCRIPT = Path(__file__).parent / "client.mjs"


async def test_socket_io_client_uses_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_node("socket.io-client")
    async with open_documented("socketio.md", monkeypatch, ping_timeout_ms=3000, connect_timeout_s=10.0) as url:
        found = await run_node(SCRIPT, url, "one")
    assert set(found) == {"polling", "websocket", "polling+websocket"}
    for transports, one in found.items():
        assert one == {
            "auth": {"token": "123"},
            "ack": {"text": "é😀"},
            "binary": "010203",
            "half": "\ufffd",
            "customAuth": {"other": 1},
            "error": "Invalid namespace",
            "transport": transports.split("+")[-1],
            "alive": True,
            "inOrder": True,
            "count": 201,
            "last": "last",
        }


async def test_a_crowd_that_talks_while_it_upgrades_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_node("socket.io-client")
    unhurried = {"ping_interval_ms": 25_000, "ping_timeout_ms": 20_000, "connect_timeout_s": 45.0}
    async with open_documented("socketio.md", monkeypatch, **unhurried) as url:
        found = await run_node(SCRIPT, url, "crowd")
    assert found == {"right": 200, "upgraded": 200}
