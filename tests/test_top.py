"""`catfish top`: what it reads, what it makes of it, and that it fits a narrow terminal."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from catfish.administration.scraping import Look, Row, check_url, compare, parse
from catfish.administration.top import notes, render, short, short_names, top
from catfish.telemetry.exposition import expose
from catfish.telemetry.families import Families, Family

ROW = Row(
    server="8080",
    worker="0",
    connections=9_123,
    rooms=812_345,
    received=99_999.0,
    sent=1_234_567.0,
    bytes=987_654_321.0,
    commit_ms=1234.5,
    loop_ms=12.34,
    mirror_ms=3.4,
    cpu=103.2,
    resident=1_234_567_890.0,
    refusals=0.0,
    away=(),
)


def numbers(received: int, cpu: float, *, redis: int = 1) -> list[Family]:
    families = Families()
    families.gauges("catfish_connections", "", "transport", {"native": 3, "http": 1})
    families.gauge("catfish_rooms", "", 2)
    families.counter("catfish_messages_received", "", received)
    families.counter("catfish_bytes_sent", "", 10 * received)
    families.gauges("catfish_dependency_up", "", "dependency", {"database": 1, "redis": redis})
    families.gauge("catfish_mirror_lag_seconds", "", 0.004)
    families.counter("process_cpu_seconds", "", cpu)
    return families.all


def looked(at: float, **workers: list[Family]) -> Look:
    named = {name.removeprefix("w"): families for name, families in workers.items()}
    return Look(at, parse(expose(named, "").body.decode()))


@pytest.fixture(autouse=True)
def _leave_the_log_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in this process, whose log is also that of the other tests."""
    monkeypatch.setattr("catfish.log.set_up", lambda **_: None)


def test_rates_are_what_came_between_two_looks_of_each_worker() -> None:
    before = looked(10, w0=numbers(100, 1.0), w1=numbers(50, 2.0))
    now = looked(12, w0=numbers(140, 2.0), w1=numbers(20, 2.5, redis=0))
    first, second = compare("8080", before, now)
    assert (first.connections, first.rooms, first.received, first.bytes, first.cpu) == (4, 2, 20, 200, 50)
    assert first.mirror_ms == pytest.approx(4)
    assert (first.commit_ms, first.away) == (None, ())
    # The second one was started again meanwhile: its counters began anew.
    assert (second.received, second.cpu, second.away) == (10, 25, ("redis",))
    assert notes([first, second], {"8081": "connection refused"}) == [
        "8081 does not answer: connection refused",
        "redis is away: 8080/1",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (7.46, "7.5"),
        (42.4, "42"),
        (999, "999"),
        (999.6, "1.0k"),
        (12_345, "12k"),
        (1_234_567, "1.2M"),
        (9.96, "10"),
        (2e15, "2000T"),
        (None, ""),
    ],
)
def test_numbers_are_short(number: float | None, text: str) -> None:
    assert short(number) == text


def test_it_fits_into_80_columns_with_large_numbers() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(render([ROW, ROW], {"8081": "it is gone"}))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    assert "8080/0" in text
    assert "1.6M" in text  # the rooms of both
    assert "8081 does not answer: it is gone" in text


def test_names_are_ports_where_these_tell_servers_apart() -> None:
    assert list(short_names(["http://a:8080", "http://a:8081/"]).values()) == ["8080", "8081"]
    assert list(short_names(["http://a:8080", "http://b:8080"]).values()) == ["a:8080", "b:8080"]
    assert list(short_names(["unix:/run/x"]).values()) == ["unix:/run/x"]


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "localhost:8080", "http://a/metrics", "unix:x", "http://u@a"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        check_url(url)


@contextmanager
def metrics_server(key: str | None = None) -> Iterator[str]:
    """Answers with more messages at each scrape."""
    scrapes = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal scrapes
            scrapes += 1
            allowed = key is None or self.headers["x-api-key"] == key
            self.send_response(200 if allowed else 401)
            self.end_headers()
            if allowed:
                self.wfile.write(expose({"0": numbers(scrapes * 100, scrapes)}, "").body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(top, [*arguments, "--interval", "0.2"], env=environment)


def test_once_prints_a_line_for_each_worker_and_numbers_as_json() -> None:
    with metrics_server() as url:
        lines = run("--once", "--url", url).stdout.splitlines()
        assert lines[0].split("\t")[:3] == ["worker", "conn", "rooms"]
        assert lines[1].split("\t")[:3] == [f"{url.rpartition(':')[2]}/0", "4", "2"]
        (row,) = json.loads(run("--json", "--url", url).stdout)["workers"]
        assert row["received"] > 0


def test_a_key_is_sent_and_asked_for_and_a_server_that_is_not_there_is_told() -> None:
    with metrics_server("sesame") as url:
        assert run("--once", "--url", url, CATFISH_API_KEY="sesame").exit_code == 0
        refused = run("--once", "--url", url)
        assert (refused.exit_code, "it wants the API key" in refused.stderr) == (1, True)
    gone = run("--once", "--url", url)
    assert (gone.exit_code, "does not answer" in gone.stderr) == (1, True)
    assert run("--once", "--url", "nowhere").exit_code == 2
