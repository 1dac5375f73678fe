"""What stands between the instances and the outside: a mirror and a path to the store that fail as they are told to.

Every chance is drawn from the one generator of the run, so a seed always gives the same faults.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

import msgspec
import trio

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, RoomRecord
from catfish.rooms.events import DurableEvent, Event
from catfish.rooms.model import Member, Message
from catfish.rooms.ports import Mirror, Mirrored, Page, Store, StoreUnavailable, Taken
from tests.doubles.memory_store import MemoryStore

T = TypeVar("T")
Later = Callable[[float, Callable[[], None]], None]
"""Does something after so many seconds."""


class StorePath(Store):
    """One instance's way to the store that all share: it takes time, and it breaks, before or after the change."""

    def __init__(self, store: MemoryStore, rng: Random) -> None:
        self._store = store
        self._rng = rng
        self.cut = False
        self.failing = 0.0
        """Chance that a call fails."""
        self.slow_s = 0.02
        """Most seconds for either way of a call."""
        self._unconfirmed: dict[int, tuple[Command, Answer | Rejected]] = {}

    async def _call(self, calling: Callable[[], Awaitable[T]]) -> T:
        await self._travel()
        result = await calling()
        await self._travel()
        return result

    async def _travel(self) -> None:
        await trio.sleep(self._rng.uniform(0, self.slow_s))
        if self.cut or self._rng.random() < self.failing:
            raise StoreUnavailable("the simulated path to the store is broken")

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        """As the real one does, it asks after a lost answer whether the batch was committed all the same."""
        await self._travel()
        known, self._unconfirmed = self._unconfirmed, {}
        remaining = [command for command in batch if id(command) not in known]
        answers = await self._store.commit(remaining) if remaining else []
        told = known | {id(command): (command, answer) for command, answer in zip(remaining, answers, strict=True)}
        try:
            await self._travel()
        except StoreUnavailable:
            self._unconfirmed = told
            raise
        return [told[id(command)][1] for command in batch]

    async def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        return await self._call(lambda: self._store.room(id=id, code=code))

    async def members(self, number: int, limit: int) -> list[Member]:
        return await self._call(lambda: self._store.members(number, limit))

    async def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        return await self._call(lambda: self._store.history(number, before=before, after=after, limit=limit))

    async def undeleted(
        self, number: int, *, below: int | None = None, below_id: int | None = None, limit: int
    ) -> Page:
        return await self._call(lambda: self._store.undeleted(number, below=below, below_id=below_id, limit=limit))

    async def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        return await self._call(lambda: self._store.changed_since(number, seq, limit))

    async def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        return await self._call(lambda: self._store.changes(number, after=after, limit=limit))

    async def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        return await self._call(lambda: self._store.revisions(numbers))

    async def renew_lease(self, instance: str, lease_s: float) -> bool:
        return await self._call(lambda: self._store.renew_lease(instance, lease_s))

    async def end_lease(self, instance: str) -> None:
        await self._call(lambda: self._store.end_lease(instance))

    async def take_over(self, instance: str, limit: int) -> list[Taken]:
        return await self._call(lambda: self._store.take_over(instance, limit))


class MirrorNet:
    """All instances' mirrors: who publishes reaches the others, late, twice, out of order, or not at all."""

    def __init__(self, rng: Random, later: Later) -> None:
        self.rng = rng
        self.later = later
        self.ports: list[MirrorPort] = []
        self.dropping = 0.0
        self.repeating = 0.0
        self.slow_s = 0.01
        """Most seconds that an event is under way; each takes its own time, so they overtake each other."""

    def attach(self, mirrored: Mirrored) -> MirrorPort:
        port = MirrorPort(self, mirrored)
        self.ports.append(port)
        mirrored.mirror_state(True)
        return port

    def carry(self, sender: MirrorPort, number: int, event: Event, to: str | None) -> None:
        encoded = msgspec.msgpack.encode(event)
        for port in self.ports:
            if port is not sender:
                for _ in range(2 if self.rng.random() < self.repeating else 1):
                    port.expect(number, type(event), encoded, to)


class MirrorPort(Mirror):
    """One instance's mirror."""

    def __init__(self, net: MirrorNet, mirrored: Mirrored) -> None:
        self._net = net
        self._mirrored = mirrored
        self.apart = False
        self.closed = False

    def publish(self, number: int, event: Event, to: str | None = None) -> None:
        if not (self.apart or self.closed):
            self._net.carry(self, number, event, to)

    def expect(self, number: int, kind: type[Event], encoded: bytes, to: str | None) -> None:
        """An event is on its way here."""
        net = self._net
        if net.rng.random() < net.dropping:
            net.later(net.rng.uniform(0, 2), self.gap)
            return

        def arrive() -> None:
            if self.closed:
                return
            if self.apart:
                return  # `join_again` tells of the gap
            event: Any = msgspec.msgpack.decode(encoded, type=kind)
            if self._mirrored.hosts(number):
                self._mirrored.mirrored(number, event, to)

        net.later(net.rng.uniform(0, net.slow_s), arrive)

    def gap(self) -> None:
        if not self.closed:
            self._mirrored.mirror_gap()

    def part(self) -> None:
        """The instance is cut off from the others."""
        self.apart = True
        self._mirrored.mirror_state(False)

    def join_again(self) -> None:
        """It is connected again: everyone has missed something."""
        self.apart = False
        if not self.closed:
            self._mirrored.mirror_state(True)
        for port in self._net.ports:
            port.gap()

    def close(self) -> None:
        """The instance has died; what it published last may not have arrived anywhere."""
        self.closed = True
        self._net.ports.remove(self)
        for port in self._net.ports:
            self._net.later(self._net.rng.uniform(0, 1), port.gap)
