"""Conversations of accounts, each on a connection. One is made together with its room: nobody can be in a room whose id
was drawn a moment ago, so that this needs neither the journal nor a word to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.types.numeric import Int8

from catfish.rooms.accounts import Account, Conversation, Overview
from catfish.store.account_rows import ACCOUNT, Row, account_from_row, fetch, find
from catfish.store.arrays import int8s, text, texts
from catfish.store.connection import Connection
from catfish.store.queries import MESSAGE, statement
from catfish.store.rows import message_from_row

CONVERSATION: Final = """r.number, r.id, r.name, c.low IS NULL, c.image, r.created_at, coalesce(
        (SELECT m.created_at FROM messages m WHERE m.room = r.number ORDER BY m.room DESC, m.seq DESC LIMIT 1),
        r.created_at
    )"""

ADD_ROOM: Final = b"INSERT INTO rooms (id, kind, name, created_by) VALUES (%b, 'open', %b, %b) RETURNING number"
ADD_CONVERSATION: Final = b"""
INSERT INTO conversations (room, low, high) VALUES (%b, %b, %b) ON CONFLICT (low, high) DO NOTHING RETURNING room
"""
ADD_MEMBERS: Final = b"INSERT INTO conversation_members (room, account) SELECT %b, * FROM unnest(%b::text[])"
OF_TWO: Final = statement(
    "SELECT {conversation} FROM conversations c JOIN rooms r ON r.number = c.room WHERE c.low = %b AND c.high = %b",
    conversation=CONVERSATION,
)
BY_ID: Final = statement(
    "SELECT {conversation} FROM rooms r JOIN conversations c ON c.room = r.number WHERE r.id = %b",
    conversation=CONVERSATION,
)
BY_NUMBER: Final = statement(
    "SELECT {conversation} FROM rooms r JOIN conversations c ON c.room = r.number WHERE r.number = %b",
    conversation=CONVERSATION,
)
OF_ACCOUNT: Final = statement(
    """
SELECT {conversation} AS spoken FROM conversation_members x
JOIN conversations c ON c.room = x.room JOIN rooms r ON r.number = c.room
WHERE x.account = %b ORDER BY coalesce(c.low = c.high, false) DESC, spoken DESC, r.number DESC LIMIT %b
""",
    conversation=CONVERSATION,
)
MEMBERS_OF: Final = statement(
    """
SELECT x.room, {account} FROM conversation_members x JOIN accounts a ON a.id = x.account
WHERE x.room = ANY (%b) ORDER BY x.room, a.created_at, a.id
""",
    account=ACCOUNT,
)
LATEST_OF: Final = statement(
    """
SELECT k.room, r.id, {message} FROM unnest(%b::bigint[]) AS k (room) JOIN rooms r ON r.number = k.room
CROSS JOIN LATERAL (
    SELECT * FROM messages x WHERE x.room = k.room AND x.deleted_at IS NULL ORDER BY x.room DESC, x.seq DESC LIMIT 1
) m
""",
    message=MESSAGE,
)
MAY_ENTER: Final = b"""
SELECT NOT EXISTS (SELECT FROM conversations c WHERE c.room = r.number)
    OR EXISTS (SELECT FROM conversation_members x WHERE x.room = r.number AND x.account = %b)
FROM rooms r WHERE r.id = %b
"""


class _Made(Exception):
    """Somebody else has just made the same conversation."""


def talk(connection: Connection, one: str, other: str, id: str) -> Conversation:
    """See `AccountStore.talk`; both accounts are there."""
    low, high = sorted((one, other))
    found = _first(connection, OF_TWO, (text(low), text(high)))
    if found is None:
        try:
            with connection.transaction():
                _make(connection, id, None, one, low, high, {one, other})
        except _Made:
            pass
        found = _first(connection, OF_TWO, (text(low), text(high)))
    assert found is not None
    return found


def gather(connection: Connection, caller: str, members: Sequence[str], name: str, id: str) -> Conversation:
    """See `AccountStore.gather`; the accounts are there. A conversation of that id is not made again."""
    found = _first(connection, BY_ID, (text(id),))
    if found is None:
        _make(connection, id, name, caller, None, None, {caller, *members})
        found = _first(connection, BY_ID, (text(id),))
    assert found is not None
    return found


def _make(
    connection: Connection, id: str, name: str | None, by: str, low: str | None, high: str | None, members: set[str]
) -> None:
    [(number,)] = fetch(connection, ADD_ROOM, (text(id), name, text(by)))
    made = fetch(connection, ADD_CONVERSATION, (Int8(number), low, high))
    if not made:
        raise _Made
    connection.execute(ADD_MEMBERS, (Int8(number), texts(sorted(members))))


def conversation(connection: Connection, id: str | None, number: int | None) -> Overview | None:
    query, key = (BY_ID, text(id)) if id is not None else (BY_NUMBER, Int8(number or 0))
    found = _first(connection, query, (key,))
    if found is None:
        return None
    members = _members(connection, [found.number])
    return Overview(conversation=found, members=members.get(found.number, []), latest=None)


def conversations(connection: Connection, account: str, limit: int) -> list[Overview]:
    found = [_from_row(row) for row in fetch(connection, OF_ACCOUNT, (text(account), Int8(limit)))]
    numbers = [each.number for each in found]
    members = _members(connection, numbers)
    rows = fetch(connection, LATEST_OF, (int8s(numbers),))
    latest = {row[0]: message_from_row(row[1], row[2:]) for row in rows}
    return [
        Overview(conversation=each, members=members.get(each.number, []), latest=latest.get(each.number))
        for each in found
    ]


def may_enter(connection: Connection, room: str, account: str) -> bool:
    rows = find(connection, MAY_ENTER, (account, room))
    return bool(rows[0][0]) if rows else True


def _first(connection: Connection, query: bytes, parameters: tuple[object, ...]) -> Conversation | None:
    rows = fetch(connection, query, parameters)
    return _from_row(rows[0]) if rows else None


def _members(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Account]]:
    members: dict[int, list[Account]] = {}
    for number, *account in fetch(connection, MEMBERS_OF, (int8s(numbers),)):
        members.setdefault(number, []).append(account_from_row(tuple(account)))
    return members


def _from_row(row: Row) -> Conversation:
    number, id, name, is_group, image, created_at, last_message_at = row
    return Conversation(
        number=number,
        id=id,
        name=name,
        is_group=is_group,
        image=image,
        created_at=created_at,
        last_message_at=last_message_at,
    )
