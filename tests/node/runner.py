"""Scripts with JavaScript clients, where Node and its packages are present.

The packages are those of `package.json`, in `tests/node/node_modules` or where CATFISH_TEST_NODE_MODULES says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

HERE = Path(__file__).parent
MODULES = Path(os.environ.get("CATFISH_TEST_NODE_MODULES", HERE / "node_modules"))


def require_node(package: str) -> None:
    """Skip the test, with a sentence that says why, where the package is not."""
    if shutil.which("node") is None:
        pytest.skip("there is no node on the PATH")
    if not (MODULES / package).is_dir():
        pytest.skip(f"{package} is not installed: npm install --prefix tests/node")


async def run_node(script: Path, *arguments: str) -> Any:
    """Run a script; what it writes, which is JSON. The packages' folder is its first argument."""
    finished = await trio.run_process(
        ["node", str(script), str(MODULES), *arguments], capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    assert finished.returncode == 0, f"exit status {finished.returncode}: {finished.stdout.decode()}"
    return json.loads(finished.stdout)
