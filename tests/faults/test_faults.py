"""The fault matrix: 3 instances, 60 clients in 12 rooms, and everything that can go wrong around them."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from catfish.errors import StartError
from tests.e2e.process import until
from tests.faults import cluster as clusters
from tests.faults.audit import audit, check_end
from tests.faults.cluster import Cluster
from tests.faults.faults import FAULTS
from tests.faults.people import Person, everyone, visitors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault matrix reads what Linux tells of processes")
log = logging.getLogger(__name__)

SHORT_S = 1.0
LONG_S = 15.0
ROUNDS = 3
"""Of a fault in the long matrix."""
GROWTH_DESCRIPTORS = 4
"""Of an instance, from the first round to the last; connections to the database come and go."""
GROWTH_KIB = 8_000


ANSWERED_S = 120.0
"""Within which everybody has talked after a fault."""


@asynccontextmanager
async def everyone_there(directory: Path) -> AsyncIterator[tuple[Cluster, list[Person]]]:
    """The cluster and its clients, who leave at the end without a trace."""
    try:
        async with clusters.running(directory) as cluster:
            before = cluster.measure()
            async with trio.open_nursery() as nursery:
                people = everyone()
                async with trio.open_nursery() as entering:
                    for person in people:
                        entering.start_soon(nursery.start, person.run, cluster)
                await talked(people, "before any fault")
                await audit(cluster, people, "before any fault")
                yield cluster, people
                nursery.cancel_scope.cancel()
            await check_end(cluster, before, "at the end")
    except StartError as error:
        pytest.skip(f"the fault matrix needs a Postgres and a Redis of its own: {error}")


async def talked(people: Sequence[Person], after: str) -> None:
    """Everybody talks, until each has sent something that was acknowledged."""
    before = {person: len(person.acknowledged) for person in people}
    for person in people:
        person.talking = True
    with trio.move_on_after(ANSWERED_S):
        await until(lambda: all(len(person.acknowledged) > count for person, count in before.items()))
    silent = [person.label for person, count in before.items() if len(person.acknowledged) == count]
    assert not silent, f"{after}: {silent} cannot send"


async def strike(cluster: Cluster, people: Sequence[Person], name: str, pause_s: float, number: int = 0) -> None:
    """A fault, while everybody talks. Visitors who are there when it begins go away for good in its middle.

    Args:
        number: of the round in the long matrix; 0: the short one.
    """
    fault, after = FAULTS[name], f"{name}, {number}"
    lives = sum(len(person.lives) for person in people)
    begun_at = trio.current_time()
    for person in people:
        person.talking = True
    async with trio.open_nursery() as striking, trio.open_nursery() as visits:
        async with trio.open_nursery() as entering:
            for visitor in visitors(f"{name.replace(' ', '_')}.{number}"):
                entering.start_soon(visits.start, visitor.run, cluster)
        striking.start_soon(fault.happens, cluster, pause_s)
        await trio.sleep(pause_s / 2)
        visits.cancel_scope.cancel()
    over_at = trio.current_time()
    await talked(people, after)
    talked_at = trio.current_time()
    await audit(cluster, people, after)
    log.info(
        "%s: lasted %.1f s, everybody talked %.1f s later, the audit took %.1f s; %s",
        after,
        over_at - begun_at,
        talked_at - over_at,
        trio.current_time() - talked_at,
        [use[1:] for use in cluster.measure()],
    )
    if number and not fault.without_database:  # in the short version the database may be slow as well
        assert sum(len(person.lives) for person in people) == lives, f"{after}: sessions were not recovered"


async def test_the_promises_hold_through_each_fault_in_turn(tmp_path: Path) -> None:
    async with everyone_there(tmp_path) as (cluster, people):
        for name in FAULTS:
            await strike(cluster, people, name, SHORT_S)
        assert all(person.connections > 1 for person in people)


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
async def test_the_promises_hold_through(name: str, tmp_path: Path) -> None:
    async with everyone_there(tmp_path) as (cluster, people):
        await strike(cluster, people, name, LONG_S, 1)
        first = cluster.measure()
        for number in range(2, ROUNDS + 1):
            await strike(cluster, people, name, LONG_S, number)
        # An instance that has just been started opens its connections to the database as it needs them.
        descriptors_max = max(use.descriptors for use in first) + GROWTH_DESCRIPTORS
        memory_max = max(use.memory_kib for use in first) + GROWTH_KIB
        for use in cluster.measure():
            assert use.descriptors <= descriptors_max, f"{name}: {use}, after the first round {first}"
            assert use.memory_kib <= memory_max, f"{name}: {use}, after the first round {first}"
