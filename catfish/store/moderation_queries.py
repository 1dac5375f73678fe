"""The statements about what somebody is to a room, and to somebody else. Parameters are as in `queries`."""

from __future__ import annotations

from typing import Final

from catfish.store.queries import statement

# In a transaction of the journal

STANDINGS: Final = statement("""
SELECT s.room, s.user_id, s.role, s.muted_until, s.banned_until, s.removed
FROM unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
JOIN standings s ON s.room = k.room AND s.user_id = k.user_id
""")
BANNED_ADDRESSES: Final = statement("""
SELECT a.room, a.address, a.until FROM unnest(%b::bigint[], %b::text[]) AS k (room, address)
JOIN banned_addresses a ON a.room = k.room AND a.address = k.address
""")
MODERATORS: Final = statement("""
SELECT s.room, s.user_id, s.role, s.muted_until, s.banned_until, s.removed
FROM standings s WHERE s.room = ANY (%b) AND s.role = 'moderator'
""")
SET_STANDINGS: Final = statement("""
INSERT INTO standings AS s (room, user_id, role, muted_until, banned_until, removed)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b)
ON CONFLICT (room, user_id) DO UPDATE SET role = excluded.role, muted_until = excluded.muted_until,
    banned_until = excluded.banned_until, removed = excluded.removed
""")
BAN_ADDRESSES: Final = statement("""
INSERT INTO banned_addresses AS a (room, address, until, user_id) SELECT * FROM unnest(%b, %b, %b, %b)
ON CONFLICT (room, address) DO UPDATE SET until = excluded.until, user_id = excluded.user_id
""")
UNBAN_ADDRESSES: Final = statement("""
DELETE FROM banned_addresses a USING unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
WHERE a.room = k.room AND a.user_id = k.user_id
""")
RESTRICT: Final = statement("UPDATE rooms SET restricted = true WHERE number = ANY (%b)")

APART: Final = statement("""
WITH k AS MATERIALIZED (SELECT unnest(%b::text[]) COLLATE "C" AS user_id)
SELECT b.user_id, b.blocked FROM k JOIN blocks b ON b.user_id = k.user_id
UNION ALL
SELECT b.blocked, b.user_id FROM k JOIN blocks b ON b.blocked = k.user_id
""")
PARTNERS_MAX: Final = 200
"""Of those whom somebody met and of those who met somebody, how many of the latest count."""
PARTNERS: Final = statement(
    """
WITH k AS MATERIALIZED (SELECT unnest(%b::text[]) COLLATE "C" AS user_id)
SELECT k.user_id, p.partner FROM k
CROSS JOIN LATERAL (
    SELECT x.partner FROM partners x WHERE x.user_id = k.user_id AND x.until > clock_timestamp()
    ORDER BY x.until DESC LIMIT {most}
) p
UNION ALL
SELECT k.user_id, p.user_id FROM k
CROSS JOIN LATERAL (
    SELECT x.user_id FROM partners x WHERE x.partner = k.user_id AND x.until > clock_timestamp()
    ORDER BY x.until DESC LIMIT {most}
) p
""",
    most=str(PARTNERS_MAX),
)
ADD_PARTNERS: Final = statement("""
INSERT INTO partners AS p (user_id, partner, until) SELECT * FROM unnest(%b, %b, %b)
ON CONFLICT (user_id, partner) DO UPDATE SET until = excluded.until
""")
FORGET_PARTNERS: Final = statement("DELETE FROM partners WHERE until < now() - interval '1 hour'")
