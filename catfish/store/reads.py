"""What the port asks without changing anything: each function is one visit to a connection of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.numeric import Int8

from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import RoomRecord
from catfish.rooms.events import DurableEvent, MessageDeleted, MessageEdited, MessageReacted, MessageSent
from catfish.rooms.model import Member, Message
from catfish.rooms.ports import Page
from catfish.store import queries
from catfish.store.arrays import Parameter, Unstorable, int8, int8s, text
from catfish.store.connection import Connection
from catfish.store.reader import Reader
from catfish.store.rows import message_from_row
from catfish.store.state import record_from_row

Row = tuple[Any, ...]


def _rows(connection: Connection, query: bytes, parameters: Any) -> list[Row]:
    return connection.cursor(binary=True).execute(query, parameters).fetchall()


async def room(reader: Reader, id: str | None, code: str | None) -> RoomRecord | None:
    query, name = (queries.ROOM_BY_ID, id) if id is not None else (queries.ROOM_BY_CODE, normalise_code(code or ""))
    try:
        rows = await reader.rows(query, (text(name),))
    except (psycopg.DataError, Unstorable):
        # No text that Postgres cannot hold is the name of a room.
        return None
    return record_from_row(rows[0]) if rows else None


def members(connection: Connection, number: int, limit: int) -> list[Member]:
    rows = _rows(connection, queries.MEMBERS, (Int8(number), Int8(limit)))
    return [Member(user=user, name=name, since=since, away=away) for user, name, since, away in rows]


async def history(reader: Reader, number: int, before: int | None, after: int | None, limit: int) -> Page:
    """One message more than the page holds is read, to know whether there are more."""
    if after is not None:
        rows = await reader.rows(queries.ABOVE, (int8(number), int8(after), int8(limit + 1)))
    elif before is not None:
        rows = await reader.rows(queries.BELOW, (int8(number), int8(before), int8(limit + 1)))
    else:
        rows = await reader.rows(queries.NEWEST, (int8(number), int8(limit + 1)))
    return _page([message_from_row(row[0], row[1:]) for row in rows], limit, upwards=after is not None)


def _page(messages: list[Message], limit: int, *, upwards: bool) -> Page:
    more = len(messages) > limit
    del messages[limit:]
    if not upwards:
        messages.reverse()
    return Page(messages=messages, more=more)


async def room_history(
    reader: Reader, id: str, before: int | None, after: int | None, limit: int
) -> tuple[RoomRecord, Page] | None:
    """Both travel together."""
    try:
        name = text(id)
        page: tuple[bytes, Sequence[Parameter]]
        if after is not None:
            page = queries.ABOVE_IN, (name, int8(after), int8(limit + 1))
        elif before is not None:
            page = queries.BELOW_IN, (name, int8(before), int8(limit + 1))
        else:
            page = queries.NEWEST_IN, (name, int8(limit + 1))
        found, rows = await reader.together((queries.ROOM_BY_ID, (name,)), page)
    except (psycopg.DataError, Unstorable):
        return None
    if not found:
        return None
    messages = [message_from_row(id, row) for row in rows]
    return record_from_row(found[0]), _page(messages, limit, upwards=after is not None)


def changed_since(connection: Connection, number: int, seq: int, limit: int) -> list[Message]:
    rows = _rows(connection, queries.CHANGED_SINCE, {"room": Int8(number), "seq": Int8(seq), "limit": Int8(limit)})
    return [message_from_row(row[0], row[1:]) for row in rows]


def changes(connection: Connection, number: int, after: int, limit: int) -> list[DurableEvent]:
    parameters = {"room": Int8(number), "after": Int8(max(after, 0)), "limit": Int8(limit)}
    sent = _rows(connection, queries.SENT_AFTER, parameters)
    changed = _rows(connection, queries.CHANGED_AFTER, parameters)
    events: list[DurableEvent] = [
        MessageSent(room=row[0], revision=row[1], message=message_from_row(row[0], row[2:])) for row in sent
    ]
    events += [_event_from_row(row) for row in changed]
    events.sort(key=lambda event: event.revision)
    # What was committed between the two statements may have left a hole; the events behind it come with the next call.
    whole = [event for place, event in enumerate(events, max(after, 0) + 1) if event.revision == place]
    return whole[:limit]


def _event_from_row(row: Row) -> DurableEvent:
    room, revision, seq, at, kind, user, emoji, content = row
    if kind == "edited":
        return MessageEdited(room=room, revision=revision, seq=seq, user=user, content=content, edited_at=at)
    if kind == "deleted":
        return MessageDeleted(room=room, revision=revision, seq=seq, user=user, deleted_at=at)
    return MessageReacted(room=room, revision=revision, seq=seq, user=user, emoji=emoji, on=kind == "reacted")


def revisions(connection: Connection, numbers: Sequence[int]) -> dict[int, int]:
    rows = _rows(connection, queries.REVISIONS, (int8s(numbers),))
    return dict(rows)
