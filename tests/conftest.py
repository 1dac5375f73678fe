"""What every test shares: the profile of the property tests, and the list of what could not run here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import (  # noqa: F401 - fixtures
    database_url,
    empty_database_url,
    postgres_server,
    postgres_template,
)

# No deadline: a slow machine is not a failure. Failing examples are printed so that they can be pinned with @example.
hypothesis.settings.register_profile("catfish", deadline=None, print_blob=True)
hypothesis.settings.load_profile("catfish")

TESTS = Path(__file__).parent

SLOWEST = ("faults", "workers", "e2e", "simulation", "transcripts", "load", "mirror")
"""Directories whose files begin first, so that at the end no process works alone on a long one."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        directory = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        return SLOWEST.index(directory) if directory in SLOWEST else len(SLOWEST)

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """Give a skip within an async test its reason back: pytest-trio 0.8 raises another one without it."""
    skipped = call.excinfo.value if call.excinfo else None
    if isinstance(skipped, pytest.skip.Exception) and not skipped.msg:
        error = skipped.__context__
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, pytest.skip.Exception):
            skipped.msg = error.msg


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in plain words which parts did not run, and why: a test skips itself with a sentence as its reason."""
    reasons = Counter(_reason(report) for report in terminalreporter.getreports("skipped"))
    if reasons:
        terminalreporter.section("could not run here")
        for reason, tests in sorted(reasons.items()):
            terminalreporter.line(f"{tests} test{'s' if tests > 1 else ''}: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason given to `pytest.skip`; `longrepr` of a skipped report is (path, line, "Skipped: reason")."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
