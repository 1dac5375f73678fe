"""What bin/test does, in the environment of the tests: lint, formatting, types, tests.

    bin/test                 everything; a later check runs also when an earlier one failed
    bin/test ARGUMENTS…      only pytest, with these arguments
    bin/test faults …        the long fault matrix

Tests that need something that is not here skip themselves with a sentence; pytest's summary lists those sentences.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults"

CHECKS = {
    "lint": ["ruff", "check", "--quiet"],
    "formatting": ["ruff", "format", "--check", "--quiet"],
    "types": ["mypy", "--strict", "--no-error-summary"],
}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["faults"]:
        return test([str(FAULTS), "-m", "long", *arguments[1:]]) if FAULTS.exists() else no_faults()
    if arguments:
        return test(arguments)
    failed = [name for name, command in CHECKS.items() if run(name, command) != 0]
    status = test([])
    if failed:
        print(f"failed before the tests: {', '.join(failed)}", file=sys.stderr, flush=True)
    return status or (1 if failed else 0)


def run(name: str, command: list[str]) -> int:
    print(f"{name}: {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-P", "-m", *command], cwd=ROOT, check=False).returncode


def test(arguments: list[str]) -> int:
    """pytest, from the directory that the arguments' paths are relative to."""
    directory = None if arguments else ROOT
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], cwd=directory, check=False).returncode


def no_faults() -> int:
    print("catfish: there is no fault matrix yet; it comes with several instances", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
