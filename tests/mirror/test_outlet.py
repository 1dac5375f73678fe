"""The stream for other services, with a real Redis and a real Postgres; the consumer that the documentation shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import redis
import trio

from catfish.config import Settings
from catfish.mirror import outlet as outlet_module
from catfish.mirror.addresses import Addresses
from catfish.mirror.line import Line
from catfish.mirror.outlet import Outlet
from catfish.rooms.commands import RoomRecord, Sent
from catfish.store.outlet import PostgresTail
from catfish.store.postgres import PostgresStore
from tests.mirror.world import RedisWorld, redis_world, until
from tests.store.commands import create, send

SETTINGS = Settings(mirror_timeout_s=1.0, outlet_entries_max=1_000)
CONSUMER = Path(__file__).parents[2] / "docs" / "examples" / "consumer.py"


class World:
    """Postgres with a store, Redis, and as many outlets as are wanted."""

    def __init__(self, url: str, store: PostgresStore, real: RedisWorld, nursery: trio.Nursery) -> None:
        self.url = url
        self.store = store
        self.redis = real
        self.settings = SETTINGS
        self.room = 0
        self._nursery = nursery
        self.scopes: list[trio.CancelScope] = []

    async def store_messages(self, *texts: str) -> list[int]:
        """Their ids."""
        if not self.room:
            (record,) = await self.store.commit([create("lobby")])
            assert isinstance(record, RoomRecord)
            self.room = record.number
        answers = await self.store.commit([send(self.room, "ann", text) for text in texts])
        return [answer.message.id for answer in answers if isinstance(answer, Sent)]

    async def start(self) -> Outlet:
        outlet = Outlet(self.settings, PostgresTail(self.url, Settings()), url=self.redis.server.url)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as scope:
                self.scopes.append(scope)
                await outlet.run(task_status=task_status)

        await self._nursery.start(run)
        return outlet

    def entries(self) -> list[tuple[str, dict[str, str]]]:
        with redis.Redis.from_url(self.redis.server.url, decode_responses=True, socket_timeout=5.0) as client:
            try:
                return list(client.xrange("catfish:messages"))
            except redis.RedisError:
                return []

    def texts(self) -> list[str]:
        return [json.loads(fields["message"])["content"] for _, fields in self.entries()]


@pytest.fixture
async def world(
    redis_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> AsyncIterator[World]:
    for name, value in (("POLL_S", 0.02), ("LOOK_S", 0.1), ("CLAIM_S", 0.1), ("CHUNK", 7)):
        monkeypatch.setattr(outlet_module, name, value)
    async with (
        PostgresStore(database_url, Settings()) as store,
        redis_world(redis_dir, SETTINGS) as real,
        trio.open_nursery() as outlets,
    ):
        yield World(database_url, store, real, outlets)
        outlets.cancel_scope.cancel()


def numbered(first: int, last: int) -> list[str]:
    return [str(i) for i in range(first, last + 1)]


async def test_every_message_is_in_the_stream_under_its_own_id(world: World) -> None:
    before = await world.store_messages("1", "2")
    await world.start()
    await until(lambda: world.texts() == ["1", "2"])
    after = await world.store_messages("3")
    await until(lambda: len(world.entries()) == 3)
    assert [id for id, _ in world.entries()] == [f"{id}-0" for id in before + after]
    _, fields = world.entries()[2]
    message = json.loads(fields.pop("message"))
    assert fields == {"event": "chat:message", "room": "lobby", "seq": "3"}
    assert message.pop("clientId")
    assert message == {
        "room": "lobby", "seq": 3, "id": after[0], "user": "ann", "name": "Ann", "content": "3",
        "createdAt": 1_800_000_000_000,
    }  # fmt: skip


async def test_of_several_instances_one_works_and_another_goes_on_when_it_ends(world: World) -> None:
    outlets = [await world.start() for _ in range(3)]

    def leading() -> list[Outlet]:
        return [outlet for outlet in outlets if outlet.statistics().leading]

    for last in (20, 40, 60):
        await until(lambda: len(leading()) == 1)
        await world.store_messages(*numbered(last - 19, last))
        await until(lambda last=last: world.texts() == numbered(1, last))  # type: ignore[misc]
        world.scopes[outlets.index(leading()[0])].cancel()


async def test_what_was_stored_while_redis_was_away_comes_afterwards(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    outlet = await world.start()
    await world.store_messages("1")
    await until(lambda: world.texts() == ["1"])
    await world.redis.outage()
    await world.store_messages(*numbered(2, 50))
    await until(lambda: not outlet.statistics().leading)
    await world.redis.recovery()
    await until(lambda: world.texts() == numbered(1, 50))
    told = [record.message for record in caplog.records if "other services" in record.message]
    assert told == ["messages do not reach other services", "messages reach other services again"]


async def test_a_redis_that_lost_everything_is_filled_again_as_far_as_it_should_be(world: World) -> None:
    world.settings = attrs.evolve(SETTINGS, outlet_entries_max=100)
    outlet = await world.start()
    ids = await world.store_messages(*numbered(1, 300))
    await until(lambda: "300" in world.texts())
    os.kill(world.redis.pid(), signal.SIGKILL)
    ids += await world.store_messages(*numbered(301, 320))
    await until(lambda: world.texts()[-1:] == ["320"])
    texts = world.texts()
    assert texts == numbered(321 - len(texts), 320)
    assert len(texts) >= 100
    assert [id for id, _ in world.entries()] == [f"{id}-0" for id in ids[-len(texts) :]]
    assert outlet.statistics().refills == 1


async def test_a_stream_that_vanishes_is_noticed_without_a_lost_connection(world: World) -> None:
    await world.start()
    await world.store_messages(*numbered(1, 20))
    await until(lambda: world.texts() == numbered(1, 20))
    await world.redis.ask("DEL", "catfish:messages")
    await until(lambda: world.texts() == numbered(1, 20))


async def test_a_stream_that_lost_its_end_is_completed(world: World) -> None:
    """As after a failover to a replica that was behind."""
    await world.start()
    ids = await world.store_messages(*numbered(1, 20))
    await until(lambda: world.texts() == numbered(1, 20))
    await world.redis.ask(
        "EVAL",
        "redis.call('DEL', KEYS[1]) for i = 1, 10 do redis.call('XADD', KEYS[1], ARGV[i] .. '-0', 'message',"
        " '{\"content\":\"' .. i .. '\"}') end",
        1,
        "catfish:messages",
        *ids[:10],
    )
    await until(lambda: world.texts() == numbered(1, 20))


async def test_a_paused_redis_costs_nothing_but_time(world: World) -> None:
    outlet = await world.start()
    await world.store_messages(*numbered(1, 10))
    await until(lambda: world.texts() == numbered(1, 10))
    os.kill(world.redis.pid(), signal.SIGSTOP)
    try:
        await world.store_messages(*numbered(11, 40))
        await until(lambda: not outlet.statistics().leading)
    finally:
        os.kill(world.redis.pid(), signal.SIGCONT)
    await until(lambda: world.texts() == numbered(1, 40))


async def test_the_stream_of_another_database_begins_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.redis.ask("XADD", "catfish:messages", "9999-0", "message", '{"content": "old"}')
    await world.store_messages("1")
    await world.start()
    await until(lambda: world.texts() == ["1"])
    assert "of another database" in caplog.text


async def test_a_leader_that_lost_its_lock_unnoticed_adds_nothing_twice(world: World) -> None:
    """Its entries have the ids that its successor's have; Redis takes each once."""
    await world.store_messages(*numbered(1, 30))
    first = await world.start()
    await until(lambda: first.statistics().sent > 0)
    tail = PostgresTail(world.url, Settings())
    world.scopes[0].cancel()

    with trio.fail_after(10):
        while not await tail.lead():  # noqa: ASYNC110 - of a connection
            await trio.sleep(0.01)
    messages = (await tail.read(0, 100)).messages
    tail.resign()
    assert len(messages) == 30
    second = await world.start()
    line = Line(
        Addresses(world.redis.server.url).locate(["s"], 1.0)[0].connection(client_name="late", timeout_s=5, connect_s=5)
    )
    added = await trio.to_thread.run_sync(first._add, line, messages)
    line.close()
    await until(lambda: second.statistics().leading)
    await until(lambda: world.texts() == numbered(1, 30))
    assert added + first.statistics().sent + second.statistics().sent == 30


