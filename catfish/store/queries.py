"""Every statement of the store but the migrations'. Parameters are columns of values (`arrays`), never text.

Results are asked for in binary; times come as milliseconds since the epoch.
"""

from __future__ import annotations

from typing import Final

MATCHING_LOCK: Final = 0x63617466697368
"""Key of the advisory lock that matching holds; "catfish" in ASCII. Migrations use the next one."""

# What the rows of a room look like everywhere

ROOM: Final = """r.number, r.id, r.kind, r.code, r.name, r.capacity, r.created_by, r.created_at,
    r.closed_at IS NOT NULL, r.last_seq, r.last_revision, r.members_count, r.access, r.restricted"""
ROOM_COLUMNS: Final = 14
PRESENCE: Final = """m.room, m.user_id, m.instance_id, m.name, m.since, m.position, m.away_since,
    coalesce(i.lease_until <= statement_timestamp(), false), m.address"""
MESSAGE: Final = """m.seq, m.id, m.user_id, m.name, m.content, m.client_id, m.reply_to, m.data,
    m.created_at, m.edited_at, m.deleted_at,
    (SELECT json_agg(json_build_array(x.emoji, x.user_id) ORDER BY x.revision)
     FROM reactions x WHERE x.room = m.room AND x.seq = m.seq)"""


def statement(text: str, **parts: str) -> bytes:
    """A statement put together from the texts of this module, as psycopg takes it without looking twice."""
    return text.format(**parts).strip().encode()


# A transaction of the journal

MARK: Final = statement("""
INSERT INTO journals AS j (id, batch) VALUES (%s, %s)
ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = now()
""")
"""Says in the transaction itself which batch it is, so that it can be asked later whether it was committed."""
MARKED: Final = statement("SELECT batch FROM journals WHERE id = %s FOR UPDATE")
"""Waits for a transaction of that journal that is still under way."""

MESSAGE_IDS: Final = statement("""
SELECT m.room, m.seq, m.id FROM unnest(%b::bigint[], %b::bigint[]) AS k (room, seq)
JOIN messages m ON m.room = k.room AND m.seq = k.seq
""")

NOW: Final = statement("SELECT clock_timestamp()")
MATCHING: Final = statement("SELECT pg_advisory_xact_lock({key})", key=str(MATCHING_LOCK))

OPEN: Final = statement("""
INSERT INTO rooms (id, kind, code, name, capacity, created_by, access, restricted)
SELECT o.id, o.kind, o.code, o.name, o.capacity, o.created_by, o.access, o.access IS NOT NULL
FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[])
    AS o (id, kind, code, name, capacity, created_by, access)
WHERE NOT EXISTS (SELECT FROM rooms r WHERE r.id = o.id) AND NOT EXISTS (SELECT FROM rooms r WHERE r.code = o.code)
ON CONFLICT DO NOTHING
RETURNING id
""")

LOCK: Final = statement(
    """
SELECT {room} FROM rooms r WHERE r.number = ANY (%b) ORDER BY r.number FOR NO KEY UPDATE
""",
    room=ROOM,
)
LOCK_NAMED: Final = statement(
    """
SELECT {room} FROM rooms r
WHERE r.number IN (
    SELECT number FROM rooms WHERE number = ANY (%b)
    UNION SELECT number FROM rooms WHERE id = ANY (%b)
    UNION SELECT number FROM rooms WHERE code = ANY (%b)
)
ORDER BY r.number FOR NO KEY UPDATE OF r
""",
    room=ROOM,
)
ROOMS: Final = statement("SELECT {room} FROM rooms r WHERE r.number = ANY (%b)", room=ROOM)

LOCK_OWN: Final = statement("SELECT s.room FROM strangers s WHERE s.user_id = ANY (%b) FOR UPDATE SKIP LOCKED")
"""Rooms in which those who seek are already; one that they are just leaving is passed over."""
LOCK_STRANGERS: Final = statement("""
SELECT s.room, s.user_id, s.interests, s.place, s.pause_ms FROM strangers s WHERE s.room = ANY (%b)
ORDER BY s.room, s.user_id FOR UPDATE
""")
STRANGERS: Final = statement("""
SELECT s.room, s.user_id, s.interests, s.place, s.pause_ms FROM strangers s WHERE s.room = ANY (%b)
""")
WAITING: Final = statement(
    """
SELECT {room}, s.user_id, s.interests, s.place, s.pause_ms, m.instance_id, m.name, m.since, m.position, m.address
FROM strangers s
JOIN rooms r ON r.number = s.room
JOIN members m ON m.room = s.room AND m.user_id = s.user_id
LEFT JOIN instances i ON i.id = m.instance_id
WHERE s.place IS NOT NULL AND r.closed_at IS NULL AND m.away_since IS NULL
    AND (i.lease_until IS NULL OR i.lease_until > statement_timestamp())
ORDER BY s.place
""",
    room=ROOM,
)
CLAIM: Final = statement("""
SELECT s.user_id FROM strangers s
JOIN unnest(%b::bigint[], %b::text[]) AS c (room, user_id) ON c.room = s.room AND c.user_id = s.user_id
WHERE s.place IS NOT NULL FOR UPDATE OF s SKIP LOCKED
""")
"""Those of the chosen whom nobody is changing: the others are just leaving."""

