"""`catfish top`: what running servers do, in a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from catfish.administration.commands import JSON_OPTION, administrator_settings
from catfish.administration.scraping import Look, Row, Unreachable, check_url, compare, look
from catfish.administration.telling import Table
from catfish.cli import Failure, is_terminal, native_url, settings_options

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADERS: Final = ("worker", "conn", "rooms", "in/s", "out/s", "bytes/s", "commit", "loop", "mirror", "CPU", "RSS")
"""Fits into 80 columns: the numbers are shortened to five characters."""
UNITS: Final = ("", "k", "M", "G", "T")


@click.command(
    epilog="""
\b
Examples:
  catfish top
  catfish top --url http://10.0.0.5:8080 --url http://10.0.0.6:8080
  catfish top --once                               one table, for scripts
  CATFISH_API_KEY=… catfish top --url https://chat.example

\b
Columns:
  conn, rooms         open connections, rooms in memory
  in/s, out/s         messages from and to WebSocket clients
  bytes/s             both ways together
  commit              mean time of the journal's transactions
  loop                the worst lag of the event loop in the last minute
  mirror              from an instance to itself through Redis
  CPU, RSS            of the process
"""
)
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="Server to watch: http://HOST:PORT, https://… or unix:/PATH."
)
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, metavar="S")
@click.option("--once", is_flag=True, help="Look twice, one interval apart, print one table and end.")
@JSON_OPTION
@settings_options("port")
def top(
    urls: tuple[str, ...],
    interval: float,
    once: bool,
    as_json: bool,
    config: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Watch running servers: connections, rooms, messages, journal, lag, memory, of every worker.

    Without --url it is the server of these settings on this machine.
    """
    settings = administrator_settings(config, assignments, flags)
    if not urls:
        urls = (native_url(settings).replace("ws", "http", 1).removesuffix("/ws"),)
    try:
        watch = Watch([check_url(url) for url in urls], settings.api_key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        if once or as_json or not is_terminal():
            _print_once(watch, interval, as_json=as_json)
        else:
            _run_live(watch, interval)
    except KeyboardInterrupt:
        raise SystemExit(130 if once else 0) from None


class Watch:
    """Several servers, looked at at the same time."""

    def __init__(self, urls: Sequence[str], api_key: str | None) -> None:
        self._urls = urls
        self._api_key = api_key
        self._looks: dict[str, Look] = {}
        self._names = short_names(urls)

    def look(self) -> tuple[list[Row], dict[str, str]]:
        """What happened since the last look, and why whoever did not answer did not, by the server's short name."""
        with ThreadPoolExecutor(len(self._urls)) as threads:
            found = list(threads.map(self._try, self._urls))
        rows: list[Row] = []
        problems: dict[str, str] = {}
        for url, each in zip(self._urls, found, strict=True):
            if isinstance(each, Unreachable):
                problems[self._names[url]] = str(each)
                self._looks.pop(url, None)
                continue
            before = self._looks.get(url)
            self._looks[url] = each
            rows += compare(self._names[url], each if before is None else before, each)
        return rows, problems

    def _try(self, url: str) -> Look | Unreachable:
        try:
            return look(url, self._api_key)
        except Unreachable as problem:
            return problem


def short_names(urls: Iterable[str]) -> dict[str, str]:
    """Each URL's port, where these differ and there are any; else as much as is needed to tell them apart."""
    names = {url: url.rpartition("//")[2].rstrip("/") for url in urls}
    ports = {url: name.rpartition(":")[2] for url, name in names.items()}
    told_apart = len(set(ports.values())) == len(names) and all(port.isdigit() for port in ports.values())
    return ports if told_apart else names


def short(number: float | None, unit: str = "") -> str:
    """In five characters at most, with its unit: 0, 7.5, 999, 12k, 1.2M."""
    if number is None:
        return ""
    for prefix in UNITS:
        if number < 999.5 or prefix == UNITS[-1]:
            digits = 1 if number < 9.95 and (prefix or number != int(number)) else 0
            return f"{number:.{digits}f}{prefix}{unit}"
        number /= 1000
    raise AssertionError


def count(number: int) -> str:
    """Whole, as long as five characters hold it."""
    return str(number) if number < 100_000 else short(number)


def cells(row: Row) -> list[str]:
    """Of a table with `HEADERS`."""
    return [
        f"{row.server[-10:]}/{row.worker}",
        count(row.connections),
        count(row.rooms),
        short(row.received),
        short(row.sent),
        short(row.bytes),
        short(row.commit_ms, "ms"),
        short(row.loop_ms, "ms"),
        short(row.mirror_ms, "ms"),
        f"{row.cpu:.0f}%",
        short(row.resident),
    ]


def _total(rows: Sequence[Row]) -> list[str]:
    def add(name: str) -> float:
        return float(sum(getattr(row, name) for row in rows))

    counts = [count(int(add(name))) for name in ("connections", "rooms")]
    rates = [short(add(name)) for name in ("received", "sent", "bytes")]
    return ["all", *counts, *rates, "", "", "", f"{add('cpu'):.0f}%", short(add("resident"))]


def notes(rows: Iterable[Row], problems: Mapping[str, str]) -> list[str]:
    """What is not as it should be, a sentence each."""
    found = [f"{name} does not answer: {why}" for name, why in problems.items()]
    away: dict[str, list[str]] = {}
    for row in rows:
        for name in row.away:
            away.setdefault(name, []).append(f"{row.server}/{row.worker}")
    found += [f"{name} is away: {', '.join(workers)}" for name, workers in away.items()]
    refusals = sum(row.refusals for row in rows)
    if refusals >= 0.5:
        found.append(f"{short(refusals)} requests a second are refused")
    return found


def _print_once(watch: Watch, interval_s: float, *, as_json: bool) -> None:
    watch.look()
    time.sleep(interval_s)
    rows, problems = watch.look()
    if as_json:
        content = {"workers": [attrs.asdict(row) for row in rows], "problems": problems}
        click.echo(json.dumps(content, ensure_ascii=False, indent=2))
    elif rows:
        table = Table(*HEADERS)
        for row in rows:
            table.add(*cells(row))
        table.print(terminal=is_terminal())
    if not as_json:
        for note in notes(rows, problems):
            click.echo(note, err=True)
    if problems:
        raise Failure(f"{len(problems)} of the servers did not answer")


def _run_live(watch: Watch, interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    rows, problems = watch.look()
    with Live(render(rows, problems), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(rows, problems), refresh=True)
            time.sleep(interval_s)
            rows, problems = watch.look()


def render(rows: Sequence[Row], problems: Mapping[str, str]) -> RenderableType:
    """One screen."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, header_style="bold", pad_edge=False, show_footer=len(rows) > 1, footer_style="bold")
    for place, (header, footer) in enumerate(zip(HEADERS, _total(rows), strict=True)):
        table.add_column(header, footer, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row), style="red" if row.away else "")
    title = Text(time.strftime("catfish top  %H:%M:%S") + "  Ctrl-C ends", "dim")
    return Group(title, Text(""), table, Text(""), *(Text(note, "bold red") for note in notes(rows, problems)))
