"""Figures from measurements. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Figure:
    """One line of a report."""

    key: str
    """For programs; its unit is in its name."""
    label: str
    value: float | None
    """None: it could not be measured."""
    unit: str
    digits: int = 1
    """Shown behind the point."""


@attrs.frozen
class Report:
    """What one run has found."""

    scenario: str
    protocol: str
    n: int
    seconds: float
    size: int
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    """What the reader should know about them."""

    def as_json(self) -> dict[str, object]:
        return {
            "scenario": self.scenario,
            "protocol": self.protocol,
            "n": self.n,
            "seconds": self.seconds,
            "size": self.size,
            "figures": {figure.key: figure.value for figure in self.figures},
            "notes": list(self.notes),
        }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of them do not exceed (nearest rank); None of none."""
    if not values:
        return None
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(int(rank), 1) - 1]


def per_unit(total: float | None, units: float) -> float | None:
    """None when it was not measured, or nothing happened."""
    return None if total is None or units <= 0 else total / units


def ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def difference(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def total(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def waits(key: str, label: str, seconds: Sequence[float]) -> tuple[Figure, Figure]:
    """p50 and p99 of waiting times, in milliseconds."""
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    return (
        Figure(f"{key}_p50_ms", f"{label}, p50", None if p50 is None else p50 * 1e3, "ms", 2),
        Figure(f"{key}_p99_ms", f"{label}, p99", None if p99 is None else p99 * 1e3, "ms", 2),
    )
