"""Reads what the commands of a batch are about.

First the rows of `rooms` are locked, in the order of their numbers, so that two instances never wait for each other;
then everything else is read, which nobody else changes any more. Rows of `strangers` are the exception: matching locks
those that it takes, without the room. Whoever leaves a matched room locks them before looking who is left; matching
itself never waits for one (`SKIP LOCKED`) and is done by one transaction at a time (an advisory lock), so that two who
seek at the same moment find each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import (
    Away,
    CloseRoom,
    Command,
    CreateRoom,
    Delete,
    Edit,
    Join,
    Leave,
    MarkRead,
    Match,
    React,
    Rematch,
    SendMessage,
)
from catfish.rooms.model import RoomKind
from catfish.rooms.moderation import Invite, ModerationCommand, Mute, Remove, SetRole, Unban
from catfish.store import moderation_queries, queries
from catfish.store.arrays import int8, int8s, texts
from catfish.store.pipeline import Pipeline, Row
from catfish.store.rows import message_from_row
from catfish.store.state import Line, Presence, Rooms, RoomState, Standing, Stranger, room_from_row

C = TypeVar("C", bound=Command)
MODERATING: Final[tuple[type[ModerationCommand], ...]] = (SetRole, Invite, Mute, Remove, Unban)


class Loader:
    """Reads for one batch, inside a transaction and a pipeline that are already open.

    Args:
        careful: look up whether messages were stored before; otherwise the unique index tells.
        lost: strangers who were chosen in an earlier attempt but are being changed by another transaction.
    """

    def __init__(self, pipeline: Pipeline, batch: Sequence[Command], *, careful: bool, lost: Iterable[str]) -> None:
        self._pipeline = pipeline
        self._careful = careful
        self._lost = frozenset(lost)
        self._rooms = Rooms()
        self._batch = batch
        self._openers: dict[str, Command] = {}
        self._restricted = False
        self._by_type: dict[type[Command], list[Any]] = {}
        for command in batch:
            self._by_type.setdefault(type(command), []).append(command)
        self._moderating: list[ModerationCommand] = [each for kind in MODERATING for each in self._of(kind)]

    def load(self) -> Rooms:
        own = self._lock()
        if self._by_type.keys() - {SendMessage} or self._careful or self._restricted:
            self._read_members(own)
            if self._restricted or self._moderating:
                self._read_standings()
            self._read_messages()
            self._pipeline.fetch()
        return self._rooms

    def _of(self, kind: type[C]) -> list[C]:
        return self._by_type.get(kind, [])

    # First: the rooms

    def _lock(self) -> list[int]:
        """Lock the rooms; returns the numbers of those in which people are who want to be matched."""
        own: list[int] = []
        matches, joins, creations = self._of(Match), self._of(Join), self._of(CreateRoom)
        rematches = self._of(Rematch)
        if matches or rematches:
            self._pipeline.add(queries.MATCHING)
        numbers = {
            command.number
            for kind, commands in self._by_type.items()
            if kind not in (Match, Join, CreateRoom)
            for command in commands
        }
        if joins or matches or rematches or self._moderating or self._of(Away):
            self._pipeline.add(queries.NOW, (), self._set_now)
        if joins or creations:
            self._open_rooms(self._batch)
            ids = {join.room for join in joins if join.room is not None} | {creation.id for creation in creations}
            codes = {normalise_code(join.code) for join in joins if join.room is None and join.code is not None}
            self._lock_named(numbers, ids, codes)
        elif numbers:
            self._pipeline.add(queries.LOCK, (int8s(list(numbers)),), self._add_room)
        if matches or rematches:
            users = {match.user for match in matches} | {rematch.user for rematch in rematches}
            self._pipeline.add(queries.LOCK_OWN, (texts(list(users)),), lambda row: own.append(row[0]))
        self._pipeline.fetch()
        # Those whose creation was refused because of its code, when somebody joins by the same id.
        left_out = [join for join in joins if join.create and join.room is not None and self.room_of(join) is None]
        if left_out:
            self._open_rooms(left_out)
            self._lock_named((), {join.room for join in left_out if join.room is not None}, ())
            self._pipeline.fetch()
        return own

    def _lock_named(self, numbers: Iterable[int], ids: Iterable[str], codes: Iterable[str]) -> None:
        parameters = int8s(list(numbers)), texts(list(ids)), texts(list(codes))
        self._pipeline.add(queries.LOCK_NAMED, parameters, self._add_room)

    def _add_room(self, row: Row) -> None:
        room = room_from_row(row)
        room.opener = self._openers.get(room.id)
        self._rooms.add(room)
        # A message that was stored before its room was closed, or its author banned, is answered again; no index would
        # tell.
        self._careful |= room.closed or room.restricted
        self._restricted |= room.restricted

    def _set_now(self, row: Row) -> None:
        self._rooms.now = row[0]

    def _open_rooms(self, batch: Sequence[Command]) -> None:
        """Make the rooms that are asked for and are not there, in the order of their ids (see above)."""
        wanted: dict[str, tuple[str, str | None, str | None, int | None, str, str | None]] = {}
        openers: dict[str, Command] = {}
        codes: set[str] = set()
        for command in batch:
            if isinstance(command, CreateRoom) and command.id not in wanted:
                code = None if command.code is None else normalise_code(command.code)
                if code is None or code not in codes:
                    access = None if command.access is None else command.access.value
                    wanted[command.id] = (
                        *(command.kind.value, code, command.name, command.capacity, command.user),
                        access,
                    )
                    openers[command.id] = command
                    codes |= set() if code is None else {code}
            elif isinstance(command, Join) and command.create and command.room is not None:
                wanted.setdefault(command.room, (RoomKind.OPEN.value, None, None, None, command.user, None))
                openers.setdefault(command.room, command)
        if not wanted:
            return
        ids = sorted(wanted)
        kinds, code_list, names, capacities, users, accesses = zip(*(wanted[id] for id in ids), strict=True)
        self._pipeline.add(
            queries.OPEN,
            (
                *(texts(ids), texts(kinds), texts(code_list), texts(names), int8s(capacities), texts(users)),
                texts(accesses),
            ),
            lambda row: self._openers.update({row[0]: openers[row[0]]}),
        )

    # Then: who is in them

    def _read_members(self, own: list[int]) -> None:
        rooms, matches, rematches = self._rooms, self._of(Match), self._of(Rematch)
        users: set[tuple[RoomState, str]] = set()
        entire: set[RoomState] = set()
        for join in self._of(Join):
            room = self.room_of(join)
            if room is not None:
                users.add((room, join.user))
                if join.with_members:
                    entire.add(room)
        if users:
            numbers, names = zip(*((room.number, user) for room, user in users), strict=True)
            self._pipeline.add(queries.DEPARTED, (int8s(numbers), texts(names)), self._add_departed)
        removing: list[SetRole | Remove] = [*self._of(SetRole), *self._of(Remove)]
        going: list[Leave | Away | Rematch] = [*self._of(Leave), *self._of(Away), *self._of(Rematch)]
        for command in (*going, *removing):
            room = rooms.by_number.get(command.number)
            if room is not None:
                users.add((room, command.user))
                if isinstance(command, Remove) and command.address:
                    entire.add(room)
        closed = [room for close in self._of(CloseRoom) if (room := rooms.by_number.get(close.number)) is not None]
        matched = {room for room in (*(room for room, _ in users), *closed) if room.is_pair}
        entire |= matched
        if matched:
            both = int8s(sorted(room.number for room in matched))
            self._pipeline.add(queries.LOCK_STRANGERS, (both,))
            # Again, for those who were matched into the room while the first statement waited for them.
            self._pipeline.add(queries.LOCK_STRANGERS, (both,), self._add_stranger)
            for room in matched:
                room.guarded = True
        if matches or rematches:
            self._read_own([number for number in own if number not in {room.number for room in matched}])
            entire |= {rooms.by_number[number] for number in own if number in rooms.by_number}
        if matches or rematches:
            seeking = {match.user for match in matches} | {rematch.user for rematch in rematches}
            self._pipeline.add(queries.WAITING, (), self._waiting(seeking, entire))
            self._read_pairs(moderation_queries.PARTNERS, seeking, rooms.partners)
        coming = {join.user for join in self._of(Join)} | {match.user for match in matches}
        coming |= {rematch.user for rematch in rematches}
        if coming:
            self._read_pairs(moderation_queries.APART, coming, rooms.apart)
        if entire:
            self._pipeline.add(queries.PRESENCES, (int8s(sorted(room.number for room in entire)),), self._add_presence)
        keys = sorted((room.number, user) for room, user in users if room not in entire)
        if keys:
            found, names = zip(*keys, strict=True)
            self._pipeline.add(queries.PRESENCES_OF_USERS, (int8s(found), texts(names)), self._add_presence)
        leaving = len(self._of(Leave)) + len(rematches) + len(removing)
        positions = len(self._of(Join)) + len(matches) + leaving + len(rematches)
        self._draw(positions, len(matches) + leaving if matches or matched else 0)

    def _read_pairs(self, query: bytes, users: Iterable[str], pairs: dict[str, set[str]]) -> None:
        def add(row: Row) -> None:
            pairs.setdefault(row[0], set()).add(row[1])

        self._pipeline.add(query, (texts(sorted(users)),), add)

    def _read_standings(self) -> None:
        """What those are to their rooms whom the commands name, where anybody is anything."""
        found: set[tuple[RoomState, str]] = set()
        addresses: set[tuple[RoomState, str]] = set()
        for join in self._of(Join):
            room = self.room_of(join)
            if room is not None:
                found.add((room, join.user))
                if join.address is not None:
                    addresses.add((room, join.address))
        writing: list[SendMessage | Edit | Delete | React] = [
            *self._of(SendMessage),
            *self._of(Edit),
            *self._of(Delete),
            *self._of(React),
        ]
        for command in writing:
            room = self._rooms.by_number.get(command.number)
            if room is not None:
                found.add((room, command.user))
        for moderating in self._moderating:
            room = self._rooms.by_number.get(moderating.number)
            if room is not None:
                found |= {(room, moderating.by.user), (room, moderating.user)}
        keys = sorted((room.number, user) for room, user in found if room.restricted)
        if keys:
            numbers, users = zip(*keys, strict=True)
            self._pipeline.add(moderation_queries.STANDINGS, (int8s(numbers), texts(users)), self._add_standing)
        keys = sorted((room.number, address) for room, address in addresses if room.restricted)
        if keys:
            numbers, names = zip(*keys, strict=True)
            self._pipeline.add(moderation_queries.BANNED_ADDRESSES, (int8s(numbers), texts(names)), self._add_address)
        sweeping = sorted({remove.number for remove in self._of(Remove) if remove.address})
        if sweeping:
            self._pipeline.add(moderation_queries.MODERATORS, (int8s(sweeping),), self._add_standing)
        if not self._rooms.now:
            self._pipeline.add(queries.NOW, (), self._set_now)

    def _add_standing(self, row: Row) -> None:
        self._rooms.by_number[row[0]].standings[row[1]] = Standing(*row[2:])

    def _add_address(self, row: Row) -> None:
        self._rooms.by_number[row[0]].banned_addresses[row[1]] = row[2]

    def room_of(self, join: Join) -> RoomState | None:
        if join.room is not None:
            return self._rooms.by_id.get(join.room)
        return self._rooms.by_code.get(normalise_code(join.code or ""))

    def _read_own(self, numbers: list[int]) -> None:
        """The rooms of people who want to be matched and are in one already; their own rows are locked."""
        if not numbers:
            return
        self._pipeline.add(queries.ROOMS, (int8s(numbers),), self._add_unguarded)
        self._pipeline.fetch()
        self._pipeline.add(queries.STRANGERS, (int8s(numbers),), self._add_stranger)

    def _add_unguarded(self, row: Row) -> None:
        if row[0] not in self._rooms.by_number:
            self._rooms.add(room_from_row(row))

    def _add_stranger(self, row: Row) -> None:
        number, user, interests, place, pause_ms = row
        room = self._rooms.by_number[number]
        if not room.closed:
            room.strangers[user] = Stranger(user, frozenset(interests), place, pause_ms)
            self._rooms.stranger_of[user] = room

    def _waiting(self, seeking: set[str], known: set[RoomState]) -> Callable[[Row], None]:
        """Takes in those who wait in rooms that nobody here is in."""

        def add(row: Row) -> None:
            user, interests, place, pause_ms, instance, name, since, position, address = row[queries.ROOM_COLUMNS :]
            room = self._rooms.by_number.get(row[0])
            # One who seeks and whose own row could not be locked is just leaving that room.
            if room in known or user in seeking or user in self._lost:
                return
            if room is None:
                room = room_from_row(row)
                self._rooms.add(room)
            if user not in room.strangers:
                room.strangers[user] = Stranger(user, frozenset(interests), place, pause_ms)
            room.add(Presence(user, instance, name, since, position, None, address=address))

        return add

    def _add_presence(self, row: Row) -> None:
        self._rooms.by_number[row[0]].add(Presence(*row[1:]))

    def _add_departed(self, row: Row) -> None:
        self._rooms.by_number[row[0]].departed.add(row[1])

    def _draw(self, positions: int, places: int) -> None:
        """Draw numbers for those who enter and those who wait; the ones that are not used leave gaps."""
        drawn: list[list[int]] = [[], []]
        for query, count, numbers in ((queries.POSITIONS, positions, drawn[0]), (queries.PLACES, places, drawn[1])):
            if count:
                self._pipeline.add(query, (int8(count),), lambda row, numbers=numbers: numbers.append(row[0]))  # type: ignore[misc]
        self._rooms.positions = iter(drawn[0])
        self._rooms.places = iter(drawn[1])

    # And what was written in them

    def _read_messages(self) -> None:
        changes: list[Edit | Delete | React] = [*self._of(Edit), *self._of(Delete), *self._of(React)]
        lines = {(c.number, c.seq) for c in changes}
        if lines:
            numbers, seqs = zip(*lines, strict=True)
            self._pipeline.add(queries.LINES, (int8s(numbers), int8s(seqs)), self._add_line)
        reactions = {(c.number, c.seq, c.emoji, c.user) for c in self._of(React)}
        if reactions:
            numbers, seqs, emojis, users = zip(*reactions, strict=True)
            keys = int8s(numbers), int8s(seqs), texts(emojis), texts(users)
            self._pipeline.add(queries.REACTED, keys, self._add_reaction)
        reads = {(c.number, c.user) for c in self._of(MarkRead)}
        if reads:
            numbers, users = zip(*reads, strict=True)
            self._pipeline.add(queries.READS, (int8s(numbers), texts(users)), self._add_read)
        if self._careful:
            sent = [(c.number, c.user, c.client_id) for c in self._of(SendMessage) if c.client_id is not None]
            if sent:
                numbers, users, client_ids = zip(*sent, strict=True)
                parameters = int8s(numbers), texts(users), texts(client_ids)
                self._pipeline.add(queries.SENT_BEFORE, parameters, self._add_sent)

    def _add_line(self, row: Row) -> None:
        number, seq, user, deleted = row
        if number in self._rooms.by_number:
            self._rooms.by_number[number].lines[seq] = Line(user, deleted)

    def _add_reaction(self, row: Row) -> None:
        number, seq, emoji, user, revision = row
        if number in self._rooms.by_number:
            self._rooms.by_number[number].reactions[seq, emoji, user] = revision

    def _add_read(self, row: Row) -> None:
        number, user, seq = row
        if number in self._rooms.by_number:
            self._rooms.by_number[number].reads[user] = seq

    def _add_sent(self, row: Row) -> None:
        number, client_id, revision = row[:3]
        room = self._rooms.by_number.get(number)
        if room is not None:
            message = message_from_row(room.id, row[3:])
            self._rooms.sent_before[number, message.user, client_id] = message, revision
