"""Whether a transaction was committed whose commit was under way when the connection was lost.

Every transaction of a writer also writes its number into the writer's own row in `journals`. After a lost connection
that row tells: the statement that asks waits for the lost transaction, should it still be running in the server.
(The transaction's own id would not do: it may be given away again when the server crashed before writing it down.)
"""

from __future__ import annotations

import logging
import uuid
from typing import Generic, TypeVar

from catfish.store import queries
from catfish.store.arrays import Parameter, int8, text
from catfish.store.connection import Connection

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Marker(Generic[T]):
    """The transactions of one writer, one at a time; `T` is what a transaction results in."""

    def __init__(self) -> None:
        self._writer = uuid.uuid4().hex
        self._number = 0
        self._unconfirmed: tuple[int, T] | None = None
        self.asked = 0
        """How many transactions were asked about."""

    def mark(self) -> tuple[Parameter, Parameter]:
        """For `queries.MARK`, the first statement of a transaction."""
        self._number += 1
        return text(self._writer), int8(self._number)

    def about_to_commit(self, result: T) -> None:
        self._unconfirmed = self._number, result

    def told(self) -> None:
        """The server has answered: the transaction was committed, or failed."""
        self._unconfirmed = None

    @property
    def uncertain(self) -> bool:
        return self._unconfirmed is not None

    def settle(self, connection: Connection) -> T | None:
        """The result of the transaction that nobody confirmed, if it was committed after all."""
        if self._unconfirmed is None:
            return None
        number, result = self._unconfirmed
        row = connection.execute(queries.MARKED, (self._writer,)).fetchone()
        self._unconfirmed = None
        self.asked += 1
        committed = row is not None and row[0] == number
        logger.info("the transaction that was not confirmed was %s", "committed" if committed else "not committed")
        return result if committed else None
