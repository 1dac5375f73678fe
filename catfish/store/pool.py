"""Connections for everything but the journal, used from worker threads.

Small on purpose: a call takes an idle connection or opens one, and gives it back; a limiter keeps the number of calls,
and so of connections, in bounds. A connection that failed is closed, and its idle companions with it, since they were
most likely lost at the same moment; a call that only reads, or may be repeated, then tries once more on a new one. No
call waits for a server that is gone: `connection` bounds every wait, and attempts to connect back off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import trio
from psycopg.pq import TransactionStatus

from catfish.rooms.ports import StoreUnavailable
from catfish.store.connection import Connection, Connector, is_conflict, is_outage
from catfish.store.pipeline import rollback

T = TypeVar("T")


class PoolStatistics(NamedTuple):
    size_max: int
    idle: int
    busy: int
    waiting: int


class Pool:
    """
    Args:
        size_max: connections, and calls at the same time; further calls wait.
    """

    def __init__(self, connector: Connector, size_max: int) -> None:
        self._connector = connector
        self._limiter = trio.CapacityLimiter(size_max)
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def statistics(self) -> PoolStatistics:
        limits = self._limiter.statistics()
        return PoolStatistics(int(limits.total_tokens), len(self._idle), limits.borrowed_tokens, limits.tasks_waiting)

    async def run(self, work: Callable[[Connection], T], *, abandon: bool = True) -> T:
        """Run `work` on a connection in a worker thread.

        Args:
            work: may be repeated when the connection is lost.
            abandon: when the caller is cancelled, let the thread finish by itself.

        Raises:
            StoreUnavailable: Postgres is away, or too slow.
        """
        return await trio.to_thread.run_sync(self._visit, work, limiter=self._limiter, abandon_on_cancel=abandon)

    def close(self) -> None:
        """Close what is idle; what is busy is closed when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _visit(self, work: Callable[[Connection], T]) -> T:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._work(connection, work)
            except StoreUnavailable:
                if not connection.closed:
                    raise
                self._drop_idle()
        return self._work(self._connector.connect(), work)

    def _work(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        try:
            return work(connection)
        except Exception as error:
            if is_outage(error) or is_conflict(error) or connection.closed:
                raise StoreUnavailable(str(error).strip()) from error
            raise
        finally:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            rollback(connection)
        with self._lock:
            if not self._closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
