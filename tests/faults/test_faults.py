"""The fault matrix: 3 instances, 60 clients in 12 rooms, and everything that can go wrong around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from catfish.errors import StartError
from tests.faults import cluster as clusters
from tests.faults.audit import audit
from tests.faults.cluster import FAULTS, INSTANCES, Cluster
from tests.faults.people import PEOPLE, Person

SHORT_S = 4.0
LONG_S = 15.0
GROWTH_DESCRIPTORS = 25
"""Per instance: connections move from one to another."""
GROWTH_KIB = 40_000


@asynccontextmanager
async def talking(directory: Path) -> AsyncIterator[tuple[Cluster, list[Person]]]:
    try:
        async with clusters.running(directory) as cluster, trio.open_nursery() as nursery:
            people = [Person(index) for index in range(PEOPLE)]
            for person in people:
                await nursery.start(person.run, cluster)
            for person in people:
                person.talking = True
            await trio.sleep(2)
            yield cluster, people
            nursery.cancel_scope.cancel()
    except StartError as error:
        pytest.skip(f"the fault matrix needs a Postgres and a Redis of its own: {error}")


async def test_the_promises_hold_through_each_fault_in_turn(tmp_path: Path) -> None:
    async with talking(tmp_path) as (cluster, people):
        await audit(cluster, people, "before any fault")
        for name, fault in FAULTS.items():
            await fault(cluster, SHORT_S)
            await trio.sleep(0.5)
            await audit(cluster, people, name)
        # The faults were real ones.
        assert cluster.postgres.statistics().restarts == cluster.redis.statistics().restarts == 1
        assert all(person.connections > 1 for person in people)


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
async def test_the_promises_hold_through(name: str, tmp_path: Path) -> None:
    async with talking(tmp_path) as (cluster, people):
        await audit(cluster, people, "before any fault")
        before = _sizes(cluster)
        for _ in range(3):
            await FAULTS[name](cluster, LONG_S)
            await trio.sleep(3)
            await audit(cluster, people, name)
        for (descriptors, memory), (descriptors_now, memory_now) in zip(before, _sizes(cluster), strict=True):
            assert descriptors_now <= descriptors + GROWTH_DESCRIPTORS + PEOPLE // INSTANCES, name
            assert memory_now <= memory + GROWTH_KIB, name


def _sizes(cluster: Cluster) -> list[tuple[int, int]]:
    """Open descriptors and resident KiB of each instance (Linux)."""
    return [
        (
            instance.descriptors(),
            next(
                int(line.split()[1])
                for line in Path(f"/proc/{instance.pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            ),
        )
        for instance in cluster.instances
    ]
