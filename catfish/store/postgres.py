"""The store: the port that `catfish.rooms.ports` declares, on Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import trio

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, RoomRecord
from catfish.rooms.events import DurableEvent
from catfish.rooms.model import Member, Message
from catfish.rooms.ports import Figures, Page, Store, Taken
from catfish.store import leases, listing, reads
from catfish.store.accounts import Accounts
from catfish.store.administration import Administration
from catfish.store.committer import Committer, CommitterStatistics
from catfish.store.connection import Connector
from catfish.store.directory import Answers, Directory
from catfish.store.logins import Logins
from catfish.store.moderation import Moderation
from catfish.store.pool import Pool, PoolStatistics
from catfish.store.reader import Reader
from catfish.store.sessions import Sessions


class StoreStatistics(NamedTuple):
    commits: CommitterStatistics
    pool: PoolStatistics
    reads: PoolStatistics
    """Of single statements that only read."""


class PostgresStore(Store):
    """The state of all rooms, in one database.

    It connects when it is first used, and again whenever the connection was lost. The journal's batches have a
    connection of their own, so that they never wait for reads; `commit` is called by one task at a time.

    Use it as an async context manager, or call `aclose`.

    Args:
        url: libpq URL of a database whose migrations are applied.
        settings: `database_pool_max`, `database_timeout_s` and `room_capacity_max` count here.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        connector = Connector(url, timeout_s=settings.database_timeout_s)
        self._committer = Committer(
            Connector(url, timeout_s=settings.database_timeout_s, application_name="catfish journal"),
            settings.room_capacity_max,
        )
        self._committing = trio.CapacityLimiter(1)
        readers = 1 if settings.database_pool_max < 6 else 2
        self._reader = Reader(connector, readers)
        self._pool = Pool(connector, max(1, settings.database_pool_max - 1 - readers))
        self.accounts = Accounts(self._pool)
        self.answers = Answers(self._pool)
        self.directory = Directory(self._pool)
        self.logins = Logins(self._pool)
        self.moderation = Moderation(self._pool, self._reader)
        self.sessions = Sessions(self._pool)
        self.administration = Administration(self._pool)
        self._take_over = leases.TakeOver()
        self._taking_over = trio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; waits for a commit that is under way, which is bounded by `database_timeout_s`."""
        self._pool.close()
        self._reader.close()
        await trio.to_thread.run_sync(self._committer.close)

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(self._committer.statistics(), self._pool.statistics(), self._reader.statistics())

    async def commit(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        """As `Store.commit`.

        It is repeated safely with the same command objects: those that were committed unheard get the answers that were
        lost. Across processes only `SendMessage` with a client id is recognised; the journal always sets one.
        A command that has a value which Postgres cannot hold is refused as `bad_request`, the others are committed.
        """
        return await trio.to_thread.run_sync(self._committer.commit, batch, limiter=self._committing)

    async def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        return await reads.room(self._reader, id, code)

    async def members(self, number: int, limit: int) -> list[Member]:
        return await self._pool.run(partial(reads.members, number=number, limit=limit))

    async def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        return await reads.history(self._reader, number, before, after, limit)

    async def room_history(
        self, id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> tuple[RoomRecord, Page] | None:
        return await reads.room_history(self._reader, id, before, after, limit)

    async def undeleted(
        self, number: int, *, below: int | None = None, below_id: int | None = None, limit: int
    ) -> Page:
        if below_id is not None:
            below = await self._pool.run(partial(listing.find_place, number=number, id=below_id))
        return await listing.undeleted(self._reader, number, below, limit)

    async def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        return await self._pool.run(partial(reads.changed_since, number=number, seq=seq, limit=limit))

    async def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        return await self._pool.run(partial(reads.changes, number=number, after=after, limit=limit))

    async def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        return await self._pool.run(partial(reads.revisions, numbers=numbers))

    async def renew_lease(self, instance: str, lease_s: float, figures: Figures | None = None) -> bool:
        return await self._pool.run(partial(leases.renew, instance=instance, lease_s=lease_s, figures=figures))

    async def end_lease(self, instance: str) -> None:
        await self._pool.run(partial(leases.end, instance=instance), abandon=False)

    async def take_over(self, instance: str, limit: int, *, stopped_only: bool = False) -> list[Taken]:
        async with self._taking_over:
            return await self._pool.run(
                partial(self._take_over.run, instance=instance, limit=limit, stopped_only=stopped_only),
                abandon=False,
            )
