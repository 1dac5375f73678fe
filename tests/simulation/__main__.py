"""Run many seeds, or one again:

python -m tests.simulation --seeds 5000 [--first N] [--jobs N]
python -m tests.simulation --seed 123          tells everything that happened
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time

from tests.simulation.world import simulate

PROGRESS = 100
"""Seeds after which it says how far it is."""


def run(seed: int) -> tuple[int, list[str]]:
    return seed, simulate(seed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, and tell what happens")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    chosen = parser.parse_args()
    write = sys.stdout.write
    if chosen.seed is not None:
        logging.basicConfig(level=logging.INFO, format="         %(levelname)s %(name)s %(message)s", stream=sys.stdout)
        failures = simulate(chosen.seed, lambda line: print(line))  # noqa: T201 - that is what it is for
        write("\n".join(["", *failures, ""]))
        return 1 if failures else 0
    logging.disable(logging.CRITICAL)
    started_at, failed = time.monotonic(), 0
    with multiprocessing.Pool(chosen.jobs) as pool:
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        for count, (seed, failures) in enumerate(pool.imap_unordered(run, seeds, 4), 1):
            if count % PROGRESS == 0:
                write(f"{count} seeds, {failed} failed, {time.monotonic() - started_at:.0f} s\n")
                sys.stdout.flush()
            if failures:
                failed += 1
                write(f"seed {seed} failed:\n    " + "\n    ".join(failures[:4]) + "\n")
                sys.stdout.flush()
    seconds = time.monotonic() - started_at
    write(f"{chosen.seeds} seeds, {failed} failed, {seconds:.0f} s; a failing one again: --seed N\n")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are gone through in the order of their hashes, which must be the same each time.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main())
