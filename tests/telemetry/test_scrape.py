"""A scrape of real workers, which miss their Redis; and that the dashboard and the alerts ask for what is there."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clients import open_trio_websocket
from tests.workers.process import WorkersProcess, read_one

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = re.compile(r"\b(?:catfish|process)_[a-z_]+\b")


def expressions_of_the_dashboard() -> list[str]:
    def walk(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [value["expr"]] if "expr" in value else []
            return here + [found for inner in value.values() for found in walk(inner)]
        if isinstance(value, list):
            return [found for inner in value for found in walk(inner)]
        return []

    return walk(json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8")))


def expressions_of_the_alerts() -> list[str]:
    text = (DOCS / "alerts.yml").read_text("utf-8")
    blocks: list[str] = re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", text, re.DOTALL)
    assert len(blocks) == text.count("- alert:")
    return blocks


def names_in(expressions: list[str]) -> set[str]:
    without_texts = [re.sub(r'"[^"]*"', "", expression) for expression in expressions]
    return {name for expression in without_texts for name in NAME.findall(expression)}


def names_of(text: str, suffixes: dict[str, tuple[str, ...]] | None = None) -> set[str]:
    """Every name under which Prometheus has a sample of these metrics, sooner or later."""
    suffixes = suffixes or {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {family.name + suffix for family in text_string_to_metric_families(text) for suffix in suffixes[family.type]}


async def scrape_each(server: WorkersProcess) -> list[str]:
    """What each worker shows."""
    found: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        while len(found) < server.count:
            # They stay open, so that the next one is left to another worker.
            stream = await server.dial()
            stack.push_async_callback(stream.aclose)
            await stream.send_all(f"GET /metrics HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode())
            text = (await read_one(stream)).body.decode()
            found[re.findall(r'catfish_workers_silent\{worker="(.)"\}', text)[0]] = text
    return list(found.values())


def workers_in(text: str) -> list[str]:
    return re.findall(r'catfish_rooms\{worker="(.)"\}', text)


async def test_any_worker_shows_all_and_the_dashboard_and_the_alerts_ask_for_what_is_there(
    tmp_path: Path, database_url: str
) -> None:
    with trio.fail_after(120):
        async with WorkersProcess.serving(tmp_path, database_url, count=2) as server:
            async with open_trio_websocket(server.url, "catfish.v1.json") as client:
                await client.send_message('["nonsense", {}, 1]')
                await client.get_message()
                answers = await scrape_each(server)
                with trio.move_on_after(30):
                    # A worker has not heard of the other yet, or that one is too busy to reply in time.
                    while [workers_in(answer) for answer in answers] != [["0", "1"]] * 2:
                        await trio.sleep(0.05)
                        answers = await scrape_each(server)
            text = answers[-1]
            assert [workers_in(answer) for answer in answers] == [["0", "1"]] * 2
            assert 'catfish_refusals_total{code="unknown_event",worker=' in text
            assert re.findall(r'catfish_dependency_up\{dependency="(\w+)",worker="0"\} (\S+)', text) == [
                ("database", "1.0"),
                ("redis", "0.0"),
            ]
            assert sum(map(float, re.findall(r'catfish_connections\{transport="native".*\} (\S+)', text))) == 1
            there = names_of(text)
            dashboard, alerts = names_in(expressions_of_the_dashboard()), names_in(expressions_of_the_alerts())
            assert len(dashboard) > 30
            assert len(alerts) > 10
            assert (dashboard | alerts) - there == set()
            documented = set(NAME.findall((DOCS / "operations.md").read_text("utf-8"))) - {"catfish_"}
            histograms = names_of(text, {"counter": (), "histogram": ("",), "gauge": ()})
            assert documented - there - histograms == set()