async def test_leaders_that_lose_their_connection_again_and_again_pass_nothing_over(world: World) -> None:
    for _ in range(2):
        await world.start()

    def cut() -> None:
        with psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'catfish outlet'"
            )

    for i in range(1, 41):
        await world.store_messages(*numbered(10 * i - 9, 10 * i))
        if i % 8 == 0:
            await trio.to_thread.run_sync(cut)
        await trio.sleep(0.02)
    await until(lambda: world.texts() == numbered(1, 400))


async def test_stopping_waits_for_nobody(world: World) -> None:
    outlet = await world.start()
    await until(lambda: outlet.statistics().leading)
    os.kill(world.redis.pid(), signal.SIGSTOP)
    await world.store_messages("1")
    await trio.sleep(0.1)
    world.scopes[0].cancel()
    os.kill(world.redis.pid(), signal.SIGCONT)


# The consumer of the documentation


@asynccontextmanager
async def consumer(world: World, *arguments: str) -> AsyncIterator[tuple[list[list[Any]], Callable[[int], None]]]:
    """What it has printed so far, and a function that sends it a signal."""
    command = [sys.executable, "-u", str(CONSUMER), world.redis.server.url, *arguments]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    printed: list[list[Any]] = []

    async def read() -> None:
        assert process.stdout is not None
        rest = b""
        async for part in process.stdout:
            *lines, rest = (rest + part).split(b"\n")
            printed.extend(json.loads(line) for line in lines)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            yield printed, process.send_signal
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            assert process.stdout is not None
        nursery.cancel_scope.cancel()
    await process.stdout.aclose()


