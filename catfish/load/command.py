"""From a plan to a report, whatever the scenario."""

from __future__ import annotations

from catfish.load.cross import run_cross
from catfish.load.errors import LoadError
from catfish.load.plan import Plan
from catfish.load.report import as_json, show
from catfish.load.scenarios import run_one
from catfish.load.statistics import Report


def measure(plan: Plan) -> Report:
    """Carry the plan out.

    Raises:
        LoadError: it broke off.
    """
    try:
        return run_cross(plan) if plan.scenario == "cross" else run_one(plan)
    except OSError as error:  # of a socket in a loop that is measured, which looks for nothing but bytes
        raise LoadError(f"a connection was lost: {error.strerror or error}") from None


def tell(report: Report, *, json: bool) -> None:
    """Write the report to standard output."""
    if json:
        print(as_json(report))  # noqa: T201 - this is what the command is for
    else:
        show(report)
