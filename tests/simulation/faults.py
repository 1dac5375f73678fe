"""What stands between the instances and their store: a path that fails as it is told to.

Every chance is drawn from the one generator of the run, so a seed always gives the same faults.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, RoomRecord, SendMessage
from catfish.rooms.events import DurableEvent
from catfish.rooms.model import Member, Message
from catfish.rooms.ports import Figures, Page, Store, StoreUnavailable, Taken
from tests.doubles.memory_store import MemoryStore
from tests.simulation.clock import VirtualClock

T = TypeVar("T")
PATH_S = 0.02
"""Most seconds for either way of a call while nothing is wrong."""


class SimulatedStore(MemoryStore):
    """The store that all share. Their ways to it take the time, so it takes none itself."""

    async def _gate(self) -> bool:
        if self.away:
            raise StoreUnavailable("the store is away")
        return False


class StorePath(Store):
    """One instance's way to the store that all share: it takes time, and it breaks, before or after the change."""

    def __init__(self, store: MemoryStore, rng: Random, clock: VirtualClock, say: Callable[[str], None] | None) -> None:
        """`say` hears of every commit, when anybody listens; writing them down takes a sixth of the time of a run."""
        self._say = say
        self._store = store
        self.moderation = store.moderation
        self._rng = rng
        self._clock = clock
        self.cut = False
        self.failing = 0.0
        """Chance that a call fails."""
        self.slow_s = PATH_S
        """Most seconds for either way of a call."""
        self._unconfirmed: dict[int, tuple[Command, Answer | Rejected]] = {}
        self._untold: list[Taken] = []
        """Taken over by a call whose answer was lost."""

    async def _call(self, calling: Callable[[], Awaitable[T]]) -> T:
        await self._travel()
        result = await calling()
        await self._travel()
        return result

    async def _travel(self) -> None:
        await self._clock.sleep(self._rng.uniform(0, self.slow_s))
        if self.cut or self._rng.random() < self.failing:
            raise StoreUnavailable("the simulated path to the store is broken")

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        """As the real one does, it asks after a lost answer whether the batch was committed all the same."""
        await self._travel()
        known, self._unconfirmed = self._unconfirmed, {}
        remaining = [command for command in batch if id(command) not in known]
        answers = await self._store.commit(remaining) if remaining else []
        for command, answer in zip(remaining, answers, strict=True):
            if self._say is not None and not isinstance(command, SendMessage):
                self._say(f"commits {command} -> {answer}")
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

    async def renew_lease(self, instance: str, lease_s: float, figures: Figures | None = None) -> bool:
        return await self._call(lambda: self._store.renew_lease(instance, lease_s, figures))

    async def end_lease(self, instance: str) -> None:
        await self._call(lambda: self._store.end_lease(instance))

    async def take_over(self, instance: str, limit: int, *, stopped_only: bool = False) -> list[Taken]:
        """As the real one does, it reports what an earlier call moved whose answer was lost."""
        await self._travel()
        taken, self._untold = (
            self._untold or await self._store.take_over(instance, limit, stopped_only=stopped_only),
            [],
        )
        try:
            await self._travel()
        except StoreUnavailable:
            self._untold = taken
            raise
        return taken
