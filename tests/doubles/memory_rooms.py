"""What the durable commands mean, on plain dictionaries: the state behind `MemoryStore`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from catfish.errors import Rejected
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import (
    AUTOMATIC_CLIENT_ID,
    Answer,
    Away,
    Changed,
    CloseRoom,
    Command,
    CreateRoom,
    Delete,
    Edit,
    Join,
    Joined,
    Leave,
    Left,
    MarkRead,
    Match,
    Matched,
    React,
    Read,
    Rematch,
    RoomRecord,
    SendMessage,
    Sent,
)
from catfish.rooms.events import DurableEvent, MessageDeleted, MessageEdited, MessageReacted, MessageSent
from catfish.rooms.model import Member, Message, Room, RoomKind
from catfish.rooms.ports import Figures, ListedRoom, Page, Taken
from catfish.store import refusals
from tests.doubles.memory_instances import Instances


class Presence(msgspec.Struct, kw_only=True):
    """A user in a room on one instance."""

    user: str
    instance: str
    name: str
    since: int
    position: int
    away_since: int | None = None


class Stranger(msgspec.Struct, kw_only=True):
    """A user in a matched room; `place` in the queue of those who wait, None while not alone."""

    user: str
    interests: frozenset[str]
    place: int | None


class Stored(msgspec.Struct, kw_only=True):
    """A message with what the model does not show."""

    message: Message
    revision: int
    reactions: dict[tuple[str, str], None]
    """(emoji, user), in the order in which they reacted."""


class StoredRoom:
    def __init__(self, number: int, command_id: str, kind: RoomKind, created_by: str, created_at: int) -> None:
        self.number = number
        self.id = command_id
        self.kind = kind
        self.created_by = created_by
        self.created_at = created_at
        self.code: str | None = None
        self.name: str | None = None
        self.capacity: int | None = None
        self.closed_at: int | None = None
        self.revision = 0
        self.presences: dict[tuple[str, str], Presence] = {}
        self.messages: list[Stored] = []
        self.client_ids: dict[tuple[str, str], int] = {}
        self.changes: list[DurableEvent] = []
        self.reads: dict[str, int] = {}
        self.strangers: dict[str, Stranger] = {}
        self.departed: set[str] = set()

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    def of_user(self, user: str) -> list[Presence]:
        return [presence for presence in self.presences.values() if presence.user == user]

    def users(self) -> set[str]:
        return {presence.user for presence in self.presences.values()}

    def stored(self, seq: int) -> Stored | None:
        return self.messages[seq - 1] if 1 <= seq <= len(self.messages) else None

    def record(self) -> RoomRecord:
        return RoomRecord(
            number=self.number,
            room=Room(
                id=self.id,
                kind=self.kind,
                code=self.code,
                name=self.name,
                capacity=self.capacity,
                members_count=len(self.users()),
                seq=len(self.messages),
                created_at=self.created_at,
            ),
            created_by=self.created_by,
            revision=self.revision,
        )


class MemoryRooms:
    """All rooms; one command at a time. `now` gives milliseconds since the epoch."""

    def __init__(self, now: Callable[[], int], room_capacity_max: int) -> None:
        self._now = now
        self._room_capacity_max = room_capacity_max
        self._rooms: dict[int, StoredRoom] = {}
        self._by_id: dict[str, StoredRoom] = {}
        self._by_code: dict[str, StoredRoom] = {}
        self._leases: dict[str, int] = {}
        self.instances = Instances(now, self._leases)
        self._numbers = itertools.count(1)
        self._message_ids = itertools.count(1)
        self._positions = itertools.count(1)
        self._places = itertools.count(1)

    # What the port asks

    def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        room = self._by_id.get(id) if id is not None else self._by_code.get(normalise_code(code or ""))
        return None if room is None or room.closed else room.record()

    def listed(self) -> list[ListedRoom]:
        """All rooms, the newest first."""
        return [ListedRoom(record=room.record(), closed_at=room.closed_at) for room in reversed(self._rooms.values())]

    def members(self, number: int, limit: int) -> list[Member]:
        room = self._rooms.get(number)
        return [] if room is None else self._members(room)[:limit]

    def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        room = self._rooms.get(number)
        found = [] if room is None else room.messages
        if after is not None:
            found = [stored for stored in found if stored.message.seq > after]
            return Page(messages=[_shown(stored) for stored in found[:limit]], more=len(found) > limit)
        if before is not None:
            found = [stored for stored in found if stored.message.seq < before]
        return Page(
            messages=[_shown(stored) for stored in found[max(len(found) - limit, 0) :]], more=len(found) > limit
        )

    def undeleted(self, number: int, *, below: int | None, below_id: int | None, limit: int) -> Page:
        room = self._rooms.get(number)
        found = [
            stored
            for stored in ([] if room is None else room.messages)
            if stored.message.deleted_at is None
            and (below is None or stored.message.seq < below)
            and (below_id is None or stored.message.id < below_id)
        ]
        return Page(
            messages=[_shown(stored) for stored in found[max(len(found) - limit, 0) :]], more=len(found) > limit
        )

    def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        room = self._rooms.get(number)
        if room is None or seq < 1 or not room.messages:
            return []
        since = room.messages[min(seq, len(room.messages)) - 1].revision
        latest: dict[int, int] = {}
        for event in room.changes[since:]:
            if isinstance(event, MessageEdited | MessageDeleted | MessageReacted) and event.seq <= seq:
                latest[event.seq] = event.revision
        return [_shown(room.messages[seq - 1]) for seq in sorted(latest, key=latest.__getitem__)[:limit]]

    def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        room = self._rooms.get(number)
        events = [] if room is None else room.changes[max(after, 0) : max(after, 0) + limit]
        return [_as_of_now(event, room) for event in events if room is not None]

    def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        rooms = [room for number in numbers if (room := self._rooms.get(number)) is not None]
        return {room.number: room.revision for room in rooms if not room.closed}

    def renew_lease(self, instance: str, lease_s: float, figures: Figures | None) -> bool:
        now = self._now()
        self.instances.renewed(instance, figures)
        held = self._leases.get(instance, now + 1) > now
        self._leases[instance] = now + int(lease_s * 1000)
        return held

    def end_lease(self, instance: str) -> None:
        for room in self._rooms.values():
            for presence in room.presences.values():
                if presence.instance == instance and presence.away_since is None:
                    presence.away_since = self._now()
        if instance in self._leases:
            self.instances.stopped(instance)
            self._leases[instance] = min(self._leases[instance], self._now())

    def take_over(self, instance: str, limit: int) -> list[Taken]:
        taken: list[Taken] = []
        for room in self._rooms.values():
            for user in sorted(room.users()):
                if len(taken) < limit:
                    moved = self._take_over_user(room, user, instance)
                    if moved is not None:
                        member = self._member(room, user)
                        assert moved.away_since is not None
                        away_ms = max(self._now() - moved.away_since, 0)
                        taken.append(Taken(record=room.record(), member=member, away_ms=away_ms))
        return taken

    # Commands

    def execute(self, command: Command) -> Answer | Rejected:
        refused = refusals.unstorable(command)
        if refused is not None:
            return refused
        try:
            return self._dispatch(command)
        except Rejected as refusal:
            return refusal

    def _dispatch(self, command: Command) -> Answer:
        match command:
            case SendMessage():
                return self._send(command)
            case CreateRoom():
                return self._create(command)
            case Join():
                return self._join(command)
            case Leave():
                return self._leave(command)
            case Away():
                self._mark_away(command)
                return None
            case Match():
                return self._match(command)
            case Rematch():
                return self._rematch(command)
            case Edit():
                return self._edit(command)
            case Delete():
                return self._delete(command)
            case React():
                return self._react(command)
            case MarkRead():
                return self._mark_read(command)
            case CloseRoom():
                return self._close(command)
        raise TypeError(f"not a command: {command!r}")

    def _room(self, number: int) -> StoredRoom:
        room = self._rooms.get(number)
        if room is None:
            raise refusals.no_such_room(number)
        return room

    def _open(self, id: str, kind: RoomKind, user: str) -> StoredRoom:
        room = StoredRoom(next(self._numbers), id, kind, user, self._now())
        self._rooms[room.number] = self._by_id[id] = room
        return room

    def _create(self, command: CreateRoom) -> RoomRecord:
        room = self._by_id.get(command.id)
        if room is not None:
            if room.created_by != command.user or room.kind != command.kind:
                raise refusals.id_taken()
            if room.closed:
                raise refusals.room_closed()
            return room.record()
        code = None if command.code is None else normalise_code(command.code)
        if code in self._by_code:
            raise refusals.code_taken()
        room = self._open(command.id, command.kind, command.user)
        room.name, room.capacity = command.name, command.capacity
        if code is not None:
            room.code = code
            self._by_code[code] = room
        return room.record()

    def _join(self, command: Join) -> Joined:
        user = command.user
        if command.room is not None:
            room = self._by_id.get(command.room)
            if room is None:
                if not command.create:
                    raise refusals.no_such_room(command.room)
                room = self._open(command.room, RoomKind.OPEN, user)
        else:
            room = self._by_code.get(normalise_code(command.code or ""))
            if room is None:
                raise refusals.no_such_code(command.code)
        if room.closed:
            raise refusals.room_closed()
        known = room.of_user(user)
        if not known:
            if room.kind is RoomKind.MATCHED:
                raise refusals.not_admitted_to_match()
            if room.kind is RoomKind.PRIVATE and command.code is None and room.created_by != user:
                raise refusals.not_admitted_privately()
            capacity = self._room_capacity_max if room.capacity is None else room.capacity
            if len(room.users()) >= capacity:
                raise refusals.room_full(capacity)
        returning = user in room.departed
        room.departed.discard(user)
        member = self._enter(room, user, command.name, command.instance)
        members = self._members(room) if command.with_members else None
        return Joined(
            record=room.record(),
            member=member,
            first=not known,
            stamp=next(self._positions),
            returning=returning,
            members=members,
        )

    def _enter(self, room: StoredRoom, user: str, name: str, instance: str) -> Member:
        known = room.of_user(user)
        for presence in known:
            presence.name = name
        own = room.presences.get((user, instance))
        if own is not None:
            own.away_since = None
        else:
            room.presences[user, instance] = Presence(
                user=user,
                instance=instance,
                name=name,
                since=min((presence.since for presence in known), default=self._now()),
                position=known[0].position if known else next(self._positions),
            )
        return msgspec.structs.replace(self._member(room, user), away=False)

    def _leave(self, command: Leave) -> Left:
        room = self._rooms.get(command.number)
        if room is None:
            return Left(last=True, stamp=next(self._positions), members_count=0)
        key = command.user, command.instance
        own = room.presences.get(key)
        if own is None or (command.only_if_away and own.away_since is None):
            last = not room.of_user(command.user)
            return Left(last=last, stamp=next(self._positions) if last else 0, members_count=len(room.users()))
        del room.presences[key]
        last = not room.of_user(command.user)
        if not room.presences:
            room.departed.clear()
        elif last and room.kind is not RoomKind.MATCHED:
            room.departed.add(command.user)
        if last and room.kind is RoomKind.MATCHED:
            room.strangers.pop(command.user, None)
            for stranger in room.strangers.values():
                stranger.place = next(self._places)
            if not room.strangers:
                room.closed_at = self._now()
        return Left(last=last, stamp=next(self._positions) if last else 0, members_count=len(room.users()))

    def _mark_away(self, command: Away) -> None:
        room = self._rooms.get(command.number)
        own = None if room is None else room.presences.get((command.user, command.instance))
        if own is not None and own.away_since is None:
            own.away_since = self._now()

    def _match(self, command: Match) -> Matched:
        user = command.user
        for room in self._rooms.values():
            if user in room.strangers:
                return self._matched(room, command)
        chosen = self._choose(frozenset(command.interests), frozenset(command.avoid), None)
        if chosen is not None:
            room, place = chosen, None
        else:
            if command.new_room in self._by_id:
                raise Rejected("bad_request", "another room has that id")
            room = self._open(command.new_room, RoomKind.MATCHED, user)
            room.capacity = 2
            place = next(self._places)
        room.strangers[user] = Stranger(user=user, interests=frozenset(command.interests), place=place)
        return self._matched(room, command)

    def _choose(
        self, interests: frozenset[str], avoid: frozenset[str], without: StoredRoom | None
    ) -> StoredRoom | None:
        """Where the best one waits, who then waits no more."""
        waiting = [
            (len(stranger.interests & interests), -stranger.place, room)
            for room in self._rooms.values()
            for stranger in room.strangers.values()
            if room is not without
            and stranger.place is not None
            and stranger.user not in avoid
            and not self._member(room, stranger.user).away
        ]
        if not waiting:
            return None
        _, _, chosen = max(waiting, key=lambda found: found[:2])
        for stranger in chosen.strangers.values():
            stranger.place = None
        return chosen

    def _rematch(self, command: Rematch) -> Matched | None:
        user, room = command.user, self._rooms.get(command.number)
        stranger = None if room is None else room.strangers.get(user)
        if room is None or stranger is None or stranger.place is None:
            return None
        presences = room.of_user(user)
        own = room.presences.get((user, command.instance))
        if own is None or len(presences) > 1 or self._away_since(own) is not None:
            return None
        other = self._choose(stranger.interests, frozenset(), room)
        if other is None:
            return None
        self._leave(Leave(number=room.number, user=user, instance=command.instance))
        other.strangers[user] = Stranger(user=user, interests=stranger.interests, place=None)
        member = self._enter(other, user, own.name, command.instance)
        [peer] = [each for each in self._members(other) if each.user != user]
        return Matched(record=other.record(), member=member, peer=peer, stamp=next(self._positions))

    def _matched(self, room: StoredRoom, command: Match) -> Matched:
        member = self._enter(room, command.user, command.name, command.instance)
        others = [other for other in self._members(room) if other.user != command.user]
        peer = others[0] if others else None
        return Matched(record=room.record(), member=member, peer=peer, stamp=next(self._positions))

    def _send(self, command: SendMessage) -> Sent:
        room = self._room(command.number)
        if command.client_id is not None:
            seq = room.client_ids.get((command.user, command.client_id))
            if seq is not None:
                stored = room.messages[seq - 1]
                return Sent(message=_shown(stored), revision=stored.revision, repeated=True)
        if room.closed:
            raise refusals.room_closed()
        room.revision += 1
        message = Message(
            room=room.id,
            seq=len(room.messages) + 1,
            id=next(self._message_ids),
            user=command.user,
            name=command.name,
            content=command.content,
            client_id=_shown_client_id(command.client_id),
            reply_to=command.reply_to,
            data=command.data,
            created_at=command.created_at,
        )
        room.messages.append(Stored(message=message, revision=room.revision, reactions={}))
        room.changes.append(MessageSent(room=room.id, revision=room.revision, message=message))
        if command.client_id is not None:
            room.client_ids[command.user, command.client_id] = message.seq
        return Sent(message=_shown(room.messages[-1]), revision=room.revision, repeated=False)

    def _message(self, number: int, seq: int) -> tuple[StoredRoom, Stored]:
        room = self._rooms.get(number)
        stored = None if room is None else room.stored(seq)
        if room is None or stored is None:
            raise refusals.no_such_message(seq)
        return room, stored

    def _edit(self, command: Edit) -> Changed:
        room, stored = self._message(command.number, command.seq)
        message = stored.message
        if message.deleted_at is not None:
            raise refusals.no_such_message(command.seq)
        if message.user != command.user:
            raise refusals.not_your_message()
        message.content, message.edited_at = command.content, command.at
        room.revision += 1
        room.changes.append(
            MessageEdited(
                room=room.id,
                revision=room.revision,
                seq=command.seq,
                user=command.user,
                content=command.content,
                edited_at=command.at,
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def _delete(self, command: Delete) -> Changed:
        room, stored = self._message(command.number, command.seq)
        message = stored.message
        if message.user != command.user:
            raise refusals.not_your_message()
        if message.deleted_at is not None:
            return Changed(revision=0, unchanged=True)
        message.content, message.data, message.deleted_at = "", None, command.at
        stored.reactions.clear()
        room.revision += 1
        room.changes.append(
            MessageDeleted(
                room=room.id, revision=room.revision, seq=command.seq, user=command.user, deleted_at=command.at
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def _react(self, command: React) -> Changed:
        room, stored = self._message(command.number, command.seq)
        if stored.message.deleted_at is not None:
            raise refusals.no_such_message(command.seq)
        key = command.emoji, command.user
        if (key in stored.reactions) == command.on:
            return Changed(revision=0, unchanged=True)
        if command.on:
            stored.reactions[key] = None
        else:
            del stored.reactions[key]
        room.revision += 1
        room.changes.append(
            MessageReacted(
                room=room.id,
                revision=room.revision,
                seq=command.seq,
                user=command.user,
                emoji=command.emoji,
                on=command.on,
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def _mark_read(self, command: MarkRead) -> Read:
        room = self._room(command.number)
        before = room.reads.get(command.user, 0)
        seq = min(command.seq, len(room.messages))
        if seq <= before:
            return Read(seq=before, moved=False)
        room.reads[command.user] = seq
        return Read(seq=seq, moved=True)

    def _close(self, command: CloseRoom) -> bool:
        room = self._room(command.number)
        if room.closed:
            return False
        room.closed_at = self._now()
        room.strangers.clear()
        return True

    # Members

    def _away_since(self, presence: Presence) -> int | None:
        """When the user went away; members of an instance are away since its lease ended."""
        if presence.away_since is not None:
            return presence.away_since
        ends = self._leases.get(presence.instance)
        return ends if ends is not None and ends <= self._now() else None

    def _member(self, room: StoredRoom, user: str) -> Member:
        known = room.of_user(user)
        return Member(
            user=user,
            name=known[0].name,
            since=min(presence.since for presence in known),
            away=all(self._away_since(presence) is not None for presence in known),
        )

    def _members(self, room: StoredRoom) -> list[Member]:
        entered = {presence.user: presence.position for presence in room.presences.values()}
        return [self._member(room, user) for user in sorted(entered, key=entered.__getitem__)]

    def _take_over_user(self, room: StoredRoom, user: str, instance: str) -> Presence | None:
        """Move what dead instances hold of a user; None when there is none, or the user is on `instance` already."""
        now = self._now()
        dead = [
            presence
            for presence in room.of_user(user)
            if presence.instance != instance and self._leases.get(presence.instance, now + 1) <= now
        ]
        if not dead:
            return None
        away_since = max(self._away_since(presence) or now for presence in dead)
        for presence in dead:
            del room.presences[user, presence.instance]
        own = room.presences.get((user, instance))
        if own is not None:
            if own.away_since is not None:
                own.away_since = max(own.away_since, away_since)
            return None
        moved = msgspec.structs.replace(dead[0], instance=instance, away_since=away_since)
        room.presences[user, instance] = moved
        return moved


def _shown(stored: Stored) -> Message:
    reactions: dict[str, list[str]] = {}
    for emoji, user in stored.reactions:
        reactions.setdefault(emoji, []).append(user)
    return msgspec.structs.replace(stored.message, reactions=reactions or None)


def _as_of_now(event: DurableEvent, room: StoredRoom) -> DurableEvent:
    """The event as it is told later: with the message or the content as it is now."""
    changed: dict[str, Any] = {}
    if isinstance(event, MessageSent):
        changed["message"] = _shown(room.messages[event.message.seq - 1])
    elif isinstance(event, MessageEdited):
        changed["content"] = room.messages[event.seq - 1].message.content
    return msgspec.structs.replace(event, **changed)


def _shown_client_id(client_id: str | None) -> str | None:
    return None if client_id is None or client_id.startswith(AUTOMATIC_CLIENT_ID) else client_id