PRESENCES_OF_USERS: Final = statement(
    """
SELECT {presence} FROM unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
JOIN members m ON m.room = k.room AND m.user_id = k.user_id
LEFT JOIN instances i ON i.id = m.instance_id
""",
    presence=PRESENCE,
)
PRESENCES: Final = statement(
    """
SELECT {presence} FROM members m LEFT JOIN instances i ON i.id = m.instance_id
WHERE m.room = ANY (%b)
""",
    presence=PRESENCE,
)
DEPARTED: Final = statement("""
SELECT d.room, d.user_id FROM unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
JOIN departed d ON d.room = k.room AND d.user_id = k.user_id
""")
POSITIONS: Final = statement("SELECT nextval('member_positions') FROM generate_series(1, %s)")
PLACES: Final = statement("SELECT nextval('stranger_places') FROM generate_series(1, %s)")

SENT_BEFORE: Final = statement(
    """
SELECT m.room, k.client_id, m.revision, {message}
FROM unnest(%b::bigint[], %b::text[], %b::text[]) AS k (room, user_id, client_id)
JOIN messages m ON m.room = k.room AND m.user_id = k.user_id AND m.client_id = k.client_id
""",
    message=MESSAGE,
)
LINES: Final = statement("""
SELECT m.room, m.seq, m.user_id, m.deleted_at IS NOT NULL
FROM unnest(%b::bigint[], %b::bigint[]) AS k (room, seq)
JOIN messages m ON m.room = k.room AND m.seq = k.seq
""")
REACTED: Final = statement("""
SELECT x.room, x.seq, x.emoji, x.user_id, x.revision
FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[]) AS k (room, seq, emoji, user_id)
JOIN reactions x ON x.room = k.room AND x.seq = k.seq AND x.emoji = k.emoji AND x.user_id = k.user_id
""")
READS: Final = statement("""
SELECT d.room, d.user_id, d.seq FROM unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
JOIN reads d ON d.room = k.room AND d.user_id = k.user_id
""")

