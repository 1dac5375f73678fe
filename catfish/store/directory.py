"""Who is where, and what was answered before."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal

from psycopg.types.numeric import Float8, Int4, Int8

from catfish.rooms import directory as ports
from catfish.rooms.directory import KeptAnswer, MembersPage, PresentIn
from catfish.rooms.model import Member
from catfish.store.account_rows import fetch, find
from catfish.store.connection import Connection
from catfish.store.pool import Pool
from catfish.store.queries import ROOM_COUNTED, statement
from catfish.store.state import record_from_row

MEMBER: Final = """max(m.name), min(m.since),
    bool_and(m.away_since IS NOT NULL OR coalesce(i.lease_until <= statement_timestamp(), false))"""
MEMBERS: Final = statement(
    """
SELECT min(m.position), m.user_id, {member}
FROM members m LEFT JOIN instances i ON i.id = m.instance_id
WHERE m.room = %b GROUP BY m.user_id HAVING min(m.position) > %b ORDER BY min(m.position) LIMIT %b
""",
    member=MEMBER,
)
PRESENCE: Final = statement(
    """
SELECT {room}, p.name, p.since, p.away FROM (
    SELECT m.room, min(m.position) AS position, {member}
    FROM members m LEFT JOIN instances i ON i.id = m.instance_id
    WHERE m.user_id = %b GROUP BY m.room
) p (room, position, name, since, away)
JOIN rooms r ON r.number = p.room WHERE r.closed_at IS NULL ORDER BY p.position LIMIT %b
""",
    room=ROOM_COUNTED,
    member=MEMBER,
)

CLAIM: Final = b"""
INSERT INTO answers AS a (key, fingerprint) VALUES (%(key)b, %(fingerprint)b)
ON CONFLICT (key) DO UPDATE SET at = now()
WHERE a.status IS NULL AND a.fingerprint = excluded.fingerprint
    AND a.at < now() - make_interval(secs => %(stale_s)b)
RETURNING true
"""
ANSWER: Final = b"SELECT fingerprint, status, kind, body FROM answers WHERE key = %b"
KEEP: Final = b"UPDATE answers SET status = %b, kind = %b, body = %b WHERE key = %b"
RELEASE: Final = b"DELETE FROM answers WHERE key = %b AND status IS NULL"
PRUNE: Final = b"DELETE FROM answers WHERE at < now() - make_interval(secs => %b)"


class Directory(ports.Directory):
    """Implements the port of the same name. Texts that Postgres cannot hold name nobody."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def members(self, number: int, after: int, limit: int) -> MembersPage:
        return await self._pool.run(partial(_members, number=number, after=after, limit=limit))

    async def presence(self, user: str, limit: int) -> list[PresentIn]:
        rows = await self._pool.run(partial(find, query=PRESENCE, parameters=(user, Int8(limit))))
        return [
            PresentIn(
                record=record_from_row(row),
                member=Member(user=user, name=row[-3], since=row[-2], away=row[-1]),
            )
            for row in rows
        ]


class Answers(ports.Answers):
    """Implements the port of the same name."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, key: str, fingerprint: str, stale_s: float) -> KeptAnswer | Literal["yours", "busy", "other"]:
        work = partial(_claim, key=key, fingerprint=fingerprint, stale_s=stale_s)
        return await self._pool.run(work, abandon=False)

    async def keep(self, key: str, answer: KeptAnswer) -> None:
        await self._execute(KEEP, (Int4(answer.status), answer.kind, answer.body, key))

    async def release(self, key: str) -> None:
        await self._execute(RELEASE, (key,))

    async def prune(self, older_s: float) -> None:
        await self._execute(PRUNE, (Float8(older_s),))

    async def _execute(self, query: bytes, parameters: tuple[Any, ...]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(query, parameters)

        await self._pool.run(work, abandon=False)


def _members(connection: Connection, number: int, after: int, limit: int) -> MembersPage:
    rows = fetch(connection, MEMBERS, (Int8(number), Int8(after), Int8(limit + 1)))
    more = len(rows) > limit
    del rows[limit:]
    members = [Member(user=user, name=name, since=since, away=away) for _, user, name, since, away in rows]
    return MembersPage(members=members, next=rows[-1][0] if more and rows else None)


def _claim(
    connection: Connection, key: str, fingerprint: str, stale_s: float
) -> KeptAnswer | Literal["yours", "busy", "other"]:
    while True:
        parameters = {"key": key, "fingerprint": fingerprint, "stale_s": Float8(stale_s)}
        if fetch(connection, CLAIM, parameters):
            return "yours"
        rows = fetch(connection, ANSWER, (key,))
        if rows:  # else it was released in between
            found, status, kind, body = rows[0]
            if found != fingerprint:
                return "other"
            return "busy" if status is None else KeptAnswer(status=status, kind=kind, body=bytes(body))
