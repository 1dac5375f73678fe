"""Spans to OpenTelemetry: requests over HTTP, transactions of the journal, batches of the mirror (extra `otel`).

They leave by OTLP over HTTP, in batches, from a thread of the library. Whatever else there is to say (the service's
name, header fields for the collector, limits) is said by its own variables, `OTEL_…`
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from catfish import __version__
from catfish.config import Settings
from catfish.errors import StartError
from catfish.tracing import OFF, Attributes, Span, Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span as OtelApiSpan

FLUSH_S: Final = 2.0
"""For the last spans to leave when the server stops."""


@asynccontextmanager
async def open_tracing(settings: Settings, instance: str) -> AsyncIterator[Tracing]:
    """What the settings ask for; off, unless they name where the spans go.

    Raises:
        StartError: they do, and the extra is not installed.
    """
    if settings.otel_endpoint is None:
        yield OFF
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise StartError(
            "otel_endpoint is set, and OpenTelemetry is not installed: pip install 'catfish[otel]'"
        ) from None
    exporter = OTLPSpanExporter(endpoint=settings.otel_endpoint)
    provider = build_provider(BatchSpanProcessor(exporter), instance, settings.otel_ratio)
    try:
        yield OtelTracing(provider)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def build_provider(processor: SpanProcessor, instance: str, ratio: float) -> TracerProvider:
    """
    Args:
        processor: takes the spans that have ended.
        instance: id of this instance.
        ratio: of the traces that begin here; those that others began go on as they decided.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    about = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "catfish"),
        "service.version": __version__,
        "service.instance.id": instance,
    }
    provider = TracerProvider(
        resource=Resource.create(about), sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
    )
    provider.add_span_processor(processor)
    return provider


class OtelTracing:
    """Implements `tracing.Tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        self._tracer = provider.get_tracer("catfish", __version__)
        self._extract = extract
        self._kinds = {False: SpanKind.INTERNAL, True: SpanKind.SERVER}

    def span(
        self, name: str, attributes: Attributes, carrier: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        return self._span(name, attributes, carrier)

    @contextmanager
    def _span(self, name: str, attributes: Attributes, carrier: Mapping[str, str] | None) -> Iterator[Span]:
        context = None if carrier is None else self._extract(carrier)
        kind = self._kinds[carrier is not None]
        with self._tracer.start_as_current_span(name, context, kind, attributes) as span:
            yield _OtelSpan(span)

    def record(self, name: str, began: float, attributes: Attributes) -> None:
        span = self._tracer.start_span(name, attributes=attributes, start_time=round(began * 1e9))
        span.end(round(time.time() * 1e9))


class _OtelSpan:
    def __init__(self, span: OtelApiSpan) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)