OPEN_MATCHED: Final = statement("""
INSERT INTO rooms (id, kind, capacity, created_by)
SELECT o.id, 'matched', 2, o.created_by FROM unnest(%b::text[], %b::text[]) AS o (id, created_by)
RETURNING number, id, created_at
""")
ADD_MESSAGES: Final = statement("""
INSERT INTO messages (room, seq, revision, created_at, reply_to, user_id, name, content, client_id, data)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
RETURNING id
""")
CHANGE_MESSAGES: Final = statement("""
UPDATE messages m SET
    content = coalesce(c.content, m.content),
    edited_at = coalesce(c.edited_at, m.edited_at),
    deleted_at = coalesce(c.deleted_at, m.deleted_at),
    data = CASE WHEN c.deleted_at IS NULL THEN m.data END
FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::timestamptz[], %b::timestamptz[])
    AS c (room, seq, content, edited_at, deleted_at)
WHERE m.room = c.room AND m.seq = c.seq
""")
REMOVE_REACTIONS_TO: Final = statement("""
DELETE FROM reactions x USING unnest(%b::bigint[], %b::bigint[]) AS k (room, seq)
WHERE x.room = k.room AND x.seq = k.seq
""")
REMOVE_REACTIONS: Final = statement("""
DELETE FROM reactions x USING unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[])
    AS k (room, seq, emoji, user_id)
WHERE x.room = k.room AND x.seq = k.seq AND x.emoji = k.emoji AND x.user_id = k.user_id
""")
ADD_REACTIONS: Final = statement("""
INSERT INTO reactions (room, seq, revision, emoji, user_id) SELECT * FROM unnest(%b, %b, %b, %b, %b)
""")
ADD_CHANGES: Final = statement("""
INSERT INTO message_changes (room, revision, seq, last_seq, at, kind, user_id, emoji)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b)
""")
SET_READS: Final = statement("""
INSERT INTO reads AS d (room, seq, user_id) SELECT * FROM unnest(%b, %b, %b)
ON CONFLICT (room, user_id) DO UPDATE SET seq = excluded.seq
""")
REMOVE_PRESENCES: Final = statement("""
DELETE FROM members m USING unnest(%b::bigint[], %b::text[], %b::text[]) AS k (room, user_id, instance_id)
WHERE m.room = k.room AND m.user_id = k.user_id AND m.instance_id = k.instance_id
""")
SET_PRESENCES: Final = statement("""
INSERT INTO members AS m (room, position, since, away_since, user_id, instance_id, name, address)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b)
ON CONFLICT (room, user_id, instance_id) DO UPDATE
SET name = excluded.name, away_since = excluded.away_since, address = excluded.address
""")
FORGET_DEPARTED_OF: Final = statement("DELETE FROM departed WHERE room = ANY (%b)")
REMOVE_DEPARTED: Final = statement("""
DELETE FROM departed d USING unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
WHERE d.room = k.room AND d.user_id = k.user_id
""")
ADD_DEPARTED: Final = statement("""
INSERT INTO departed (room, user_id) SELECT * FROM unnest(%b, %b) ON CONFLICT (room, user_id) DO UPDATE SET at = now()
""")
REMOVE_STRANGERS: Final = statement("""
DELETE FROM strangers s USING unnest(%b::bigint[], %b::text[]) AS k (room, user_id)
WHERE s.room = k.room AND s.user_id = k.user_id
""")
SET_STRANGERS: Final = statement("""
INSERT INTO strangers AS s (room, place, waiting_since, user_id, interests, pause_ms)
SELECT k.room, k.place, CASE WHEN k.place IS NOT NULL THEN now() END, k.user_id,
    ARRAY(SELECT json_array_elements_text(k.interests)), k.pause_ms
FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::json[], %b::bigint[])
    AS k (room, place, user_id, interests, pause_ms)
ON CONFLICT (room, user_id) DO UPDATE SET place = excluded.place, waiting_since = excluded.waiting_since
""")
SET_ROOMS: Final = statement("""
UPDATE rooms r SET
    last_seq = k.last_seq,
    last_revision = k.last_revision,
    members_count = k.members_count,
    closed_at = CASE WHEN k.closing = 1 THEN now() ELSE r.closed_at END
FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
    AS k (number, last_seq, last_revision, members_count, closing)
WHERE r.number = k.number
""")

# What the port asks besides

ROOM_COUNTED: Final = """r.number, r.id, r.kind, r.code, r.name, r.capacity, r.created_by, r.created_at,
    r.closed_at IS NOT NULL, r.last_seq, r.last_revision,
    CASE WHEN r.kind = 'matched' AND r.code IS NULL
        THEN (SELECT count(DISTINCT m.user_id)::integer FROM members m WHERE m.room = r.number)
        ELSE r.members_count END,
    r.access, r.restricted"""
ROOM_BY_ID: Final = statement("SELECT {room} FROM rooms r WHERE r.id = %b AND r.closed_at IS NULL", room=ROOM_COUNTED)
ROOM_BY_CODE: Final = statement(
    "SELECT {room} FROM rooms r WHERE r.code = %b AND r.closed_at IS NULL", room=ROOM_COUNTED
)
MEMBERS: Final = statement("""
SELECT m.user_id, max(m.name), min(m.since),
    bool_and(m.away_since IS NOT NULL OR coalesce(i.lease_until <= statement_timestamp(), false))
FROM members m LEFT JOIN instances i ON i.id = m.instance_id
WHERE m.room = %b GROUP BY m.user_id ORDER BY min(m.position) LIMIT %b
""")

