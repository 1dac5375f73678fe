"""Ways to break a cluster. Each lasts for the time that it is given, and until it can be seen that it has happened."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import redis
import trio

from catfish.mirror.private_redis import PrivateRedis
from catfish.store.embedded import EmbeddedPostgres
from tests.e2e.process import ServerProcess, until
from tests.faults.cluster import LEASE_S, Cluster

EFFECT_S = 60.0
"""Within which a fault shows."""
NO_DATABASE = "the database does not answer"
NO_REDIS = "Redis is away"
STANDSTILL_S = 1.5
"""Short enough for an instance's connections and its lease to live on."""
GAPS = "catfish_mirror_gaps_total"
TAKEN_FOR_DEAD = "the lease had ended before it was renewed"


async def kill_an_instance(cluster: Cluster, pause_s: float) -> None:
    victim = random.choice(cluster.instances)
    await victim.end(signal.SIGKILL)
    await trio.sleep(pause_s)
    await victim.restart()


async def stop_an_instance(cluster: Cluster, pause_s: float) -> None:
    """For longer than its lease."""
    victim = random.choice(cluster.instances)
    told = _Log([victim])
    await _pause([victim.pid], max(pause_s, LEASE_S + 1))
    await told.by_all(TAKEN_FOR_DEAD)


async def kill_redis(cluster: Cluster, pause_s: float) -> None:
    """It holds nothing on disk, and is started again by the one who owns it: empty."""
    restarts = cluster.redis.statistics().restarts
    os.kill(_pid(cluster.redis), signal.SIGKILL)
    await trio.sleep(pause_s)
    await _seen(lambda: cluster.redis.statistics().restarts > restarts)


async def pause_redis(cluster: Cluster, pause_s: float) -> None:
    told = _Log(cluster.instances)
    await _pause([_pid(cluster.redis)], pause_s, told.by_all, NO_REDIS)


async def kill_postgres(cluster: Cluster, pause_s: float) -> None:
    restarts = cluster.postgres.statistics().restarts
    os.kill(_pid(cluster.postgres), signal.SIGKILL)
    await trio.sleep(pause_s)
    await _seen(lambda: cluster.postgres.statistics().restarts > restarts)


async def pause_postgres(cluster: Cluster, pause_s: float) -> None:
    postmaster = _pid(cluster.postgres)
    told = _Log(cluster.instances)
    await _pause([postmaster, *_children(postmaster)], pause_s, told.by_all, NO_DATABASE)


async def lose_both(cluster: Cluster, pause_s: float) -> None:
    """Redis and Postgres at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pause_redis, cluster, pause_s)
        nursery.start_soon(pause_postgres, cluster, pause_s)


async def trim_the_stream(cluster: Cluster, pause_s: float) -> None:
    """To 10 entries, again and again; and an instance that reads nothing meanwhile misses what was cut off."""
    victim = random.choice(cluster.instances)
    gaps = await cluster.metric(victim, GAPS)

    def trim() -> None:
        with redis.Redis.from_url(cluster.redis.url) as client:
            for name in client.scan_iter("catfish*", _type="stream"):
                client.xtrim(name, maxlen=10, approximate=False)

    async with trio.open_nursery() as nursery:

        async def trim_always() -> None:
            while True:
                await trio.to_thread.run_sync(trim)
                await trio.sleep(0.05)

        nursery.start_soon(trim_always)
        begun_at = trio.current_time()
        with trio.fail_after(pause_s + EFFECT_S):
            while trio.current_time() < begun_at + pause_s or await cluster.metric(victim, GAPS) == gaps:
                await _pause([victim.pid], STANDSTILL_S)
                await trio.sleep(pause_s / 8)
        nursery.cancel_scope.cancel()


async def restart_all(cluster: Cluster, pause_s: float) -> None:
    for instance in cluster.instances:
        assert await instance.end(signal.SIGTERM) == 0
        await instance.restart()
        await trio.sleep(pause_s / 4)


async def jump_the_clock(cluster: Cluster, pause_s: float) -> None:
    """The first instance's time of day is an hour ahead, and then an hour behind."""
    for offset_s in (3600, -3600):
        [(last,)] = await cluster.query("select max(id) from messages")
        cluster.clock_file.write_text(str(offset_s))
        await trio.sleep(pause_s / 2)
        with trio.fail_after(EFFECT_S):
            farthest = "max" if offset_s > 0 else "min"
            statement = f"select extract(epoch from {farthest}(created_at) - now()) from messages where id > %s"
            while True:
                [(off_s,)] = await cluster.query(statement, last)
                if off_s is not None and abs(float(off_s) - offset_s) < 600:
                    break
                await trio.sleep(0.1)
    cluster.clock_file.write_text("0")


class Fault(NamedTuple):
    happens: Callable[[Cluster, float], Awaitable[None]]
    without_database: bool = False
    """Meanwhile no session of a Socket.IO client can be recovered."""


FAULTS = {
    "kill -9 of an instance": Fault(kill_an_instance),
    "SIGSTOP and SIGCONT of an instance": Fault(stop_an_instance),
    "Redis kill -9 and restart empty": Fault(kill_redis),
    "Redis paused": Fault(pause_redis),
    "Postgres kill -9 and restart": Fault(kill_postgres, without_database=True),
    "Postgres paused": Fault(pause_postgres, without_database=True),
    "both paused": Fault(lose_both, without_database=True),
    "stream trimmed to 10 entries": Fault(trim_the_stream),
    "rolling restart": Fault(restart_all),
    "clock jump on one instance": Fault(jump_the_clock),
}


class _Log:
    """What instances say from now on."""

    def __init__(self, instances: list[ServerProcess]) -> None:
        self._from = [(instance, len(instance.output)) for instance in instances]

    async def by_all(self, text: str) -> None:
        await _seen(lambda: all(text.encode() in instance.output[start:] for instance, start in self._from))


async def _seen(happened: Callable[[], bool]) -> None:
    with trio.fail_after(EFFECT_S):
        await until(happened)


def _pid(server: EmbeddedPostgres | PrivateRedis) -> int:
    pid = server.statistics().pid
    assert pid is not None
    return pid


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _nothing(*arguments: object) -> None:
    """There is no effect to wait for."""


async def _pause(
    pids: Iterable[int], pause_s: float, effect: Callable[..., Awaitable[None]] = _nothing, *arguments: object
) -> None:
    """Stop processes for that time, and until the effect is there."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await trio.sleep(pause_s)
        await effect(*arguments)
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
