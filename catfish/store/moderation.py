"""What somebody is to a room and to others, and reports, each on a connection of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
import psycopg
from psycopg.types.numeric import Int8

from catfish.rooms import moderation as ports
from catfish.rooms.model import Message, Role
from catfish.rooms.moderation import NewReport, Removal, Report, ReportsPage, Seen, Standing, StandingsPage
from catfish.store.account_rows import Row, fetch, find
from catfish.store.arrays import Text, Unstorable, int8, int8s, text, texts
from catfish.store.connection import Connection
from catfish.store.moderation_queries import APART
from catfish.store.pool import Pool
from catfish.store.queries import MESSAGE, statement
from catfish.store.reader import Reader
from catfish.store.rows import message_from_row

SEEN: Final = b"""
SELECT s.role, s.muted_until, s.banned_until, clock_timestamp(),
    EXISTS (SELECT FROM members m WHERE m.room = k.room AND m.user_id = k.user_id)
FROM (SELECT %b::bigint, %b::text COLLATE "C") AS k (room, user_id)
LEFT JOIN standings s ON s.room = k.room AND s.user_id = k.user_id
"""
STANDINGS: Final = b"""
SELECT s.user_id, s.role,
    CASE WHEN s.muted_until > now() THEN s.muted_until END, CASE WHEN s.banned_until > now() THEN s.banned_until END
FROM standings s
WHERE s.room = %b AND s.user_id > %b AND (s.role IS NOT NULL OR s.muted_until > now() OR s.banned_until > now())
ORDER BY s.user_id LIMIT %b
"""
MUTES: Final = b"""
SELECT s.room, s.user_id, s.muted_until FROM standings s WHERE s.room = ANY (%b) AND s.muted_until > now()
"""
REMOVALS: Final = b"""
SELECT s.room, s.user_id, s.removed, coalesce(s.banned_until > now(), false)
FROM standings s WHERE s.room = ANY (%b) AND s.removed > %b
"""
BLOCK: Final = b"INSERT INTO blocks (user_id, blocked) VALUES (%b, %b) ON CONFLICT DO NOTHING RETURNING true"
UNBLOCK: Final = b"DELETE FROM blocks WHERE user_id = %b AND blocked = %b RETURNING true"
BLOCKED: Final = b"SELECT blocked FROM blocks WHERE user_id = %b ORDER BY blocked LIMIT %b"
LATEST: Final = statement(
    """
SELECT {message} FROM messages m WHERE m.room = %(room)b AND m.seq <= coalesce(%(seq)b, m.seq)
ORDER BY m.room DESC, m.seq DESC LIMIT %(limit)b
""",
    message=MESSAGE,
)
ADD_REPORT: Final = b"""
INSERT INTO reports (room, seq, reporter, user_id, reason, messages) VALUES (%b, %b, %b, %b, %b, %b::json) RETURNING id
"""
REPORTS: Final = """
SELECT p.id, p.at, r.id, p.room, p.reporter, p.user_id, p.seq, p.reason, p.messages, p.handled_at
FROM reports p JOIN rooms r ON r.number = p.room WHERE {conditions} ORDER BY p.id DESC LIMIT %(limit)b
"""
BELOW: Final = "p.id < %(below)b"
OPEN: Final = "p.handled_at IS NULL"
HANDLE: Final = b"UPDATE reports SET handled_at = coalesce(handled_at, now()) WHERE id = %b RETURNING true"


class Moderation(ports.Moderation):
    """Implements the port of the same name. Texts that Postgres cannot hold name nobody."""

    def __init__(self, pool: Pool, reader: Reader) -> None:
        self._pool = pool
        self._reader = reader

    async def seen(self, number: int, user: str) -> Seen:
        try:
            rows = await self._reader.rows(SEEN, (int8(number), text(user)))
        except (psycopg.DataError, Unstorable):
            rows = []  # no text that Postgres cannot hold is anybody
        role, muted_until, banned_until, now, present = rows[0] if rows else (None, None, None, 0, False)
        return Seen(standing=_standing(user, role, muted_until, banned_until), present=present, now=now)

    async def standings(self, number: int, after: str, limit: int) -> StandingsPage:
        rows = await self._pool.run(partial(find, query=STANDINGS, parameters=(Int8(number), after, Int8(limit + 1))))
        return StandingsPage(standings=[_standing(*row) for row in rows[:limit]], more=len(rows) > limit)

    async def mutes(self, numbers: Sequence[int]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        for number, user, until in await self._pool.run(partial(find, query=MUTES, parameters=(int8s(list(numbers)),))):
            found.setdefault(number, {})[user] = until
        return found

    async def removals(self, numbers: Sequence[int], after: int) -> list[Removal]:
        rows = await self._pool.run(partial(fetch, query=REMOVALS, parameters=(int8s(list(numbers)), Int8(after))))
        return [
            Removal(number=number, user=user, stamp=stamp, reason="banned" if banned else "kicked")
            for number, user, stamp, banned in rows
        ]

    async def block(self, user: str, other: str, on: bool) -> bool:
        query = BLOCK if on else UNBLOCK
        return bool(await self._pool.run(partial(fetch, query=query, parameters=(user, other)), abandon=False))

    async def blocked(self, user: str, limit: int) -> list[str]:
        rows = await self._pool.run(partial(find, query=BLOCKED, parameters=(user, Int8(limit))))
        return [name for (name,) in rows]

    async def apart(self, users: Sequence[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for user, other in await self._pool.run(partial(fetch, query=APART, parameters=(texts(list(users)),))):
            found.setdefault(user, set()).add(other)
        return found

    async def report(self, report: NewReport, messages: int) -> int:
        return await self._pool.run(partial(_report, report=report, messages=messages), abandon=False)

    async def reports(self, *, below: int | None, limit: int, handled: bool) -> ReportsPage:
        conditions = ["true"] if handled else [OPEN]
        parameters: dict[str, Any] = {"limit": Int8(limit + 1)}
        if below is not None:
            conditions.append(BELOW)
            parameters["below"] = Int8(below)
        query = statement(REPORTS, conditions=" AND ".join(conditions))
        rows = await self._pool.run(partial(fetch, query=query, parameters=parameters))
        return ReportsPage(reports=[_report_from_row(row) for row in rows[:limit]], more=len(rows) > limit)

    async def handle(self, id: int) -> bool:
        return bool(await self._pool.run(partial(fetch, query=HANDLE, parameters=(Int8(id),)), abandon=False))


def _standing(user: str, role: str | None, muted_until: int | None, banned_until: int | None) -> Standing:
    return Standing(
        user=user,
        role=Role.NONE if role is None else Role(role),
        muted_until=muted_until or 0,
        banned_until=banned_until or 0,
    )


def _report(connection: Connection, report: NewReport, messages: int) -> int:
    seq = None if report.seq is None else Int8(report.seq)
    latest = {"room": Int8(report.number), "seq": seq, "limit": Int8(messages)}
    found = [message_from_row(report.room, row) for row in fetch(connection, LATEST, latest)]
    told = msgspec.json.encode(found[::-1]).decode()
    user: Text | None = None if report.user is None else text(report.user)
    parameters = (Int8(report.number), seq, report.by, user, report.reason, told)
    return int(fetch(connection, ADD_REPORT, parameters)[0][0])


def _report_from_row(row: Row) -> Report:
    id, at, room, number, by, user, seq, reason, messages, handled_at = row
    return Report(
        id=id,
        at=at,
        room=room,
        number=number,
        by=by,
        user=user,
        seq=seq,
        reason=reason,
        messages=msgspec.convert(messages, list[Message]),
        handled_at=handled_at,
    )
