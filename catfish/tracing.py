"""Spans: what took how long, for whoever follows one request through several programs. Off, this costs one call.

Where the spans go is decided by `catfish.telemetry.otel`; the parts of the server only know this.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

Attributes = Mapping[str, str | int | float]


class Span(Protocol):
    """One that is open."""

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""


class Tracing(Protocol):
    """What opens spans."""

    def span(
        self, name: str, attributes: Attributes, carrier: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        """A span around what is done inside; an exception that leaves it is noted.

        Args:
            carrier: header fields that may name the span which asked for this (W3C Trace Context).
        """

    def record(self, name: str, began: float, attributes: Attributes) -> None:
        """A span that is over now.

        Args:
            began: in seconds since the epoch.
        """


class _Off:
    """Both a span and what opens it."""

    def span(
        self, name: str, attributes: Attributes, carrier: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        return _NOTHING

    def set(self, attributes: Attributes) -> None:
        pass

    def record(self, name: str, began: float, attributes: Attributes) -> None:
        pass


OFF: Final[Tracing] = _Off()
_NOTHING: Final[AbstractContextManager[Span]] = nullcontext(_Off())
