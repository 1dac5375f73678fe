"""Connections to Postgres, and what their errors mean.

A statement has two clocks. The server's (`statement_timeout`) ends what takes long there. Ours ends the connection when
the server says nothing at all: it may be paused, or its machine gone without a word.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import threading
import time
import traceback
from typing import Any, Final, NoReturn, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

from catfish.rooms.ports import StoreUnavailable
from catfish.store import arrays

T = TypeVar("T")
logger = logging.getLogger(__name__)

SILENCE_S: Final = 1.0
"""Beyond the statement timeout; then the server is taken for gone."""
CONNECT_S_MAX: Final = 5
BACKOFF_S_MIN: Final = 0.05
BACKOFF_S_MAX: Final = 1.0

PREPARE: Final = """
SELECT set_config('statement_timeout', %(timeout)s, false),
    set_config('idle_in_transaction_session_timeout', %(timeout)s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    -- Statistics lag behind in a young database; every statement here has an index, whose order it uses.
    set_config('enable_seqscan', 'off', false),
    set_config('enable_bitmapscan', 'off', false),
    set_config('jit', 'off', false)
"""


class Connection(psycopg.Connection[Any]):
    """A connection in autocommit mode that never waits for the server without end."""

    answer_s: float = math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: dict[bytes, bytes] = {}
        """Statement -> its name in the server, of those that `pipeline` has prepared."""
        self._names = itertools.count()

    def name_statement(self) -> bytes:
        """A name that no prepared statement of this connection has had."""
        return b"catfish_%d" % next(self._names)

    def give_up(self) -> NoReturn:
        """The server is silent: end the connection.

        Raises:
            psycopg.OperationalError: saying so.
        """
        self.pgconn.finish()
        raise psycopg.OperationalError(f"the server did not answer within {self.answer_s} s")

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        """The same generator; psycopg resumes it at least every 0.1 s."""
        deadline = time.monotonic() + self.answer_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if time.monotonic() > deadline:
                    self.give_up()
                wanted = gen.send(ready)
        except StopIteration as stop:
            result: T = stop.value
            return result


class Connector:
    """Opens connections; after a failure it refuses further attempts for a growing while."""

    def __init__(self, url: str, *, timeout_s: float, application_name: str = "catfish") -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._application_name = application_name
        self._lock = threading.Lock()
        self._failures = 0
        self._refuse_until = 0.0
        self._reason = ""

    def connect(self) -> Connection:
        """Open a connection; blocks.

        Raises:
            StoreUnavailable: Postgres does not let us in, or did not a moment ago.
        """
        with self._lock:
            if time.monotonic() < self._refuse_until:
                raise StoreUnavailable(self._reason)
        try:
            connection = self._open()
        except psycopg.Error as error:
            reason = str(error).strip()
            with self._lock:
                self._failures += 1
                pause_s = min(BACKOFF_S_MIN * 2 ** min(self._failures - 1, 10), BACKOFF_S_MAX)
                self._refuse_until = time.monotonic() + pause_s * random.uniform(0.5, 1.0)
                self._reason = reason
            raise StoreUnavailable(reason) from error
        with self._lock:
            self._failures = 0
            self._refuse_until = 0.0
        return connection

    def _open(self) -> Connection:
        try:
            connection = Connection.connect(
                self._url,
                autocommit=True,
                prepare_threshold=0,
                connect_timeout=max(2, min(CONNECT_S_MAX, math.ceil(self._timeout_s))),
                application_name=self._application_name,
                client_encoding="UTF8",
            )
        except psycopg.Error as error:
            # The error and psycopg's frame refer to each other; the socket of an attempt that took too long would stay
            # open until the garbage collector comes by, and in an outage there are many.
            traceback.clear_frames(error.__traceback__)
            raise
        try:
            connection.answer_s = self._timeout_s + SILENCE_S
            connection.execute(PREPARE, {"timeout": f"{math.ceil(self._timeout_s * 1000)}ms"}, prepare=False)
            arrays.register(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def is_outage(error: BaseException) -> bool:
    """Postgres cannot do it now, whatever is asked: it is gone, stopping, starting, full, or too slow."""
    if isinstance(error, errors.QueryCanceled | errors.IdleInTransactionSessionTimeout):
        return True
    state = getattr(error, "sqlstate", None)
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    # 08 connection, 25006 read-only (a standby), 53 resources, 57P stop and start, 58 and XX the server's own trouble
    return state[:2] in {"08", "53", "58", "XX"} or state[:3] == "57P" or state in {"25006", "55P03"}


def is_conflict(error: BaseException) -> bool:
    """Another transaction came in between, or a pooler in front of Postgres gave us another server process: the same
    transaction may succeed when it is repeated."""
    return isinstance(error, errors.SerializationFailure | errors.DeadlockDetected | errors.InvalidSqlStatementName)


def is_unstorable(error: BaseException) -> bool:
    """A value is to blame: of the wrong form, out of range, too large, against a constraint."""
    if isinstance(error, arrays.Unstorable):
        return True
    state = getattr(error, "sqlstate", None)
    if state is None:
        return isinstance(error, psycopg.DataError)
    return state[:2] in {"22", "23", "54"}
