"""The messages of all rooms in one sequence, for whoever passes them on to other services.

Theory of operation. Ids are given to messages while their transactions run, so a smaller one may be committed after a
larger one. To know that nothing smaller can come any more, two things are looked at one after the other: the largest id
that was ever given, and then the number of a new transaction. Every transaction that was given one of those ids had its
own number before (the journal's mark is the first thing that it writes), so its number is smaller than the new one; and
as soon as no transaction below the new number is running, every message up to that id is visible, or never will be.

A transaction that runs for long, in whichever database of the server, delays this; it never makes it wrong.

The one reader holds an advisory lock in a session of its own, which ends with its connection. A reader that stands
still (a paused process, a machine that vanished) loses the session after `IDLE_S`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio

from catfish.config import Settings
from catfish.rooms.ports import Chunk, StoreUnavailable, Tail
from catfish.store.arrays import int8
from catfish.store.connection import Connection, Connector, is_conflict, is_outage
from catfish.store.queries import MATCHING_LOCK
from catfish.store.rows import message_from_row

T = TypeVar("T")

LOCK: Final = MATCHING_LOCK + 2
"""Migrations use the one before it."""
IDLE_S: Final = 15

PREPARE: Final = f"""
SELECT set_config('synchronous_commit', 'off', false), set_config('tcp_keepalives_idle', '{IDLE_S}', false),
    set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)
""".encode()
"""A position that is forgotten costs repetitions, no message."""
PREPARE_14: Final = f"SELECT set_config('idle_session_timeout', '{IDLE_S}s', false)".encode()
LEAD: Final = f"SELECT pg_try_advisory_lock({LOCK})".encode()
ALLOTTED: Final = b"SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('messages', 'id')::regclass), 0)"
NEW_TRANSACTION: Final = b"SELECT pg_current_xact_id()::text"
OLDEST_RUNNING: Final = b"SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
POSITION: Final = b"SELECT position FROM outlet"
NOTE: Final = b"""
INSERT INTO outlet (position) VALUES (%b) ON CONFLICT (single) DO UPDATE SET position = excluded.position, at = now()
"""
BEFORE: Final = b"SELECT id FROM messages WHERE id <= %b ORDER BY id DESC OFFSET %b LIMIT 1"
READ: Final = b"""
SELECT r.id, m.seq, m.id, m.user_id, m.name, m.content, m.client_id, m.reply_to, m.data,
    m.created_at, m.edited_at, m.deleted_at, NULL
FROM messages m JOIN rooms r ON r.number = m.room
WHERE m.id > %b AND m.id <= %b ORDER BY m.id LIMIT %b
"""


class PostgresTail(Tail):
    """As `rooms.ports.Tail`, on a connection of its own.

    Args:
        url: libpq URL of a database whose migrations are applied; not through a pooler that shares sessions.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        name = "catfish outlet"
        self._connector = Connector(url, timeout_s=settings.database_timeout_s, application_name=name)
        self._limiter = trio.CapacityLimiter(1)
        self._use = threading.Lock()
        self._connection: Connection | None = None
        self._unwanted = False
        """Nobody leads here any more; see `_tidy`."""
        self._decided = 0
        """Messages up to this id are visible, or never will be."""
        self._undecided: tuple[int, int] | None = None
        """The largest id that was given, and a transaction that began behind it."""

    async def lead(self) -> bool:
        self._unwanted = False
        return await self._run(self._lead)

    def resign(self) -> None:
        self._unwanted = True
        self._tidy()

    async def newest(self) -> int:
        return await self._run(lambda connection: _number(connection, ALLOTTED))

    async def position(self) -> int | None:
        def read(connection: Connection) -> int | None:
            row = connection.execute(POSITION).fetchone()
            return None if row is None else int(row[0])

        return await self._run(read)

    async def note(self, position: int) -> None:
        def write(connection: Connection) -> None:
            connection.execute(NOTE, (int8(position),))

        await self._run(write)

    async def before(self, position: int, count: int) -> int:
        def read(connection: Connection) -> int:
            row = connection.execute(BEFORE, (int8(position), int8(count))).fetchone()
            return 0 if row is None else int(row[0])

        return await self._run(read)

    async def read(self, position: int, limit: int) -> Chunk:
        return await self._run(lambda connection: self._read(connection, position, limit))

    # In threads

    async def _run(self, work: Callable[[Connection], T]) -> T:
        return await trio.to_thread.run_sync(self._visit, work, limiter=self._limiter, abandon_on_cancel=True)

    def _visit(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._use:
                return self._work(work)
        finally:
            self._tidy()

    def _work(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None and work != self._lead:
                raise StoreUnavailable("the lock on the outlet was lost with its connection")
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except StoreUnavailable:
            self._close()
            raise
        except Exception as error:
            self._close()
            if is_outage(error) or is_conflict(error):
                raise StoreUnavailable(str(error).strip()) from error
            raise

    def _tidy(self) -> None:
        """Close the connection if nobody wants it. Never waits: whoever uses it looks again when it has done so."""
        if self._unwanted and self._use.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._use.release()

    def _connect(self) -> Connection:
        connection = self._connector.connect()
        try:
            connection.execute(PREPARE)
            if connection.info.server_version >= 140_000:
                connection.execute(PREPARE_14)
        except BaseException:
            connection.close()
            raise
        self._decided, self._undecided = 0, None
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lead(self, connection: Connection) -> bool:
        row = connection.execute(LEAD).fetchone()
        return row is not None and bool(row[0])

    def _read(self, connection: Connection, position: int, limit: int) -> Chunk:
        if position >= self._decided:
            self._decide(connection, position)
        if position >= self._decided:
            return Chunk(messages=[], position=position, more=self._undecided is not None)
        cursor = connection.cursor(binary=True)
        rows: list[tuple[Any, ...]] = cursor.execute(
            READ, (int8(position), int8(self._decided), int8(limit))
        ).fetchall()
        messages = [message_from_row(row[0], row[1:]) for row in rows]
        full = len(messages) == limit
        return Chunk(
            messages=messages,
            position=messages[-1].id if full else self._decided,
            more=full or self._undecided is not None,
        )

    def _decide(self, connection: Connection, position: int) -> None:
        """Move `_decided` on, if there is something behind `position` and its transactions have ended."""
        if self._undecided is None:
            allotted = _number(connection, ALLOTTED)
            if allotted <= position:
                return
            self._undecided = allotted, _number(connection, NEW_TRANSACTION)
        allotted, transaction = self._undecided
        if _number(connection, OLDEST_RUNNING) >= transaction:
            self._decided, self._undecided = allotted, None


def _number(connection: Connection, query: bytes) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
