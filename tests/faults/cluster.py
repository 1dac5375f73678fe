"""Three instances in processes of their own, on one private Postgres and one private Redis."""

from __future__ import annotations

import json
import logging
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import trio

from catfish.mirror.private_redis import PrivateRedis
from catfish.store import migrations
from catfish.store.embedded import EmbeddedPostgres
from tests.e2e.process import ServerProcess
from tests.faults.resources import Use, measure

log = logging.getLogger(__name__)

INSTANCES = 3
LEASE_S = 4.0
GRACE_S = 3.0
PING_S = 1.0
PING_TIMEOUT_S = 2.0
POOL = 8
SETTINGS = {
    "CATFISH_LEASE_S": f"{LEASE_S:g}",
    "CATFISH_GRACE_S": f"{GRACE_S:g}",
    "CATFISH_HEARTBEAT_S": "2",
    "CATFISH_HEARTBEAT_TIMEOUT_S": "2",
    "CATFISH_PING_INTERVAL_MS": f"{PING_S * 1000:g}",
    "CATFISH_PING_TIMEOUT_MS": f"{PING_TIMEOUT_S * 1000:g}",
    "CATFISH_RECOVERY_S": "120",
    "CATFISH_DATABASE_POOL_MAX": f"{POOL}",
    "CATFISH_DATABASE_TIMEOUT_S": "2",
    "CATFISH_MIRROR_TIMEOUT_S": "1",
    "CATFISH_DRAIN_GRACE_S": "4",
    "CATFISH_DRAIN_SPREAD_S": "0.5",
    "CATFISH_ROOM_IDLE_S": "2",
}
"""Everything happens sooner than by default, so that the matrix ends sooner."""
CLOCK = Path(__file__).parent / "clock"
QUERY_S = 60.0
HEALTH_S = 60.0
LOG_CHARS = 6_000
"""Of each instance, shown when a test has failed."""


class Cluster:
    def __init__(
        self,
        postgres: EmbeddedPostgres,
        database_url: str,
        redis_server: PrivateRedis,
        instances: list[ServerProcess],
        clock_file: Path,
    ) -> None:
        self.postgres = postgres
        self.database_url = database_url
        self.redis = redis_server
        self.instances = instances
        self.clock_file = clock_file

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
        """Rows; the database may be about to come back."""

        def ask() -> list[tuple[Any, ...]]:
            with psycopg.connect(self.database_url, connect_timeout=5) as connection:
                return connection.execute(statement, parameters).fetchall()

        with trio.fail_after(QUERY_S):
            while True:
                try:
                    return await trio.to_thread.run_sync(ask)
                except psycopg.OperationalError:
                    await trio.sleep(0.2)

    async def get(self, instance: ServerProcess, path: str) -> str:
        """The body of the answer."""
        host, _, port = instance.address.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([chunk async for chunk in stream])
        return answer.partition(b"\r\n\r\n")[2].decode()

    async def health(self, instance: ServerProcess) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.get(instance, "/health"))
        return found

    async def metric(self, instance: ServerProcess, name: str) -> float:
        """A counter or gauge of which there is one."""
        lines = (await self.get(instance, "/metrics")).splitlines()
        [value] = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name}{{")]
        return float(value)

    async def healthy(self) -> None:
        """Wait until every instance says that it has its database and its mirror."""
        for instance in self.instances:
            health: dict[str, Any] = {}
            with trio.move_on_after(HEALTH_S):
                while health.get("database") != "ok" or health.get("mirror") != "ok":
                    with trio.move_on_after(5):
                        health = await self.health(instance)
                    await trio.sleep(0.1)
            assert health.get("database") == health.get("mirror") == "ok", f"{instance.address}: {health}"

    def measure(self) -> list[Use]:
        return [measure(instance.pid, int(instance.address.rpartition(":")[2])) for instance in self.instances]

    def show_logs(self) -> None:
        for index, instance in enumerate(self.instances):
            output = instance.output.decode(errors="replace")[-LOG_CHARS:]
            log.error("instance %d at %s, exit status %s:\n%s", index, instance.address, instance.exit_status, output)


@asynccontextmanager
async def running(directory: Path, **environment: str) -> AsyncIterator[Cluster]:
    """The cluster; everything in it is ended at the end. `environment` goes before `SETTINGS`."""
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
                **{**SETTINGS, **environment},
                CATFISH_DATABASE_URL=database_url,
                CATFISH_REDIS_URL=redis_url,
                **(wrong_clock if index == 0 else {}),
            )
            for index in range(INSTANCES)
        ]
        cluster = Cluster(postgres, database_url, redis_server, instances, clock_file)
        try:
            async with trio.open_nursery() as starting:
                for instance in instances:
                    starting.start_soon(instance.start)
            yield cluster
        except BaseException:
            cluster.show_logs()
            raise
        finally:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as ending:
                    for instance in instances:
                        if instance.exit_status is None:
                            ending.start_soon(instance.end, signal.SIGTERM)
            nursery.cancel_scope.cancel()
