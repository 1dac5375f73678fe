"""Instances that know nothing but their mirrors, and what they were told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import redis
import trio

from catfish.config import Settings
from catfish.mirror.private_redis import PrivateRedis
from catfish.mirror.redis_mirror import RedisMirror
from catfish.rooms.events import Custom, Event, MessageSent
from catfish.rooms.model import Message
from catfish.rooms.ports import Mirror
from tests.doubles.memory_mirror import MemoryNetwork


class Runnable(Mirror, Protocol):
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None: ...

    def statistics(self) -> Any: ...


class Site:
    """One instance: a `Mirrored` that writes down what it is told, and its mirror.

    Rooms up to number 99 are hosted, those above are not.
    """

    mirror: Runnable

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[tuple[int, Event, str | None]] = []
        self.states: list[bool] = []
        self.gaps = 0

    def hosts(self, number: int) -> bool:
        return number < 100

    def mirrored(self, number: int, event: Event, to: str | None) -> None:
        self.heard.append((number, event, to))

    def mirror_gap(self) -> None:
        self.gaps += 1

    def mirror_state(self, connected: bool) -> None:
        self.states.append(connected)

    def texts(self, number: int | None = None) -> list[str]:
        """The texts of `say` and `store` that were heard, in order."""
        return [text_of(event) for room, event, _ in self.heard if number in (None, room)]

    def say(self, text: str, number: int = 1, to: str | None = None) -> None:
        """Publish an ephemeral event."""
        self.mirror.publish(number, said(text), to)

    def store(self, text: str, number: int = 1) -> None:
        """Publish a durable one."""
        self.mirror.publish(number, stored(text))


def said(text: str) -> Custom:
    return Custom(room="room", user="ann", event="said", data=text)


def stored(text: str) -> MessageSent:
    message = Message(room="room", seq=1, id=1, user="ann", name="Ann", content=text, created_at=1)
    return MessageSent(room="room", revision=1, message=message)


def text_of(event: Event) -> str:
    if isinstance(event, MessageSent):
        return event.message.content
    assert isinstance(event, Custom)
    return str(event.data)


class World(Protocol):
    """Something that mirrors, with a switch."""

    async def join(self, name: str) -> Site:
        """A new instance that mirrors from now on."""
        ...

    async def outage(self) -> None:
        """Nobody can mirror from now on."""
        ...

    async def recovery(self) -> None: ...


class MemoryWorld:
    def __init__(self, nursery: trio.Nursery, settings: Settings) -> None:
        self.network = MemoryNetwork()
        self._nursery = nursery
        self._settings = settings

    async def join(self, name: str) -> Site:
        site = Site(name)
        mirror = site.mirror = self.network.mirror(self._settings, name, site)
        await self._nursery.start(mirror.run)
        return site

    async def outage(self) -> None:
        self.network.away()

    async def recovery(self) -> None:
        self.network.back()


class RedisWorld:
    """With a Redis of its own, which loses everything when it is switched off."""

    def __init__(self, servers: trio.Nursery, nursery: trio.Nursery, settings: Settings, directory: Path) -> None:
        self.server = PrivateRedis(directory)
        self.settings = settings
        self._servers = servers
        self._nursery = nursery
        self._switch: trio.CancelScope | None = None
        self._off = trio.Event()
        self.scopes: dict[str, trio.CancelScope] = {}
        """Ends an instance, by its name."""

    async def join(self, name: str) -> Site:
        site = Site(name)
        mirror = site.mirror = RedisMirror(self.settings, name, site, url=self.server.url)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as self.scopes[name]:
                await mirror.run(task_status=task_status)

        await self._nursery.start(run)
        return site

    async def outage(self) -> None:
        if self._switch is not None:
            self._switch.cancel()
            await self._off.wait()

    async def recovery(self) -> None:
        async def run(*, task_status: trio.TaskStatus[str]) -> None:
            self._off = trio.Event()
            with trio.CancelScope() as self._switch:
                await self.server.run(task_status=task_status)
            self._off.set()

        await self._servers.start(run)

    def pid(self) -> int:
        pid = self.server.statistics().pid
        assert pid is not None
        return pid

    async def ask(self, *command: str | int) -> object:
        """Anything that Redis can be asked."""

        def visit() -> object:
            with redis.Redis.from_url(self.server.url, socket_timeout=5.0) as client:
                return client.execute_command(*command)

        return await trio.to_thread.run_sync(visit)


@asynccontextmanager
async def redis_world(directory: Path, settings: Settings) -> AsyncIterator[RedisWorld]:
    async with trio.open_nursery() as servers:
        async with trio.open_nursery() as nursery:
            world = RedisWorld(servers, nursery, settings, directory)
            await world.recovery()
            yield world
            nursery.cancel_scope.cancel()
        servers.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes bring about; the limit is for tests that would hang."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.005)
