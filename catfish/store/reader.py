"""Short reads that travel together, and without a thread.

A visit to the pool costs a thread's turn, twice, and psycopg's cursor; together several times as much as Postgres needs
for a page by its primary key. And every question that travels by itself costs Postgres a turn of its own.

Theory of operation. A read waits in a queue until a connection is free; whoever finds one free *leads*: it takes
everything that waits, sends it in one pipeline, awaits the answers on the connection's socket, hands them out, and
wakes the next that waits to lead. So the next batch forms while this one is under way, as in the journal, and nobody
needs a task of his own. Statements are prepared once on each connection. Only connecting, which has no form that waits
without blocking, is left to a thread.

A statement that fails ends those behind it in its pipeline; these travel again. When the connection is lost, all that
were not answered travel once more, over a new one. A leader that is cancelled closes its connection, and leaves those
of the others to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import psycopg
import trio
from psycopg import errors, pq
from psycopg.adapt import Transformer

from catfish.rooms.ports import StoreUnavailable
from catfish.store.arrays import Parameter
from catfish.store.connection import Connection, Connector, is_conflict, is_outage
from catfish.store.pipeline import numbered
from catfish.store.pool import PoolStatistics

Row = tuple[Any, ...]
BATCH_MAX: Final = 64
"""Statements in one pipeline."""
_BINARY: Final = 1


class _Call:
    """Whoever waits for reads."""

    __slots__ = ("open", "wakeup")

    def __init__(self, reads: int) -> None:
        self.open = reads
        """How many of its reads are not done."""
        self.wakeup = trio.Event()
        """Set when all are done, or it is to lead."""


class _Read:
    __slots__ = ("call", "done", "failure", "lost", "parameters", "query", "rows")

    def __init__(self, call: _Call, query: bytes, parameters: Sequence[Parameter]) -> None:
        self.call = call
        self.query = query
        self.parameters = parameters
        self.rows: list[Row] = []
        self.failure: Exception | None = None
        self.done = False
        self.lost = False
        """It was under way once when a connection was lost."""

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.finish()

    def finish(self) -> None:
        self.done = True
        self.call.open -= 1
        if not self.call.open:
            self.call.wakeup.set()


class Reader:
    """Connections for single statements that only read, used from Trio's thread alone.

    Args:
        size_max: connections, and so batches that are under way at the same time.
    """

    def __init__(self, connector: Connector, size_max: int) -> None:
        self._connector = connector
        self._size_max = size_max
        self._idle: list[Connection] = []
        self._busy = 0
        self._waiting: deque[_Read] = deque()
        self._closed = False

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(self._size_max, len(self._idle), self._busy, len(self._waiting))

    async def rows(self, query: bytes, parameters: Sequence[Parameter]) -> list[Row]:
        """The rows of a statement, in binary; it may be repeated when the connection is lost.

        Raises:
            StoreUnavailable: Postgres is away, or too slow.
            psycopg.Error: the statement failed.
        """
        [rows] = await self.together((query, parameters))
        return rows

    async def together(self, *statements: tuple[bytes, Sequence[Parameter]]) -> list[list[Row]]:
        """The rows of each of several statements, which travel at the same time. Raises: as `rows`."""
        call = _Call(len(statements))
        reads = [_Read(call, query, parameters) for query, parameters in statements]
        self._waiting.extend(reads)
        try:
            while call.open:
                if self._busy < self._size_max and self._waiting:
                    await self._lead()
                else:
                    await call.wakeup.wait()
                    if call.open:
                        call.wakeup = trio.Event()
        finally:
            if call.open:  # cancelled
                for read in reads:
                    read.done = True
                    if read in self._waiting:
                        self._waiting.remove(read)
                self._wake_next()
        for read in reads:
            if read.failure is not None:
                raise read.failure
        return [read.rows for read in reads]

    def close(self) -> None:
        """Close what is idle; what is busy is closed when it is given back."""
        self._closed = True
        self._drop_idle()

    def _wake_next(self) -> None:
        if self._waiting and self._busy < self._size_max:
            self._waiting[0].call.wakeup.set()

    async def _lead(self) -> None:
        """Have one batch answered. Raises only what cancels."""
        self._busy += 1
        try:
            connection = self._idle.pop() if self._idle else None
            if connection is None:
                try:
                    connection = await trio.to_thread.run_sync(self._open)
                except StoreUnavailable as failure:
                    # Nobody gets anything; to let each of them find that out by himself would only take longer.
                    waiting, self._waiting = self._waiting, deque()
                    for read in waiting:
                        read.fail(failure)
                    return
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
            await self._visit(connection, batch)
        finally:
            self._busy -= 1
            self._wake_next()

    def _open(self) -> Connection:
        connection = self._connector.connect()
        connection.pgconn.nonblocking = 1
        connection.pgconn.enter_pipeline_mode()
        return connection

    async def _visit(self, connection: Connection, batch: list[_Read]) -> None:
        whole = False
        lost: Exception | None = None
        again = [read for read in batch if read.lost]
        try:
            with trio.move_on_after(connection.answer_s) as scope:
                await _exchange(connection, batch)
                whole = True
            if scope.cancelled_caught:
                lost = psycopg.OperationalError(f"the server did not answer within {connection.answer_s} s")
        except psycopg.Error as error:
            lost = error
        finally:
            # Whatever was not received would be taken for the answer to something else.
            if whole and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
                if not self._closed and lost is not None:
                    self._drop_idle()  # most likely lost at the same moment
            for read in reversed(batch):
                if read.done:
                    continue
                if lost is not None and read in again:
                    read.fail(StoreUnavailable(str(lost).strip()))
                    continue
                read.lost = read.lost or lost is not None
                self._waiting.appendleft(read)

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


async def _exchange(connection: Connection, batch: Sequence[_Read]) -> None:
    """Send a batch, and finish every read that is answered.

    Raises:
        psycopg.Error: the connection is of no use any more.
    """
    pgconn, prepared = connection.pgconn, connection.prepared
    awaited: list[tuple[_Read, bytes | None]] = []
    for read in batch:
        name = prepared.get(read.query)
        if name is None:
            name = prepared[read.query] = connection.name_statement()
            oids = [parameter.oid for parameter in read.parameters]
            pgconn.send_prepare(name, numbered(read.query), oids)
            awaited.append((read, name))
        formats = [_BINARY] * len(read.parameters)
        pgconn.send_query_prepared(name, read.parameters, formats, result_format=_BINARY)
        awaited.append((read, None))
    pgconn.pipeline_sync()
    while pgconn.flush():
        await trio.lowlevel.wait_writable(pgconn.socket)
        pgconn.consume_input()
    transformer = Transformer(connection)
    for read, preparing in awaited:
        while (result := await _result(pgconn)) is not None:
            if result.status == pq.ExecStatus.TUPLES_OK:
                transformer.set_pgresult(result)
                read.rows = transformer.load_rows(0, result.ntuples, tuple)
                read.finish()
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                _refused(connection, read, errors.error_from_result(result))
            if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED) and preparing is not None:
                prepared.pop(read.query, None)
    while (result := await _result(pgconn)) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
        pass


def _refused(connection: Connection, read: _Read, error: psycopg.Error) -> None:
    """The statement failed; unless that is because of the connection, it would fail again."""
    if isinstance(error, errors.InvalidSqlStatementName):
        connection.prepared.clear()  # a pooler in front of Postgres gave us another server process
    if not (is_outage(error) or is_conflict(error)):
        read.fail(error)
    elif read.lost or isinstance(error, errors.QueryCanceled):
        read.fail(StoreUnavailable(str(error).strip()))
    else:
        read.lost = True


async def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        await trio.lowlevel.wait_readable(pgconn.socket)
        pgconn.consume_input()
    if pgconn.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError("the connection was lost")
    return pgconn.get_result()
