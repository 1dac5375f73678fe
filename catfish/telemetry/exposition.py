"""Prometheus' text formats, by its own client library (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from catfish.telemetry.families import Family


class Exposition(NamedTuple):
    content_type: str
    body: bytes


class _Merged:
    """The families of several workers as a registry that can be collected once."""

    def __init__(self, workers: Mapping[str, Sequence[Family]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        metrics: dict[str, Metric] = {}
        for worker, families in self._workers.items():
            for family in families:
                metric = metrics.get(family.name)
                if metric is None:
                    metric = metrics[family.name] = Metric(family.name, family.help, family.kind)
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
        yield from metrics.values()


def expose(workers: Mapping[str, Sequence[Family]], accept: str) -> Exposition:
    """The metrics of all workers, each with the label `worker`.

    Args:
        workers: by the worker's number; a server that is alone is "0".
        accept: what the request says that it takes; without a wish it is the plain text format.
    """
    encode, content_type = choose_encoder(accept)
    return Exposition(content_type, encode(cast(CollectorRegistry, _Merged(workers))))
