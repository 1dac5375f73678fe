"""Three instances in processes of their own, on one private Postgres and one private Redis, and ways to break them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
import trio

from catfish.mirror.private_redis import PrivateRedis
from catfish.store import migrations
from catfish.store.embedded import EmbeddedPostgres
from tests.e2e.process import ServerProcess

INSTANCES = 3
LEASE_S = 4.0
GRACE_S = 3.0
SETTINGS = {
    "CATFISH_LEASE_S": f"{LEASE_S:g}",
    "CATFISH_GRACE_S": f"{GRACE_S:g}",
    "CATFISH_HEARTBEAT_S": "2",
    "CATFISH_HEARTBEAT_TIMEOUT_S": "2",
    "CATFISH_DATABASE_TIMEOUT_S": "4",
    "CATFISH_MIRROR_TIMEOUT_S": "1",
    "CATFISH_DRAIN_GRACE_S": "4",
    "CATFISH_DRAIN_SPREAD_S": "0.5",
}
"""Everything happens sooner than by default, so that the matrix ends sooner."""
CLOCK = Path(__file__).parent / "clock"


class Cluster:
    def __init__(
        self, postgres: EmbeddedPostgres, database_url: str, redis_server: PrivateRedis, instances: list[ServerProcess]
    ) -> None:
        self.postgres = postgres
        self.database_url = database_url
        self.redis = redis_server
        self.instances = instances
        self.clock_file: Path

    async def dial(self) -> trio.SocketStream:
        """A connection to some instance that accepts one, as a load balancer picks it."""
        for instance in random.sample(self.instances, len(self.instances)):
            host, _, port = instance.address.rpartition(":")
            try:
                return await trio.open_tcp_stream(host, int(port))
            except OSError:
                continue
        raise OSError("no instance accepts connections")

    async def query(self, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        def ask() -> list[tuple[Any, ...]]:
            with psycopg.connect(self.database_url, connect_timeout=5) as connection:
                return connection.execute(statement, parameters).fetchall()

        return await trio.to_thread.run_sync(ask)

    # Faults

    async def kill_an_instance(self, pause_s: float) -> None:
        victim = random.choice(self.instances)
        await victim.end(signal.SIGKILL)
        await trio.sleep(pause_s)
        await victim.restart()

    async def stop_an_instance(self, pause_s: float) -> None:
        victim = random.choice(self.instances)
        await _pause([victim.pid], pause_s)

    async def kill_redis(self, pause_s: float) -> None:
        """It holds nothing on disk, and is started again by the one who owns it: empty."""
        os.kill(_pid(self.redis), signal.SIGKILL)
        await trio.sleep(pause_s)

    async def pause_redis(self, pause_s: float) -> None:
        await _pause([_pid(self.redis)], pause_s)

    async def kill_postgres(self, pause_s: float) -> None:
        os.kill(_pid(self.postgres), signal.SIGKILL)
        await trio.sleep(pause_s)

    async def pause_postgres(self, pause_s: float) -> None:
        postmaster = _pid(self.postgres)
        await _pause([postmaster, *_children(postmaster)], pause_s)

    async def trim_the_stream(self, pause_s: float) -> None:
        def trim() -> None:
            with redis.Redis.from_url(self.redis.url) as client:
                for name in client.scan_iter("catfish*", _type="stream"):
                    client.xtrim(name, maxlen=10, approximate=False)

        with trio.move_on_after(pause_s):
            while True:
                await trio.to_thread.run_sync(trim)
                await trio.sleep(0.05)

    async def restart_all(self, pause_s: float) -> None:
        for instance in self.instances:
            await instance.end(signal.SIGTERM)
            await instance.restart()
            await trio.sleep(pause_s / 4)

    async def jump_the_clock(self, pause_s: float) -> None:
        """The first instance's time of day is an hour ahead, and then an hour behind."""
        newest = "select max(created_at) > now() + interval '50 minutes' from messages"
        for offset_s in ("3600", "-3600", "0"):
            self.clock_file.write_text(offset_s)
            await trio.sleep(pause_s / 2)
        assert (await self.query(newest))[0][0], "the clock of the first instance has not jumped"

    async def lose_both(self, pause_s: float) -> None:
        """Redis and Postgres at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pause_redis, pause_s)
            nursery.start_soon(self.pause_postgres, pause_s / 2)


FAULTS = {
    "kill -9 of an instance": Cluster.kill_an_instance,
    "SIGSTOP and SIGCONT of an instance": Cluster.stop_an_instance,
    "Redis kill -9 and restart empty": Cluster.kill_redis,
    "Redis paused": Cluster.pause_redis,
    "Postgres kill -9 and restart": Cluster.kill_postgres,
    "Postgres paused": Cluster.pause_postgres,
    "both paused": Cluster.lose_both,
    "stream trimmed to 10 entries": Cluster.trim_the_stream,
    "rolling restart": Cluster.restart_all,
    "clock jump on one instance": Cluster.jump_the_clock,
}


def _pid(server: EmbeddedPostgres | PrivateRedis) -> int:
    pid = server.statistics().pid
    assert pid is not None
    return pid


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _pause(pids: list[int], pause_s: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await trio.sleep(pause_s)
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Cluster]:
    """The cluster; everything in it is ended at the end."""
    # What is acknowledged must survive the death of Postgres, not that of the machine.
    postgres = EmbeddedPostgres(directory, settings={"fsync": "off", "shared_buffers": "64MB"})
    redis_server = PrivateRedis(directory)
    async with trio.open_nursery() as nursery:
        database_url: str = await nursery.start(postgres.run)
        redis_url: str = await nursery.start(redis_server.run)
        await trio.to_thread.run_sync(migrations.migrate, database_url)
        clock_file = directory / "clock"
        clock_file.write_text("0")
        wrong_clock = {"PYTHONPATH": str(CLOCK), "CLOCK_OFFSET_FILE": str(clock_file)}
        instances = [
            ServerProcess(
                nursery,
                directory / f"instance{index}",
                **SETTINGS,
                CATFISH_DATABASE_URL=database_url,
                CATFISH_REDIS_URL=redis_url,
                **(wrong_clock if index == 0 else {}),
            )
            for index in range(INSTANCES)
        ]
        cluster = Cluster(postgres, database_url, redis_server, instances)
        cluster.clock_file = clock_file
        try:
            async with trio.open_nursery() as starting:
                for instance in instances:
                    starting.start_soon(instance.start)
            yield cluster
        finally:
            with trio.CancelScope(shield=True):
                for instance in instances:
                    if instance.exit_status is None:
                        await instance.end(signal.SIGTERM)
            nursery.cancel_scope.cancel()
