"""Connection state recovery with the client that browsers run."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.e2e.process import ServerProcess
from tests.node.runner import HERE, require_node, run_node


async def test_socket_io_client_is_told_the_truth_about_its_recovery(tmp_path: Path) -> None:
    require_node("socket.io-client")
    with trio.fail_after(120):
        async with ServerProcess.running(tmp_path / "state", "--set", "recovery_s=120") as server:
            found = await run_node(HERE / "recovery.mjs", f"http://{server.address}", "12")
    for listener in found:
        assert listener.pop("connects") > 6
        assert listener == {"first": False, "others": True, "ids": 1, "inOrder": True, "complete": True}
