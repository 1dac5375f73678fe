"""What bin/test does, in the environment of the tests: lint, formatting, types, tests.

    bin/test                 everything; a later check runs also when an earlier one failed
    bin/test ARGUMENTS…      only pytest, with these arguments
    bin/test faults …        the long fault matrix

What the tests need beyond Python packages (Node, and the JavaScript clients of tests/node) is installed where that is
possible. Tests that need something that is not here skip themselves with a sentence; pytest's summary lists those.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODE = ROOT / "tests" / "node"
FAULTS = ROOT / "tests" / "faults"

CHECKS = {
    "lint": ["ruff", "check", "--quiet"],
    "formatting": ["ruff", "format", "--check", "--quiet"],
    "types": ["mypy", "--strict", "--no-error-summary"],
}

IN_PARALLEL = ["--numprocesses", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]
"""Many tests wait for servers that they start, so there is one process more than cores. The tests of a file stay
together because they share what its fixtures start, and the files keep their order (tests/conftest.py)."""


def main(arguments: list[str]) -> int:
    install_node()
    if arguments[:1] == ["faults"]:
        return run_pytest([str(FAULTS), "-m", "long", "--log-cli-level=INFO", *arguments[1:]])
    if arguments:
        return run_pytest(arguments)
    failed = [name for name, command in CHECKS.items() if run(name, command) != 0]
    status = run_pytest(IN_PARALLEL, ROOT)
    if failed:
        print(f"failed before the tests: {', '.join(failed)}", file=sys.stderr, flush=True)
    return status or (1 if failed else 0)


def install_node() -> None:
    """Node and the packages of tests/node, once; nothing is done where they are named by CATFISH_TEST_NODE_MODULES."""
    if "CATFISH_TEST_NODE_MODULES" in os.environ:
        return
    if shutil.which("npm") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for command in (
            ["apt-get", "update"],
            ["apt-get", "install", "--yes", "--no-install-recommends", "nodejs", "npm"],
        ):
            attempt(command)
    if shutil.which("npm") is None:
        print("catfish: no npm on the PATH; with it the tests also run JavaScript clients", file=sys.stderr, flush=True)
        return
    stamp = NODE / "node_modules" / ".catfish"
    wanted = hashlib.sha256((NODE / "package.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    if attempt(["npm", "install", *quiet, "--prefix", str(NODE)]):
        stamp.write_text(wanted)


def attempt(command: list[str]) -> bool:
    """Run a command that may fail; what it says is shown only then."""
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if finished.returncode:
        print(f"catfish: this failed: {' '.join(command)}\n{finished.stdout}", file=sys.stderr, flush=True)
    return finished.returncode == 0


def run(name: str, command: list[str]) -> int:
    print(f"{name}: {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-P", "-m", *command], cwd=ROOT, check=False).returncode


def run_pytest(arguments: list[str], directory: Path | None = None) -> int:
    """pytest, from the directory that the arguments' paths are relative to: the caller's, or another."""
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], cwd=directory, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
