"""A store in memory that keeps the promises of `catfish.rooms.ports.Store`; the contract tests hold it to them.

Faults are injected by its attributes:

* `away = True`: every call raises `StoreUnavailable` until it is False again;
* `fail_next(n)`: the next `n` calls do; with `applied=True` they do so after the change was made, as when the
  connection is lost before the answer arrives;
* `hold()` / `release()`: commits wait in between (`commits_waiting` tells how many do).

Time is Trio's clock on top of the wall clock at the first call, so that leases end under virtual time too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, RoomRecord
from catfish.rooms.events import DurableEvent
from catfish.rooms.model import Member, Message
from catfish.rooms.ports import Figures, Page, Store, StoreUnavailable, Taken
from tests.doubles.memory_administration import MemoryAdministration
from tests.doubles.memory_moderation import MemoryModeration
from tests.doubles.memory_rooms import MemoryRooms


class MemoryStore(Store):
    """The double; see the module."""

    def __init__(self, *, room_capacity_max: int = 10_000) -> None:
        self.away = False
        self.commits_waiting = 0
        self.batches: list[int] = []
        """Sizes of the batches that were committed."""
        self._rooms = MemoryRooms(self._now, room_capacity_max)
        self.administration = MemoryAdministration(self._rooms, self._read)
        self.moderation = MemoryModeration(self._rooms.shelf, self._read)
        self._failures = 0
        self._failures_applied = False
        self._held: trio.Event | None = None
        self._unconfirmed: dict[int, tuple[Command, Answer | Rejected]] = {}
        self._clock_start: tuple[float, float] | None = None

    # Faults

    def fail_next(self, n: int = 1, *, applied: bool = False) -> None:
        self._failures = n
        self._failures_applied = applied

    def hold(self) -> None:
        if self._held is None:
            self._held = trio.Event()

    def release(self) -> None:
        if self._held is not None:
            self._held.set()
            self._held = None

    async def _gate(self) -> bool:
        """Raise the fault that is due; True when the call is to fail after it took effect."""
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("the store is away")
        if self._failures:
            self._failures -= 1
            if self._failures_applied:
                return True
            raise StoreUnavailable("the store failed")
        return False

    def _now(self) -> int:
        if self._clock_start is None:
            self._clock_start = (time.time(), trio.current_time())
        wall, start = self._clock_start
        return int((wall + trio.current_time() - start) * 1000)

    # The port

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        self.commits_waiting += 1
        try:
            while self._held is not None:
                await self._held.wait()
            fail = await self._gate()
        finally:
            self.commits_waiting -= 1
        known, self._unconfirmed = self._unconfirmed, {}
        answers: list[Answer | Rejected] = []
        for command in batch:
            before = known.get(id(command))
            answers.append(before[1] if before is not None else self._rooms.execute(command))
        self.batches.append(len(batch))
        if fail:
            self._unconfirmed = {id(command): (command, answer) for command, answer in zip(batch, answers, strict=True)}
            raise StoreUnavailable("the connection was lost before the commit was confirmed")
        return answers

    async def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        await self._read()
        return self._rooms.room(id=id, code=code)

    async def members(self, number: int, limit: int) -> list[Member]:
        await self._read()
        return self._rooms.members(number, limit)

    async def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        await self._read()
        return self._rooms.messages.history(number, before=before, after=after, limit=limit)

    async def undeleted(
        self, number: int, *, below: int | None = None, below_id: int | None = None, limit: int
    ) -> Page:
        await self._read()
        return self._rooms.messages.undeleted(number, below=below, below_id=below_id, limit=limit)

    async def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        await self._read()
        return self._rooms.messages.changed_since(number, seq, limit)

    async def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        await self._read()
        return self._rooms.messages.changes(number, after=after, limit=limit)

    async def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        await self._read()
        return self._rooms.revisions(numbers)

    async def renew_lease(self, instance: str, lease_s: float, figures: Figures | None = None) -> bool:
        fail = await self._gate()
        held = self._rooms.renew_lease(instance, lease_s, figures)
        self._lose(fail)
        return held

    async def end_lease(self, instance: str) -> None:
        fail = await self._gate()
        self._rooms.end_lease(instance)
        self._lose(fail)

    async def take_over(self, instance: str, limit: int, *, stopped_only: bool = False) -> list[Taken]:
        fail = await self._gate()
        taken = self._rooms.take_over(instance, limit, stopped_only)
        self._lose(fail)
        return taken

    async def _read(self) -> None:
        self._lose(await self._gate())

    def _lose(self, fail: bool) -> None:
        if fail:
            raise StoreUnavailable("the connection was lost before the answer arrived")
