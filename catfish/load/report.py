"""Figures for people and for programs."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from catfish.load.plan import SCENARIOS
from catfish.load.statistics import Figure, Report


def as_json(report: Report) -> str:
    """One line; a figure that could not be measured is null."""
    return msgspec.json.encode(report.as_json()).decode()


def show(report: Report, console: Console | None = None) -> None:
    """A heading, a table, and what should be known about it, on standard output."""
    console = console or Console()
    heading = f"{report.scenario} over {report.protocol}: n={report.n}, {report.seconds:g} s, {report.size} bytes"
    console.print(Text(heading, "bold"), soft_wrap=True)
    console.print(Text(SCENARIOS[report.scenario].meaning, "dim"), soft_wrap=True)
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    table.columns[1].justify = "right"
    for figure in report.figures:
        table.add_row(Text(figure.label), Text(number(figure), "bold"), Text(figure.unit))
    console.print(table)
    for note in report.notes:
        console.print(Text(f"Note: {note}.", "yellow"), soft_wrap=True)


def number(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:,.{figure.digits}f}"