async def test_the_consumer_reads_everything_once_and_ends_when_it_is_asked_to(world: World) -> None:
    await world.start()
    await world.store_messages(*numbered(1, 20))
    async with consumer(world) as (printed, send_signal):
        await until(lambda: len(printed) == 20)
        await world.store_messages(*numbered(21, 40))
        await until(lambda: len(printed) == 40)
        assert printed == [["lobby", i, "Ann", str(i)] for i in range(1, 41)]
        send_signal(signal.SIGTERM)
    async with consumer(world) as (printed, _):
        await world.store_messages("41")
        await until(lambda: printed == [["lobby", 41, "Ann", "41"]])


async def test_the_consumer_outlives_a_redis_that_lost_its_data(world: World) -> None:
    await world.start()
    async with consumer(world) as (printed, _):
        await world.store_messages(*numbered(1, 20))
        await until(lambda: len(printed) == 20)
        os.kill(world.redis.pid(), signal.SIGKILL)
        await world.store_messages(*numbered(21, 40))
        await until(lambda: len(printed) >= 40)
        assert [content for *_, content in printed] == numbered(1, 40)


async def test_what_a_killed_consumer_left_behind_is_taken_over(world: World, tmp_path: Path) -> None:
    await world.start()
    await world.store_messages(*numbered(1, 20))
    await until(lambda: len(world.entries()) == 20)
    await world.redis.ask("XGROUP", "CREATE", "catfish:messages", "example", "0")
    await world.redis.ask(*("XREADGROUP", "GROUP", "example", "dead", "COUNT", 5, "STREAMS", "catfish:messages", ">"))
    # As if it had had them for longer than IDLE_MS.
    for id, _ in world.entries()[:5]:
        await world.redis.ask("XCLAIM", "catfish:messages", "example", "dead", 0, id, "IDLE", 60_000)
    async with consumer(world) as (printed, _):
        await until(lambda: len(printed) == 20)
        assert sorted(content for *_, content in printed) == sorted(numbered(1, 20))