NEWEST: Final = statement(
    """
SELECT r.id, {message} FROM rooms r JOIN messages m ON m.room = r.number
WHERE r.number = %b ORDER BY m.room DESC, m.seq DESC LIMIT %b
""",
    message=MESSAGE,
)
BELOW: Final = statement(
    """
SELECT r.id, {message} FROM rooms r JOIN messages m ON m.room = r.number
WHERE r.number = %b AND m.seq < %b ORDER BY m.room DESC, m.seq DESC LIMIT %b
""",
    message=MESSAGE,
)
ABOVE: Final = statement(
    """
SELECT r.id, {message} FROM rooms r JOIN messages m ON m.room = r.number
WHERE r.number = %b AND m.seq > %b ORDER BY m.room, m.seq LIMIT %b
""",
    message=MESSAGE,
)
IN_ROOM: Final = "m.room = (SELECT r.number FROM rooms r WHERE r.id = %b AND r.closed_at IS NULL)"
"""For a room that is named by its id."""
NEWEST_IN: Final = statement(
    "SELECT {message} FROM messages m WHERE {here} ORDER BY m.room DESC, m.seq DESC LIMIT %b",
    message=MESSAGE,
    here=IN_ROOM,
)
BELOW_IN: Final = statement(
    "SELECT {message} FROM messages m WHERE {here} AND m.seq < %b ORDER BY m.room DESC, m.seq DESC LIMIT %b",
    message=MESSAGE,
    here=IN_ROOM,
)
ABOVE_IN: Final = statement(
    "SELECT {message} FROM messages m WHERE {here} AND m.seq > %b ORDER BY m.room, m.seq LIMIT %b",
    message=MESSAGE,
    here=IN_ROOM,
)
CHANGED_SINCE: Final = statement(
    """
WITH since AS MATERIALIZED (
    SELECT m.revision FROM messages m WHERE m.room = %(room)b AND m.seq <= %(seq)b
    ORDER BY m.room DESC, m.seq DESC LIMIT 1
), changed AS MATERIALIZED (
    SELECT c.room, c.seq, max(c.revision) AS revision FROM message_changes c
    WHERE c.room = %(room)b AND c.revision > (SELECT revision FROM since) AND c.seq <= %(seq)b
    GROUP BY c.room, c.seq ORDER BY max(c.revision) LIMIT %(limit)b
)
SELECT r.id, {message} FROM changed c
JOIN messages m ON m.room = c.room AND m.seq = c.seq JOIN rooms r ON r.number = c.room
ORDER BY c.revision
""",
    message=MESSAGE,
)

SENT_AFTER: Final = statement(
    """
SELECT r.id, m.revision, {message} FROM rooms r JOIN messages m ON m.room = r.number
WHERE r.number = %(room)b AND m.seq > coalesce((
    SELECT c.last_seq + %(after)b - c.revision FROM message_changes c
    WHERE c.room = %(room)b AND c.revision <= %(after)b ORDER BY c.room DESC, c.revision DESC LIMIT 1
), %(after)b)
ORDER BY m.room, m.seq LIMIT %(limit)b
""",
    message=MESSAGE,
)
"""The messages behind a revision: those above the message that was the newest then."""
CHANGED_AFTER: Final = statement("""
SELECT r.id, c.revision, c.seq, c.at, c.kind, c.user_id, c.emoji, m.content
FROM rooms r JOIN message_changes c ON c.room = r.number JOIN messages m ON m.room = c.room AND m.seq = c.seq
WHERE r.number = %(room)b AND c.revision > %(after)b ORDER BY c.room, c.revision LIMIT %(limit)b
""")
REVISIONS: Final = statement("SELECT number, last_revision FROM rooms WHERE number = ANY (%b) AND closed_at IS NULL")

# Instances

RENEW: Final = statement("""
INSERT INTO instances AS i (id, lease_until, figures)
VALUES (%b, clock_timestamp() + %b * interval '1 second', %b::json)
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, lapsed = i.lease_until <= clock_timestamp(),
    stopped_at = NULL, figures = coalesce(excluded.figures, i.figures)
RETURNING NOT i.lapsed
""")
LEAVE_ALL: Final = statement("""
UPDATE members SET away_since = now() WHERE instance_id = %b AND away_since IS NULL
""")
END_LEASE: Final = statement(
    "UPDATE instances SET lease_until = least(lease_until, now()), stopped_at = now() WHERE id = %b"
)
ROOMS_OF_THE_DEAD: Final = statement("""
SELECT DISTINCT m.room FROM instances i JOIN members m ON m.instance_id = i.id
WHERE i.lease_until <= statement_timestamp() AND i.id <> %b AND (i.stopped_at IS NOT NULL OR NOT %b)
ORDER BY m.room LIMIT %b
""")
DEAD_IN: Final = statement("""
SELECT m.room, m.user_id, i.id, i.lease_until FROM instances i JOIN members m ON m.instance_id = i.id
WHERE i.lease_until <= statement_timestamp() AND i.id <> %b AND (i.stopped_at IS NOT NULL OR NOT %b)
    AND m.room = ANY (%b)
ORDER BY m.room, m.position
""")
FORGET_INSTANCES: Final = statement("""
DELETE FROM instances i WHERE i.lease_until < now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM members m WHERE m.instance_id = i.id)
""")
FORGET_DEPARTED: Final = statement("DELETE FROM departed WHERE at < now() - interval '1 day'")
FORGET_JOURNALS: Final = statement("DELETE FROM journals WHERE at < now() - interval '1 day'")
