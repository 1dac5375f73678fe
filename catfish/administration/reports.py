"""`catfish reports`: what users have reported, with what was said."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import msgspec

from catfish.administration.commands import JSON_OPTION, REACHES, administrator_settings
from catfish.cli import Failure, is_terminal, run_to_end, settings_options

if TYPE_CHECKING:
    from catfish.config import Settings
    from catfish.rooms.moderation import Report, ReportsPage


@click.group(
    epilog=f"""
\b
Examples:
  catfish reports list
  catfish reports show 17
  catfish reports handled 17

{REACHES}
"""
)
def reports() -> None:
    """List what users have reported, look at one report, or note that it was seen to."""


@reports.command("list")
@click.option("--handled", is_flag=True, help="Those too that were handled.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="Reports of a page.")
@click.option("--before", type=click.IntRange(min=1), metavar="N", help="Continue below report N.")
@JSON_OPTION
@settings_options("state_dir")
def reports_list(
    handled: bool,
    limit: int,
    before: int | None,
    as_json: bool,
    config: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """List reports, the newest first."""
    settings = administrator_settings(config, assignments, flags)
    page = run_to_end(partial(_list, settings, below=before, limit=limit, handled=handled))
    if as_json:
        following = page.reports[-1].id if page.more else None
        click.echo(_as_json({"reports": [_plain(report) for report in page.reports], "before": following}))
        return
    _print_reports(page.reports)
    if page.more:
        click.echo(f"there are more: --before {page.reports[-1].id}", err=True)


@reports.command("show")
@click.argument("report", type=click.IntRange(min=1))
@JSON_OPTION
@settings_options("state_dir")
def reports_show(report: int, as_json: bool, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Show the report with the number REPORT, and what had been said in the room."""
    settings = administrator_settings(config, assignments, flags)
    page = run_to_end(partial(_list, settings, below=report + 1, limit=1, handled=True))
    if not page.reports or page.reports[0].id != report:
        raise _no_such_report(report)
    if as_json:
        click.echo(_as_json(_plain(page.reports[0])))
        return
    from catfish.administration.telling import print_messages

    _print_reports(page.reports)
    click.echo()
    print_messages(page.reports[0].messages, terminal=is_terminal())


@reports.command("handled")
@click.argument("report", type=click.IntRange(min=1))
@settings_options("state_dir")
def reports_handled(report: int, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Note that the report with the number REPORT was seen to."""
    settings = administrator_settings(config, assignments, flags)
    if not run_to_end(partial(_handle, settings, report)):
        raise _no_such_report(report)
    click.echo(f"report {report} is handled")


async def _list(settings: Settings, *, below: int | None, limit: int, handled: bool) -> ReportsPage:
    from catfish.administration.asking import ask

    return await ask(settings, lambda store: store.moderation.reports(below=below, limit=limit, handled=handled))


async def _handle(settings: Settings, report: int) -> bool:
    from catfish.administration.asking import ask

    return await ask(settings, lambda store: store.moderation.handle(report))


def _print_reports(found: list[Report]) -> None:
    from catfish.administration.telling import Table, when

    table = Table("report", "at", "room", "by", "about", "message", "reason", "handled")
    for report in found:
        handled = None if report.handled_at is None else when(report.handled_at)
        style = "" if handled is None else "dim"
        cells = report.id, when(report.at), report.room, report.by, report.user, report.seq, report.reason, handled
        table.add(*cells, style=style)
    table.print(terminal=is_terminal())


def _plain(report: Report) -> dict[str, Any]:
    """Times in milliseconds since the epoch."""
    told: dict[str, Any] = msgspec.to_builtins(report)
    told["handledAt"] = told.pop("handled_at")
    return told


def _as_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)


def _no_such_report(report: int) -> Failure:
    return Failure(f"there is no report {report}")
