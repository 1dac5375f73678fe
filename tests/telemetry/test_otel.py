"""Spans, as the in-memory exporter gets them."""

from __future__ import annotations

import sys
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.errors import StartError
from catfish.http.app import build_app
from catfish.http.observed import HttpFigures, Observed
from catfish.mirror.redis_mirror import RedisMirror
from catfish.telemetry.otel import open_tracing
from catfish.tracing import OFF, Tracing
from tests.http.harness import call
from tests.http.test_observed import ROUTES
from tests.server.harness import start_server

ENDPOINT = "http://127.0.0.1:9/v1/traces"


class Spans:
    """What was traced."""

    def __init__(self, ratio: float = 1.0) -> None:
        pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed (extra otel).")
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from catfish.telemetry.otel import OtelTracing, build_provider

        self._exporter = InMemorySpanExporter()
        self.provider = build_provider(SimpleSpanProcessor(self._exporter), "i-1", ratio)
        self.tracing: Tracing = OtelTracing(self.provider)

    @property
    def finished(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())


async def get(tracing: Tracing, target: str, **headers: str) -> None:
    app: Any = build_app(ROUTES)
    await call(Observed(app, HttpFigures(), tracing=tracing), "GET", target, headers=headers)


async def test_a_request_is_a_span_and_goes_on_the_callers_trace() -> None:
    spans = Spans()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await get(spans.tracing, "/id?token=hush", traceparent=parent, **{"x-request-id": "r-1"})
    (span,) = spans.finished
    assert span.name == "GET request"
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "url.path": "/id",
        "http.response.status_code": 200,
        "catfish.request_id": "r-1",
    }
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.resource.attributes["service.name"] == "catfish"
    assert span.resource.attributes["service.instance.id"] == "i-1"


async def test_a_transaction_of_the_journal_is_a_span(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    spans = Spans()
    server = await start_server(nursery)
    server.instance.journal.tracing = spans.tracing
    ada = server.connect()
    await ada.ask("hello", {"user": "ada"})
    await ada.ask("room:create", {})
    (span,) = [each for each in spans.finished if each.name == "journal batch"]
    assert dict(span.attributes) == {"catfish.commands": 1}


async def test_a_span_that_is_told_afterwards_began_when_it_is_said_to() -> None:
    spans = Spans()
    spans.tracing.record("mirror batch", 1_700_000_000.5, {"catfish.entries": 2})
    (span,) = spans.finished
    assert span.start_time == 1_700_000_000_500_000_000
    assert span.end_time > span.start_time


async def test_no_trace_begins_here_at_ratio_0_but_those_of_others_go_on() -> None:
    spans = Spans(ratio=0)
    await get(spans.tracing, "/id")
    assert spans.finished == []
    await get(spans.tracing, "/id", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert len(spans.finished) == 1


async def test_the_settings_turn_it_on() -> None:
    async with open_tracing(Settings(), "i-1") as tracing:
        assert tracing is OFF
        with tracing.span("nothing", {}) as span:
            span.set({"a": 1})
    Spans()
    async with open_tracing(Settings(otel_endpoint=ENDPOINT), "i-1") as tracing:
        assert tracing is not OFF


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(StartError, match=r"pip install 'catfish\[otel\]'"):
        async with open_tracing(Settings(otel_endpoint=ENDPOINT), "i-1"):
            pass


async def test_a_batch_of_the_mirror_is_a_span_once_it_is_confirmed_and_a_beat_is_none() -> None:
    spans = Spans()
    mirrored: Any = None
    mirror = RedisMirror(Settings(redis_url="redis://127.0.0.1:9"), "i-1", mirrored)
    mirror.tracing = spans.tracing
    mirror._submitted.extend([(1_700_000_000.0, 0), (1_700_000_001.0, 3)])
    link: Any = SimpleNamespace(confirmed=deque([[]]))
    mirror._count_confirmed(link)
    assert len(spans.finished) == 0
    link.confirmed.append([])
    mirror._count_confirmed(link)
    (span,) = spans.finished
    assert (span.name, dict(span.attributes)) == ("mirror batch", {"catfish.events": 3})
