"""The stream for other services, filled by servers in processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis
import trio

from catfish.mirror.private_redis import PrivateRedis
from tests.e2e.clients import talk_by_trio_websocket
from tests.e2e.process import ServerProcess, until
from tests.redis_server import redis_dir  # noqa: F401 - a fixture

CONSUMER = Path(__file__).parents[2] / "docs" / "examples" / "consumer.py"
STREAM = "catfish:messages"


class Chatter:
    """Somebody in the lobby who counts."""

    def __init__(self, client: redis.Redis) -> None:
        self.said: list[str] = []
        self._client = client

    async def say(self, server: ServerProcess, count: int) -> None:
        """The next so many numbers, each acknowledged before the next."""
        async with talk_by_trio_websocket(server.url, binary=True) as talker:
            await talker.ask("hello", {"user": "ann"})
            await talker.ask("room:join", {"room": "lobby"})
            for _ in range(count):
                text = str(len(self.said) + 1)
                await talker.ask("chat:send", {"room": "lobby", "content": text})
                self.said.append(text)

    def entries(self) -> list[dict[str, Any]]:
        found: Any = self._client.xrange(STREAM)
        return [json.loads(fields["message"]) for _, fields in found]

    async def all_out(self) -> None:
        """Everything that was said is in the stream, once and in order."""
        with trio.fail_after(30):
            await until(lambda: len(self.entries()) >= len(self.said))
        assert [(entry["seq"], entry["content"]) for entry in self.entries()] == list(enumerate(self.said, 1))


@asynccontextmanager
async def consumer(url: str, name: str) -> AsyncIterator[list[list[Any]]]:
    """What a worker of the example has printed so far."""
    command = [sys.executable, "-u", str(CONSUMER), url, "--name", name]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed: list[list[Any]] = []

    async def read(stream: trio.abc.ReceiveStream) -> None:
        rest = b""
        async for part in stream:
            *lines, rest = (rest + part).split(b"\n")
            printed.extend(json.loads(line) for line in lines)

    async with process.stdout, trio.open_nursery() as nursery:
        nursery.start_soon(read, process.stdout)
        try:
            yield printed
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        nursery.cancel_scope.cancel()


async def test_what_two_servers_store_comes_out_once_also_after_the_one_that_passes_it_on_was_killed(
    redis_dir: Path,  # noqa: F811 - the fixture
    database_url: str,
    nursery: trio.Nursery,
) -> None:
    private = PrivateRedis(redis_dir)
    url = await nursery.start(private.run)
    environment = {"CATFISH_DATABASE_URL": database_url, "CATFISH_REDIS_URL": url, "CATFISH_DRAIN_GRACE_S": "4"}
    try:
        with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5.0) as client:
            await speak_and_read(redis_dir, Chatter(client), url, private, environment)
    finally:
        nursery.cancel_scope.cancel()


async def speak_and_read(
    directory: Path, chatter: Chatter, url: str, private: PrivateRedis, environment: dict[str, str]
) -> None:
    async with ServerProcess.running(directory / "a", **environment) as leader:
        await chatter.say(leader, 1)
        await chatter.all_out()
        async with (
            ServerProcess.running(directory / "b", **environment) as other,
            consumer(url, "one") as printed,
            consumer(url, "two") as also_printed,
        ):
            await chatter.say(other, 20)
            await chatter.say(leader, 20)
            await chatter.all_out()
            await chatter.say(leader, 20)
            await leader.end(signal.SIGKILL)
            await chatter.say(other, 20)
            await chatter.all_out()
            with trio.fail_after(30):
                await until(lambda: len(printed) + len(also_printed) >= len(chatter.said))
            assert sorted(int(content) for *_, content in [*printed, *also_printed]) == list(range(1, 82))
            # Threads that wait for Redis keep nobody from stopping.
            pid = private.statistics().pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                assert await other.end(signal.SIGTERM) == 0
            finally:
                os.kill(pid, signal.SIGCONT)


async def test_a_server_that_started_without_redis_mirrors_and_fills_the_stream_once_it_is_there(
    redis_dir: Path,  # noqa: F811 - the fixture
    database_url: str,
    nursery: trio.Nursery,
) -> None:
    private = PrivateRedis(redis_dir)
    url = f"unix://{redis_dir}/redis/redis.sock"
    async with ServerProcess.running(
        redis_dir / "a", CATFISH_DATABASE_URL=database_url, CATFISH_REDIS_URL=url
    ) as server:
        with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5.0) as client:
            chatter = Chatter(client)
            await chatter.say(server, 3)
            assert (await health(server))["mirror"] == "away"
            assert await nursery.start(private.run) == url
            with trio.fail_after(30):
                while (await health(server))["mirror"] != "ok":  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.05)
            await chatter.say(server, 3)
            await chatter.all_out()
    nursery.cancel_scope.cancel()


async def health(server: ServerProcess) -> Any:
    def ask() -> Any:
        connection = http.client.HTTPConnection(server.address, timeout=10)
        connection.request("GET", "/health")
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer)

    return await trio.to_thread.run_sync(ask)
