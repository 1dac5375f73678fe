"""The journal's transactions: each batch in one, committed once.

Theory of operation. The commands of a batch are applied to the rooms that they name (`load`, `apply`, `write`) in one
pipelined transaction. Conflicts with other instances are repeated at once. A batch with a value that Postgres cannot
hold is divided until that command stands alone; it is refused, the others are committed.

When the connection is lost while a commit is under way, the next call asks first what became of it (`marker`); commands
that are handed in again then get the answers which they would have had. They are recognised by their identity, not by
their values.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg import errors

from catfish.errors import Rejected
from catfish.rooms.commands import Answer, Command, SendMessage, Sent
from catfish.rooms.ports import StoreUnavailable
from catfish.store import queries, refusals
from catfish.store.apply import Applier
from catfish.store.arrays import int8s
from catfish.store.connection import Connection, Connector, is_conflict, is_outage, is_unstorable
from catfish.store.load import Loader
from catfish.store.marker import Marker
from catfish.store.pipeline import Pipeline, execute, rollback
from catfish.store.write import Claimed, Writer

logger = logging.getLogger(__name__)

Answers = list[Answer | Rejected]
Told = dict[int, tuple[Command, Answer | Rejected]]
"""Answers by the identity of the command, which is kept alive here."""

ATTEMPTS_MAX: Final = 12
"""Of a transaction that others come in between of; then the caller is told that the store is unavailable."""
CAREFUL_MAX: Final = 3
"""Attempts after a unique index was violated; then a value is to blame."""
PAUSE_S_MAX: Final = 0.05


class CommitterStatistics(NamedTuple):
    commands: int
    batches: int
    conflicts: int
    """Transactions that were repeated because of another one."""
    divided: int
    """Batches with a command that could not be stored."""
    unconfirmed: int
    """Commits whose outcome had to be asked for."""
    connected: bool


class _Attempts:
    """What the attempts at one batch have taught."""

    def __init__(self) -> None:
        self.made = 0
        self.careful = 0
        """Look up what was stored before; counts how often a unique index was violated."""
        self.lost: set[str] = set()
        """Strangers who cannot be matched: they are just leaving."""
        self.divided = False
        self.reconnected = False


class Committer:
    """Commits batches, one at a time, on a connection of its own. All methods block."""

    def __init__(self, connector: Connector, room_capacity_max: int) -> None:
        self._connector = connector
        self._room_capacity_max = room_capacity_max
        self._marker = Marker[Told]()
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._statistics = CommitterStatistics(0, 0, 0, 0, 0, False)

    def statistics(self) -> CommitterStatistics:
        return self._statistics._replace(unconfirmed=self._marker.asked, connected=self._connection is not None)

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def commit(self, batch: Sequence[Command]) -> Answers:
        """
        Raises:
            StoreUnavailable: as `Store.commit`.
        """
        with self._lock:
            known = self._settle()
            remaining = [command for command in batch if id(command) not in known]
            told = known | (self._commit(remaining) if remaining else {})
            self._count(commands=len(batch), batches=1)
            return [told[id(command)][1] for command in batch]

    def _count(self, **counted: int) -> None:
        now = {name: getattr(self._statistics, name) + count for name, count in counted.items()}
        self._statistics = self._statistics._replace(**now)

    # The connection

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connector.connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _settle(self) -> Told:
        """The answers of the batch whose commit was not confirmed, when it was committed after all."""
        if not self._marker.uncertain:
            return {}
        connection = self._connected()
        try:
            told = self._marker.settle(connection)
            if told:
                _add_ids(connection, told)
        except psycopg.Error as error:
            self._disconnect()
            raise StoreUnavailable(str(error).strip()) from error
        return told or {}

    # A transaction

    def _commit(self, batch: Sequence[Command]) -> Told:
        attempts = _Attempts()
        while True:
            connection = self._connected()
            try:
                return self._transact(connection, batch, attempts)
            except Exception as error:
                if connection.closed:
                    self._disconnect()
                    logger.warning("the journal lost its connection to Postgres: %s", str(error).strip())
                    if attempts.reconnected:
                        raise StoreUnavailable(str(error).strip()) from error
                    attempts.reconnected = True
                    told = self._settle()
                    if told:
                        return told
                else:
                    # The server answered, so nothing was committed.
                    self._marker.told()
                    rollback(connection)
                    self._learn(attempts, error)

    def _learn(self, attempts: _Attempts, error: Exception) -> None:
        """How to go about the next attempt.

        Raises:
            StoreUnavailable: another one makes no sense now.
            Exception: the error, when it is a fault of ours.
        """
        attempts.made += 1
        if isinstance(error, Claimed):
            attempts.lost |= error.users
        elif is_conflict(error) or (isinstance(error, errors.UniqueViolation) and attempts.careful < CAREFUL_MAX):
            # Violated is mostly the index of client ids: a message that was stored before.
            attempts.careful += isinstance(error, errors.UniqueViolation)
            self._count(conflicts=1)
            if attempts.made > 1:
                time.sleep(random.uniform(0, PAUSE_S_MAX))
        elif is_unstorable(error) and not attempts.divided:
            attempts.divided = True
            self._count(divided=1)
        elif is_outage(error):
            raise StoreUnavailable(str(error).strip()) from error
        else:
            raise error
        if attempts.made >= ATTEMPTS_MAX:
            raise StoreUnavailable(f"other transactions came in between too often: {error}") from error

    def _transact(self, connection: Connection, batch: Sequence[Command], attempts: _Attempts) -> Told:
        if attempts.divided:
            with Pipeline(connection) as pipeline:
                pipeline.add(b"BEGIN")
                pipeline.add(queries.MARK, self._marker.mark())
            answers = self._divide(connection, batch, attempts.lost)
            told = self._about_to_commit(batch, answers)
            execute(connection, b"COMMIT")
        else:
            with Pipeline(connection) as pipeline:
                pipeline.add(b"BEGIN")
                pipeline.add(queries.MARK, self._marker.mark())
                answers, writer = self._perform(pipeline, batch, attempts.careful > 0, attempts.lost)
                told = self._about_to_commit(batch, answers)
                pipeline.add(b"COMMIT")
            writer.finish()
        self._marker.told()
        return told

    def _about_to_commit(self, batch: Sequence[Command], answers: Answers) -> Told:
        told = {id(command): (command, answer) for command, answer in zip(batch, answers, strict=True)}
        self._marker.about_to_commit(told)
        return told

    def _perform(
        self, pipeline: Pipeline, batch: Sequence[Command], careful: bool, lost: set[str]
    ) -> tuple[Answers, Writer]:
        rooms = Loader(pipeline, batch, careful=careful, lost=lost).load()
        applier = Applier(rooms, self._room_capacity_max)
        answers = applier.apply(batch)
        writer = Writer(pipeline, rooms, applier.records)
        writer.write()
        return answers, writer

    def _divide(self, connection: Connection, batch: Sequence[Command], lost: set[str]) -> Answers:
        """Perform what can be performed; a command that cannot be stored is refused."""
        execute(connection, b"SAVEPOINT part")
        answers: Answers
        try:
            with Pipeline(connection) as pipeline:
                answers, writer = self._perform(pipeline, batch, True, lost)
            writer.finish()
        except Exception as error:
            if connection.closed or not is_unstorable(error):
                raise
            execute(connection, b"ROLLBACK TO SAVEPOINT part")
            if len(batch) == 1:
                answers = [refusals.cannot_be_stored(batch[0], _first_line(error))]
            else:
                half = len(batch) // 2
                answers = self._divide(connection, batch[:half], lost) + self._divide(connection, batch[half:], lost)
        execute(connection, b"RELEASE SAVEPOINT part")
        return answers


def _add_ids(connection: Connection, told: Told) -> None:
    """The messages of a batch that was committed unheard have ids, which the lost answer would have told."""
    sent = {
        (command.number, answer.message.seq): answer.message
        for command, answer in told.values()
        if isinstance(command, SendMessage) and isinstance(answer, Sent) and not answer.message.id
    }
    if sent:
        numbers, seqs = zip(*sent, strict=True)
        cursor = connection.cursor(binary=True)
        for number, seq, id in cursor.execute(queries.MESSAGE_IDS, (int8s(numbers), int8s(seqs))):
            sent[number, seq].id = id


def _first_line(error: Exception) -> str:
    """What the server says, without the statement."""
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return told or str(error).partition("\n")[0]
