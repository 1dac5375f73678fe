"""A thousand strangers arrive on three instances while one of them is killed.

Never three in a room of two, never one person in two rooms, and in the end nobody waits while another waits.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from catfish.errors import StartError
from tests.e2e.process import until
from tests.faults import cluster as clusters
from tests.faults.cluster import Cluster
from tests.faults.strangers import Stranger

ARRIVE_S = 60.0
SETTLE_S = 60.0
AT_ONCE = 40
"""Strangers who are on their way at the same time."""
QUICK = {
    "CATFISH_LEASE_S": "2",
    "CATFISH_GRACE_S": "1",
    "CATFISH_REMATCH_S": "1",
    "CATFISH_HEARTBEAT_S": "600",
}
CROWDED = """
select room from strangers group by room having count(*) > 2
union all
select m.room from members m join rooms r on r.number = m.room
where r.kind = 'matched' group by m.room having count(distinct m.user_id) > 2
"""
IN_TWO_ROOMS = """
select m.user_id from members m join rooms r on r.number = m.room
where r.kind = 'matched' and r.closed_at is null group by m.user_id having count(distinct m.room) > 1
"""
PLACES = "select user_id, room from strangers"


async def watch(cluster: Cluster) -> None:
    """What must not be so at any time, as the database has it."""
    while True:
        assert await cluster.query(CROWDED) == []
        assert await cluster.query(IN_TWO_ROOMS) == []
        await trio.sleep(0.1)


async def arrive(cluster: Cluster, strangers: list[Stranger], nursery: trio.Nursery) -> None:
    """All of them come, some at a time, and have been answered once."""
    limit = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as arriving:
        for stranger in strangers:
            await limit.acquire_on_behalf_of(stranger)

            async def come(stranger: Stranger = stranger) -> None:
                answered = trio.Event()
                nursery.start_soon(stranger.run, cluster, answered.set)
                await answered.wait()
                limit.release_on_behalf_of(stranger)

            arriving.start_soon(come)


def settled(strangers: list[Stranger]) -> bool:
    """Everybody who is there has somebody who is there, but for one at the most."""
    there = {stranger.user: stranger for stranger in strangers if not stranger.gone}
    alone = [
        stranger
        for stranger in there.values()
        if stranger.peer not in there or there[stranger.peer].room != stranger.room
    ]
    return len(alone) == len(there) % 2


@pytest.mark.parametrize("count", [200, pytest.param(1_000, marks=pytest.mark.long)])
async def test_strangers_find_each_other_although_an_instance_is_killed(count: int, tmp_path: Path) -> None:
    try:
        async with clusters.running(tmp_path, **QUICK) as cluster, trio.open_nursery() as nursery:
            nursery.start_soon(watch, cluster)
            strangers = [Stranger(f"s{index}", faithful=index % 5 != 0) for index in range(count)]
            half = count // 2
            with trio.fail_after(ARRIVE_S):
                await arrive(cluster, strangers[:half], nursery)
                async with trio.open_nursery() as arriving:
                    arriving.start_soon(arrive, cluster, strangers[half:], nursery)
                    await until(lambda: any(stranger.room for stranger in strangers[half:]))
                    await cluster.instances[1].end(signal.SIGKILL)
            with trio.move_on_after(SETTLE_S):
                await until(lambda: settled(strangers))
            await check(cluster, strangers)
            nursery.cancel_scope.cancel()
    except StartError as error:
        pytest.skip(f"a Postgres and a Redis of its own are needed: {error}")


async def check(cluster: Cluster, strangers: list[Stranger]) -> None:
    there = {stranger.user: stranger for stranger in strangers if not stranger.gone}
    assert {stranger.user: stranger.problems for stranger in strangers if stranger.problems} == {}
    waiting = [stranger.user for stranger in there.values() if stranger.waits]
    assert len(waiting) == len(there) % 2, f"{len(waiting)} of {len(there)} wait: {waiting[:10]}"
    for stranger in there.values():
        if stranger.peer is not None:
            other = there[stranger.peer]
            assert (other.peer, other.room) == (stranger.user, stranger.room)
    places = await cluster.query(PLACES)
    rooms: dict[int, set[str]] = {}
    for user, room in places:
        rooms.setdefault(room, set()).add(user)
    assert {frozenset(pair) for pair in rooms.values()} == {
        frozenset({stranger.user, stranger.peer} - {None}) for stranger in there.values()
    }
    # The fault was one: some never came back, and some were left alone and found another.
    assert len(there) < len(strangers)
    assert any(len(stranger.partners) > 1 for stranger in there.values())
