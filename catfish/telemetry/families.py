"""Metrics as plain data, which one worker can send to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, Literal

import msgspec

from catfish.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


class Sample(msgspec.Struct, array_like=True, frozen=True):
    name: str
    """With the suffix that its kind has: `_total`, `_bucket`, `_sum`, `_count`."""
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric with its samples (https://prometheus.io/docs/concepts/data_model/)."""

    name: str
    """Without a suffix."""
    kind: Kind
    help: str
    samples: list[Sample]


class Families:
    """Collects metrics of one process."""

    def __init__(self) -> None:
        self.all: list[Family] = []

    def gauge(self, name: str, help: str, *value: float) -> None:
        """Without a value it is there, and nothing is known of it."""
        self.all.append(Family(name, "gauge", help, [Sample(name, {}, float(each)) for each in value]))

    def gauges(self, name: str, help: str, label: str, values: Mapping[str, float]) -> None:
        """One for each value of a label."""
        self.all.append(Family(name, "gauge", help, _by(name, label, values)))

    def counter(self, name: str, help: str, value: float) -> None:
        self.all.append(Family(name, "counter", help, [Sample(f"{name}_total", {}, float(value))]))

    def counters(self, name: str, help: str, label: str, values: Mapping[str, float]) -> None:
        """One for each value of a label."""
        self.all.append(Family(name, "counter", help, _by(f"{name}_total", label, values)))

    def histogram(self, name: str, help: str, histogram: Histogram) -> None:
        cumulated = list(accumulate(histogram.counts))
        bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        samples = [
            *(Sample(f"{name}_bucket", {"le": le}, count) for le, count in zip(bounds, cumulated, strict=True)),
            Sample(f"{name}_count", {}, cumulated[-1]),
            Sample(f"{name}_sum", {}, histogram.sum),
        ]
        self.all.append(Family(name, "histogram", help, samples))

    def info(self, name: str, help: str, labels: Mapping[str, str]) -> None:
        """Text, as the labels of a number that is always 1."""
        self.all.append(Family(name, "gauge", help, [Sample(name, dict(labels), 1)]))


def _by(name: str, label: str, values: Mapping[str, float]) -> list[Sample]:
    return [Sample(name, {label: key}, float(value)) for key, value in values.items()]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Family])


def encode_families(families: Iterable[Family]) -> bytes:
    return _encoder.encode(list(families))


def decode_families(data: bytes) -> list[Family]:
    """What `encode_families` made. Raises: msgspec.DecodeError."""
    return _decoder.decode(data)
