"""Requests to be friends, and friendships, each on a connection."""

from __future__ import annotations

from typing import Any, Final

from psycopg.types.numeric import Int4, Int8

from catfish.rooms.accounts import Conversation, FriendRequest
from catfish.store import conversations
from catfish.store.account_rows import ACCOUNT, ACCOUNT_COLUMNS, Row, account_from_row, fetch
from catfish.store.arrays import text
from catfish.store.connection import Connection
from catfish.store.queries import statement

REQUEST: Final = f"q.id, q.status, q.created_at, q.updated_at, {ACCOUNT}, {ACCOUNT.replace('a.', 'b.')}"
FROM: Final = "friend_requests q JOIN accounts a ON a.id = q.sender JOIN accounts b ON b.id = q.receiver"

ADD: Final = b"""
INSERT INTO friend_requests (sender, receiver) VALUES (%b, %b)
ON CONFLICT (least(sender, receiver), greatest(sender, receiver)) WHERE status = 'pending' DO NOTHING RETURNING id
"""
PENDING: Final = statement(
    """
SELECT {request} FROM {sources} WHERE q.status = 'pending'
    AND least(q.sender, q.receiver) = least(%(one)b, %(other)b)
    AND greatest(q.sender, q.receiver) = greatest(%(one)b, %(other)b)
""",
    request=REQUEST,
    sources=FROM,
)
BY_ID: Final = statement("SELECT {request} FROM {sources} WHERE q.id = %b", request=REQUEST, sources=FROM)
OF_ACCOUNT: Final = statement(
    """
SELECT {request} FROM {sources}
WHERE q.id IN (
    SELECT id FROM friend_requests WHERE sender = %(account)b AND status <> 'declined'
    UNION SELECT id FROM friend_requests WHERE receiver = %(account)b AND status <> 'declined'
)
ORDER BY q.id DESC LIMIT %(limit)b
""",
    request=REQUEST,
    sources=FROM,
)
ANSWER: Final = b"UPDATE friend_requests SET status = %b, updated_at = now() WHERE id = %b AND status = 'pending'"
BEFRIEND: Final = b"""
INSERT INTO friendships (account, friend) VALUES (%(one)b, %(other)b), (%(other)b, %(one)b) ON CONFLICT DO NOTHING
"""
ARE_FRIENDS: Final = b"SELECT EXISTS (SELECT FROM friendships WHERE account = %b AND friend = %b)"
PART: Final = b"""
DELETE FROM friendships WHERE (account, friend) IN ((%(one)b, %(other)b), (%(other)b, %(one)b)) RETURNING account
"""
ID_MAX: Final = 2**31 - 1


def request(connection: Connection, sender: str, receiver: str) -> tuple[FriendRequest, bool]:
    while True:
        made = bool(fetch(connection, ADD, (text(sender), text(receiver))))
        rows = fetch(connection, PENDING, {"one": text(sender), "other": text(receiver)})
        if rows:  # else it was answered in between
            return _from_row(rows[0]), made


def friend_request(connection: Connection, id: int) -> FriendRequest | None:
    rows = fetch(connection, BY_ID, (Int4(id),)) if 0 < id <= ID_MAX else []
    return _from_row(rows[0]) if rows else None


def requests(connection: Connection, account: str, limit: int) -> list[FriendRequest]:
    return [_from_row(row) for row in fetch(connection, OF_ACCOUNT, {"account": text(account), "limit": Int8(limit)})]


def accept(connection: Connection, id: int, conversation: str) -> Conversation | None:
    answered = answer(connection, id, "accepted")
    if answered is None:
        return None
    one, other = answered.sender.id, answered.receiver.id
    connection.execute(BEFRIEND, {"one": text(one), "other": text(other)})
    return conversations.talk(connection, one, other, conversation)


def answer(connection: Connection, id: int, status: str) -> FriendRequest | None:
    """None when it has another answer already."""
    connection.execute(ANSWER, (status, Int4(id)))
    found = friend_request(connection, id)
    return found if found is not None and found.status == status else None


def are_friends(connection: Connection, one: str, other: str) -> bool:
    [(found,)] = fetch(connection, ARE_FRIENDS, (text(one), text(other)))
    return bool(found)


def part(connection: Connection, one: str, other: str) -> bool:
    return bool(fetch(connection, PART, {"one": text(one), "other": text(other)}))


def _from_row(row: Row) -> FriendRequest:
    id, status, created_at, updated_at = row[:4]
    accounts: Any = row[4:]
    return FriendRequest(
        id=id,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        sender=account_from_row(accounts[:ACCOUNT_COLUMNS]),
        receiver=account_from_row(accounts[ACCOUNT_COLUMNS:]),
    )
