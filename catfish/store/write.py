"""Writes what the commands of a batch have changed, in as few statements as there are tables that changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from catfish.rooms.commands import RoomRecord
from catfish.rooms.model import Message, Role
from catfish.store import moderation_queries, queries
from catfish.store.arrays import Parameter, encode_json, instants, int8s, jsons, texts
from catfish.store.pipeline import Pipeline, Row
from catfish.store.state import Rooms, RoomState


class Claimed(Exception):
    """Strangers who were chosen are just leaving; the batch is to be done again without them."""

    def __init__(self, users: set[str]) -> None:
        super().__init__(f"{len(users)} strangers are just leaving")
        self.users = users


def _roles(roles: Sequence[Role]) -> Parameter:
    return texts([None if role is Role.NONE else role.value for role in roles])


class Writer:
    """Writes for one batch, inside a transaction and a pipeline that are already open."""

    def __init__(self, pipeline: Pipeline, rooms: Rooms, records: Sequence[tuple[RoomRecord, RoomState]]) -> None:
        self._pipeline = pipeline
        self._rooms = rooms
        self._records = records
        self._ids: list[Row] = []
        self._added: list[Message] = []

    def write(self) -> None:
        """
        Raises:
            Claimed: before anything was written.
        """
        rooms = self._rooms
        if rooms.claims:
            self._claim()
        if rooms.opened:
            self._open()
        if rooms.messages:
            self._add_messages()
        if rooms.changes:
            self._change_messages()
        everything = list(rooms.all())
        self._set_reads(everything)
        self._set_strangers(everything)
        self._set_presences(everything)
        self._set_departed(everything)
        self._set_standings(everything)
        self._set_rooms([room for room in everything if room.changed])

    def finish(self) -> None:
        """Once the statements have answered: the messages get their ids."""
        # Rows are inserted, and draw their ids, in the order of the arrays.
        for message, (id,) in zip(self._added, sorted(self._ids), strict=True):
            message.id = id

    def _fetch(self, query: bytes, parameters: Sequence[Parameter]) -> list[Row]:
        rows: list[Row] = []
        self._pipeline.add(query, parameters, rows.append)
        self._pipeline.fetch()
        return rows

    def _claim(self) -> None:
        wanted = {user: room.number for room, user in self._rooms.claims}
        found = self._fetch(queries.CLAIM, (int8s(list(wanted.values())), texts(list(wanted))))
        missing = wanted.keys() - {user for (user,) in found}
        if missing:
            raise Claimed(set(missing))

    def _open(self) -> None:
        opened = self._rooms.opened
        parameters = texts([room.id for room in opened]), texts([room.created_by for room in opened])
        by_id = {id: (number, at) for number, id, at in self._fetch(queries.OPEN_MATCHED, parameters)}
        for room in opened:
            room.number, room.created_at = by_id[room.id]
        for record, room in self._records:
            record.number = room.number
            record.room.created_at = room.created_at

    def _add_messages(self) -> None:
        rooms = self._rooms.messages
        self._added = added = [message for _, message, _, _ in rooms]
        self._pipeline.add(
            queries.ADD_MESSAGES,
            (
                int8s([room.number for room, _, _, _ in rooms]),
                int8s([message.seq for message in added]),
                int8s([revision for _, _, revision, _ in rooms]),
                instants([message.created_at for message in added]),
                int8s([message.reply_to for message in added]),
                texts([message.user for message in added]),
                texts([message.name for message in added]),
                texts([message.content for message in added]),
                texts([client_id for _, _, _, client_id in rooms]),
                jsons([None if message.data is None else encode_json(message.data) for message in added]),
            ),
            self._ids.append,
        )

    def _change_messages(self) -> None:
        everything = list(self._rooms.all())
        lines = [(room.number, seq, line) for room in everything for seq, line in room.lines.items() if line.changed]
        if lines:
            self._pipeline.add(
                queries.CHANGE_MESSAGES,
                (
                    int8s([number for number, _, _ in lines]),
                    int8s([seq for _, seq, _ in lines]),
                    texts([line.content for _, _, line in lines]),
                    instants([line.edited_at for _, _, line in lines]),
                    instants([line.deleted_at for _, _, line in lines]),
                ),
            )
        deleted = [(number, seq) for number, seq, line in lines if line.deleted]
        self._execute(queries.REMOVE_REACTIONS_TO, deleted, int8s, int8s)
        reacted = [(room, *key) for room in everything for key in room.reacted]
        keys = [(room.number, seq, emoji, user) for room, seq, emoji, user in reacted]
        self._execute(queries.REMOVE_REACTIONS, keys, int8s, int8s, texts, texts)
        there = [
            (room.number, seq, revision, emoji, user)
            for room, seq, emoji, user in reacted
            if (revision := room.reactions.get((seq, emoji, user))) is not None
        ]
        self._execute(queries.ADD_REACTIONS, there, int8s, int8s, int8s, texts, texts)
        changes = [(room.number, *change) for room, *change in self._rooms.changes]
        self._execute(queries.ADD_CHANGES, changes, int8s, int8s, int8s, int8s, instants, texts, texts, texts)

    def _set_reads(self, everything: Sequence[RoomState]) -> None:
        reads = [(room.number, room.reads[user], user) for room in everything for user in room.reads_moved]
        self._execute(queries.SET_READS, reads, int8s, int8s, texts)

    def _set_strangers(self, everything: Sequence[RoomState]) -> None:
        gone = [(room.number, stranger.user) for room in everything for stranger in room.gone_strangers]
        self._execute(queries.REMOVE_STRANGERS, gone, int8s, texts)
        changed = [
            (room.number, stranger.place, stranger.user, encode_json(sorted(stranger.interests)), stranger.pause_ms)
            for room in everything
            for stranger in room.strangers.values()
            if stranger.changed
        ]
        self._execute(queries.SET_STRANGERS, changed, int8s, int8s, texts, jsons, int8s)
        met = [(user, partner, until) for (user, partner), until in self._rooms.met.items()]
        self._execute(moderation_queries.ADD_PARTNERS, met, texts, texts, instants)

    def _set_presences(self, everything: Sequence[RoomState]) -> None:
        gone = [(room.number, each.user, each.instance) for room in everything for each in room.gone]
        self._execute(queries.REMOVE_PRESENCES, gone, int8s, texts, texts)
        changed = [
            (room.number, each.position, each.since, each.away_since, each.user, each.instance, each.name, each.address)
            for room in everything
            for presences in room.users.values()
            for each in presences.values()
            if each.changed
        ]
        self._execute(queries.SET_PRESENCES, changed, int8s, int8s, instants, instants, texts, texts, texts, texts)

    def _set_departed(self, everything: Sequence[RoomState]) -> None:
        emptied = [(room.number,) for room in everything if room.emptied]
        self._execute(queries.FORGET_DEPARTED_OF, emptied, int8s)
        changed = [(room.number, *change) for room in everything for change in room.departed_changed.items()]
        self._execute(
            queries.REMOVE_DEPARTED, [(number, user) for number, user, gone in changed if not gone], int8s, texts
        )
        self._execute(queries.ADD_DEPARTED, [(number, user) for number, user, gone in changed if gone], int8s, texts)

    def _set_standings(self, everything: Sequence[RoomState]) -> None:
        rooms = [room for room in everything if room.restricted]
        changed = [
            (room.number, user, each.role, each.muted_until or None, each.banned_until or None, each.removed)
            for room in rooms
            for user, each in room.standings.items()
            if each.changed
        ]
        statement = moderation_queries.SET_STANDINGS
        self._execute(statement, changed, int8s, texts, _roles, instants, instants, int8s)
        freed = [(room.number, user) for room in everything for user in room.addresses_freed]
        self._execute(moderation_queries.UNBAN_ADDRESSES, freed, int8s, texts)
        banned = [
            (room.number, address, until, user)
            for room in rooms
            for address, (until, user) in room.addresses_banned.items()
        ]
        self._execute(moderation_queries.BAN_ADDRESSES, banned, int8s, texts, instants, texts)
        self._execute(moderation_queries.RESTRICT, [(room.number,) for room in rooms if room.restricting], int8s)

    def _set_rooms(self, changed: Sequence[RoomState]) -> None:
        rows = [(room.number, room.seq, room.revision, room.users_count, int(room.closing)) for room in changed]
        self._execute(queries.SET_ROOMS, rows, int8s, int8s, int8s, int8s, int8s)

    def _execute(self, query: bytes, rows: Sequence[tuple[Any, ...]], *columns: Callable[[Any], Parameter]) -> None:
        """One statement for all rows, a column a parameter; nothing when there are none."""
        if rows:
            parameters = [column(items) for column, items in zip(columns, zip(*rows, strict=True), strict=True)]
            self._pipeline.add(query, parameters)
