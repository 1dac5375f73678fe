"""Leases of instances, and what becomes of the members of one that died."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import errors
from psycopg.types.json import Json
from psycopg.types.numeric import Float8, Int8

from catfish.rooms.ports import Figures, StoreUnavailable, Taken
from catfish.store import moderation_queries, queries
from catfish.store.arrays import int8s, texts
from catfish.store.connection import Connection, is_conflict
from catfish.store.marker import Marker
from catfish.store.pipeline import Pipeline, rollback
from catfish.store.state import Presence, Rooms, RoomState, room_from_row
from catfish.store.write import Writer

ATTEMPTS_MAX = 10
"""Of a transaction that others come in between of."""


def renew(connection: Connection, instance: str, lease_s: float, figures: Figures | None) -> bool:
    """Whether the lease was still held, or is a new one."""
    told = None if figures is None else Json(msgspec.to_builtins(figures))
    row = connection.execute(queries.RENEW, (instance, Float8(lease_s), told)).fetchone()
    assert row is not None
    return bool(row[0])


def end(connection: Connection, instance: str) -> None:
    with connection.transaction():
        connection.execute(queries.LEAVE_ALL, (instance,))
        connection.execute(queries.END_LEASE, (instance,))


class TakeOver:
    """Moves the members of dead instances to this one.

    Every call is a few transactions, each of them for as many rooms as there may be members. The rooms are locked as in
    the journal's transactions, so that nobody enters or leaves meanwhile. One whose commit was not confirmed is asked
    about by the next call, which then reports its members too: nobody else would.
    """

    def __init__(self) -> None:
        self._marker = Marker[list[Taken]]()

    def run(self, connection: Connection, instance: str, limit: int, stopped_only: bool) -> list[Taken]:
        """An empty list: no dead instance has members any more."""
        taken = self._marker.settle(connection) or []
        attempts = 0
        while not taken:
            try:
                found = self._transact(connection, instance, limit, stopped_only)
            except psycopg.Error as error:
                if connection.closed:
                    raise
                self._marker.told()
                rollback(connection)
                attempts += 1
                if not (is_conflict(error) or isinstance(error, errors.UniqueViolation)):
                    raise
                if attempts >= ATTEMPTS_MAX:
                    raise StoreUnavailable("other transactions came in between too often") from error
            else:
                if found is None:
                    break
                taken = found
        return taken

    def _transact(self, connection: Connection, instance: str, limit: int, stopped_only: bool) -> list[Taken] | None:
        """One transaction; None when there was nothing to take."""
        connection.execute(b"BEGIN")
        connection.execute(queries.MARK, self._marker.mark())
        connection.execute(queries.FORGET_INSTANCES)
        connection.execute(queries.FORGET_JOURNALS)
        connection.execute(queries.FORGET_DEPARTED)
        connection.execute(moderation_queries.FORGET_PARTNERS)
        parameters = (instance, stopped_only, Int8(limit))
        numbers = [row[0] for row in connection.execute(queries.ROOMS_OF_THE_DEAD, parameters)]
        taken = self._take(connection, instance, limit, stopped_only, numbers) if numbers else []
        self._marker.about_to_commit(taken)
        connection.execute(b"COMMIT")
        self._marker.told()
        return taken if numbers else None

    def _take(
        self, connection: Connection, instance: str, limit: int, stopped_only: bool, numbers: Sequence[int]
    ) -> list[Taken]:
        rooms = Rooms()
        for row in _rows(connection, queries.LOCK, (int8s(numbers),)):
            rooms.add(room_from_row(row))
        matched = [room.number for room in rooms.all() if room.is_pair]
        # Matching lets people back into their room without locking it.
        _rows(connection, queries.LOCK_STRANGERS, (int8s(matched),))
        ended: dict[tuple[RoomState, str], dict[str, int]] = {}
        dead_in = _rows(connection, queries.DEAD_IN, (instance, stopped_only, int8s(numbers)))
        for number, user, dead, lease_until in dead_in:
            key = rooms.by_number[number], user
            if key in ended or len(ended) < limit:
                ended.setdefault(key, {})[dead] = lease_until
        users = [(room.number, user) for room, user in ended if not room.is_pair]
        rows = _rows(connection, queries.PRESENCES, (int8s(matched),))
        rows += _rows(
            connection,
            queries.PRESENCES_OF_USERS,
            (int8s([number for number, _ in users]), texts([user for _, user in users])),
        )
        for row in rows:
            rooms.by_number[row[0]].add(Presence(*row[1:]))
        moved = [(room, user, _move(room, user, instance, leases)) for (room, user), leases in ended.items()]
        with Pipeline(connection) as pipeline:
            Writer(pipeline, rooms, []).write()
        now = _rows(connection, queries.NOW, ())[0][0]
        return [
            Taken(
                record=room.record(), member=room.member(user), away_ms=max(now - away_since, 0), away_since=away_since
            )
            for room, user, away_since in moved
            if away_since is not None
        ]


def _move(room: RoomState, user: str, instance: str, leases: dict[str, int]) -> int | None:
    """Move what dead instances hold of a user: away since the connection was lost, at the latest since the lease ended.

    Returns:
        Since when; None when the user is present on `instance`.
    """
    dead = [room.users[user][each] for each in leases]
    away_since: int | None
    away_since = max(
        leases[presence.instance] if presence.away_since is None else presence.away_since for presence in dead
    )
    own = room.users[user].get(instance)
    if own is None:
        first = dead[0]
        presence = Presence(
            user, instance, first.name, first.since, first.position, away_since, address=first.address, stored=False
        )
        room.add(presence)
    elif own.away_since is None:
        away_since = None
    else:
        own.away_since = away_since = max(own.away_since, away_since)
        own.changed = True
    for presence in dead:
        room.remove(presence)
    return away_since


def _rows(connection: Connection, query: bytes, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    return connection.cursor(binary=True).execute(query, parameters).fetchall()
