"""A few seeds of the simulation, and one that is another every day; thousands: `python -m tests.simulation`."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]
SEEDS = 60


def run(*arguments: str) -> None:
    """In a process of its own: how strings are hashed is a part of what a seed stands for."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_the_promises_hold_whatever_fails() -> None:
    run("--seeds", str(SEEDS))


def test_the_promises_hold_in_the_run_of_the_day() -> None:
    today = datetime.datetime.now(datetime.UTC)
    run("--first", today.strftime("%Y%m%d"), "--seeds", "1")


def test_a_seed_stands_for_one_run() -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        simulate(3, lines.append)
    assert len(told[0]) > 100
    assert told[0] == told[1]
