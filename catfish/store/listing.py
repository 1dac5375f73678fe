"""Pages of messages for those who show no trace of deleted ones: newest first, below a place in the room."""

from __future__ import annotations

from typing import Final

from psycopg.types.numeric import Int8

from catfish.rooms.ports import Page
from catfish.store.arrays import int8
from catfish.store.connection import Connection
from catfish.store.queries import MESSAGE, statement
from catfish.store.reader import Reader
from catfish.store.rows import message_from_row

SEQ_END: Final = 2**63 - 1

PLACE: Final = statement("""
WITH RECURSIVE place (low, high) AS (
    SELECT 0::bigint, r.last_seq + 1 FROM rooms r WHERE r.number = %(room)b
    UNION ALL
    SELECT CASE WHEN m.id >= %(id)b THEN p.low ELSE p.middle END, CASE WHEN m.id >= %(id)b THEN m.seq ELSE p.high END
    FROM (SELECT low, high, (low + high) / 2 AS middle FROM place WHERE high - low > 1) p
    LEFT JOIN LATERAL (
        SELECT x.id, x.seq FROM messages x WHERE x.room = %(room)b AND x.seq > p.low AND x.seq <= p.middle
        ORDER BY x.room DESC, x.seq DESC LIMIT 1
    ) m ON true
)
SELECT min(high) FROM place
""")
"""The first message of a room whose id is not below the given one: ids and sequence numbers grow together, so a binary
search over the primary key finds it, and messages need no index by id."""
UNDELETED: Final = statement(
    """
SELECT r.id, {message} FROM rooms r JOIN messages m ON m.room = r.number
WHERE r.number = %b AND m.seq < %b AND m.deleted_at IS NULL ORDER BY m.room DESC, m.seq DESC LIMIT %b
""",
    message=MESSAGE,
)


def find_place(connection: Connection, number: int, id: int) -> int | None:
    """The sequence number of the first message whose id is not below `id`; None: there is no such room."""
    cursor = connection.cursor(binary=True)
    [(place,)] = cursor.execute(PLACE, {"room": Int8(number), "id": Int8(id)}).fetchall()
    found: int | None = place
    return found


async def undeleted(reader: Reader, number: int, below: int | None, limit: int) -> Page:
    """One message more than the page holds is read, to know whether there are more."""
    parameters = int8(number), int8(SEQ_END if below is None else below), int8(limit + 1)
    rows = await reader.rows(UNDELETED, parameters)
    more = len(rows) > limit
    del rows[limit:]
    return Page(messages=[message_from_row(row[0], row[1:]) for row in reversed(rows)], more=more)
