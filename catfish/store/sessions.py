"""Socket.IO sessions that their clients may come back to."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from psycopg.types.json import Json
from psycopg.types.numeric import Float8

from catfish.store.connection import Connection
from catfish.store.pool import Pool

SAVE: Final = b"""
INSERT INTO sessions (secret, instance_id, record) VALUES (%s, %s, %s)
ON CONFLICT (secret) DO UPDATE
SET instance_id = excluded.instance_id, record = excluded.record, saved_at = now(), ended_at = NULL
"""
END: Final = b"UPDATE sessions SET ended_at = now() WHERE secret = %s AND instance_id = %s AND ended_at IS NULL"
END_ALL: Final = b"UPDATE sessions SET ended_at = now() WHERE instance_id = %s AND ended_at IS NULL"
# A session without an end belongs to an instance that lives, or whose lease ran out.
TAKE: Final = b"""
UPDATE sessions s SET instance_id = %s, ended_at = NULL
WHERE secret = %s AND coalesce(
    ended_at, (SELECT greatest(lease_until, s.saved_at) FROM instances i WHERE i.id = s.instance_id), saved_at
) > now() - make_interval(secs => %s)
RETURNING record
"""
PRUNE: Final = b"""
DELETE FROM sessions s WHERE saved_at < now() - make_interval(secs => %s) AND coalesce(
    ended_at, (SELECT lease_until FROM instances i WHERE i.id = s.instance_id), saved_at
) < now() - make_interval(secs => %s)
"""


class Sessions:
    """Implements `rooms.ports.SessionStore`. Every call may raise `StoreUnavailable`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def save(self, secret: str, instance: str, record: Any) -> None:
        await self._pool.run(partial(_execute, query=SAVE, parameters=(secret, instance, Json(record))))

    async def end(self, secret: str, instance: str) -> None:
        await self._pool.run(partial(_execute, query=END, parameters=(secret, instance)))

    async def end_all(self, instance: str) -> None:
        await self._pool.run(partial(_execute, query=END_ALL, parameters=(instance,)))

    async def take(self, secret: str, instance: str, within_s: float) -> Any | None:
        return await self._pool.run(partial(_take, parameters=(instance, secret, Float8(within_s))))

    async def prune(self, older_s: float) -> None:
        await self._pool.run(partial(_execute, query=PRUNE, parameters=(Float8(older_s), Float8(older_s))))


def _execute(connection: Connection, query: bytes, parameters: tuple[Any, ...]) -> None:
    connection.execute(query, parameters)


def _take(connection: Connection, parameters: tuple[Any, ...]) -> Any | None:
    row = connection.execute(TAKE, parameters).fetchone()
    return None if row is None else row[0]
