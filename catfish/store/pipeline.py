"""Statements that travel together.

psycopg's own pipeline sends every statement by itself and looks for answers after each; that is half of what a small
batch costs, here and in the server. This one, on psycopg's wrapper of libpq, sends what was collected with one write
and waits once. Statements are prepared on their first use. Results are read by psycopg's adapters.

    with Pipeline(connection) as pipeline:
        pipeline.add(b"BEGIN")
        pipeline.add(b"SELECT …", (int8s([1, 2]),), each=rows.append)
        pipeline.fetch()          # everything so far has been answered, `each` was called
        pipeline.add(b"COMMIT")   # sent on leaving
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

from catfish.store.arrays import Parameter
from catfish.store.connection import Connection

Row = tuple[Any, ...]
Take = Callable[[Row], object]
_BINARY: Final = 1


class Pipeline:
    """Collects statements and exchanges them for their results.

    Leaving it by an exception sends nothing that was only collected; the transaction is left open then.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._collected: list[tuple[bytes, Sequence[Parameter], Take | None]] = []
        self._poll = select.poll()

    def __enter__(self) -> Self:
        self._pgconn.enter_pipeline_mode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection.closed:
            return
        failure: psycopg.Error | None = None
        try:
            if error is None:
                failure = self._exchange(synchronise=True)
            if error is not None or failure is not None:
                self._recover(synchronise=error is not None)
            self._pgconn.exit_pipeline_mode()
        except BaseException:
            # Whatever was not received would be taken for the answer to something else.
            self._connection.close()
            raise
        if failure is not None:
            raise failure

    def add(self, query: bytes, parameters: Sequence[Parameter] = (), each: Take | None = None) -> None:
        """Collect a statement; `each` will be called with its rows."""
        self._collected.append((query, parameters, each))

    def fetch(self) -> None:
        """Send what was collected, and return when all of it has been answered.

        Raises:
            psycopg.Error: of the first statement that failed; those behind it were not executed.
        """
        if self._collected and (failure := self._exchange(synchronise=False)) is not None:
            raise failure

    def _exchange(self, *, synchronise: bool) -> psycopg.Error | None:
        """The error of the first statement that failed; the answers to those behind it are still to be received."""
        pgconn, prepared = self._pgconn, self._connection.prepared
        awaited: list[tuple[bytes | None, Take | None]] = []
        for query, parameters, each in self._collected:
            name = prepared.get(query)
            if name is None:
                name = prepared[query] = self._connection.name_statement()
                pgconn.send_prepare(name, numbered(query), [parameter.oid for parameter in parameters])
                awaited.append((query, None))
            pgconn.send_query_prepared(name, parameters, [_BINARY] * len(parameters), result_format=_BINARY)
            awaited.append((None, each))
        self._collected.clear()
        if synchronise:
            pgconn.pipeline_sync()
        else:
            pgconn.send_flush_request()
        deadline = time.monotonic() + self._connection.answer_s
        self._poll.register(pgconn.socket)
        self._flush(deadline)
        for place, (_, each) in enumerate(awaited):
            failure = self._receive(each, deadline)
            if failure is not None:
                for unprepared, _ in awaited[place:]:
                    if unprepared is not None:
                        del prepared[unprepared]
                if isinstance(failure, errors.InvalidSqlStatementName):
                    prepared.clear()
                return failure
        if synchronise:
            self._receive(None, deadline)
        return None

    def _recover(self, *, synchronise: bool) -> None:
        """After a failure: pass over what is not executed any more, up to the next synchronisation."""
        deadline = time.monotonic() + self._connection.answer_s
        if synchronise:
            self._pgconn.pipeline_sync()
            self._poll.register(self._pgconn.socket)
            self._flush(deadline)
        while (result := self._result(deadline)) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
            pass

    def _receive(self, each: Take | None, deadline: float) -> psycopg.Error | None:
        """Take the answer to one statement; its error if it failed."""
        failure: psycopg.Error | None = None
        while (result := self._result(deadline)) is not None:
            status = result.status
            if status == pq.ExecStatus.TUPLES_OK:
                if each is not None:
                    transformer = Transformer(self._connection)
                    transformer.set_pgresult(result)
                    for row in transformer.load_rows(0, result.ntuples, tuple):
                        each(row)
            elif status == pq.ExecStatus.PIPELINE_SYNC:
                break
            elif status == pq.ExecStatus.FATAL_ERROR:
                failure = errors.error_from_result(result)
            elif status == pq.ExecStatus.PIPELINE_ABORTED:
                failure = failure or psycopg.OperationalError("an earlier statement has failed")
        return failure

    # The socket

    def _result(self, deadline: float) -> pq.abc.PGresult | None:
        pgconn = self._pgconn
        while pgconn.is_busy():
            self._wait(select.POLLIN, deadline)
            pgconn.consume_input()
        return pgconn.get_result()

    def _flush(self, deadline: float) -> None:
        while self._pgconn.flush():
            if self._wait(select.POLLIN | select.POLLOUT, deadline) & select.POLLIN:
                self._pgconn.consume_input()

    def _wait(self, events: int, deadline: float) -> int:
        self._poll.modify(self._pgconn.socket, events)
        ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            self._connection.give_up()
        return ready[0][1]


def execute(connection: Connection, query: bytes) -> None:
    """One statement without parameters or result. Transactions that use pipelines are also begun, rolled back and
    committed here: after a ROLLBACK of its own psycopg deallocates all prepared statements, ours too."""
    with Pipeline(connection) as pipeline:
        pipeline.add(query)


def rollback(connection: Connection) -> None:
    """Leave the transaction, whatever state it is in; a connection that cannot is closed."""
    try:
        if not connection.closed:
            execute(connection, b"ROLLBACK")
    except psycopg.Error:
        connection.close()


@cache
def numbered(query: bytes) -> bytes:
    """With parameters as Postgres names them."""
    places = iter(range(1, query.count(b"%") + 1))
    return re.sub(rb"%[sb]", lambda _: b"$%d" % next(places), query)
