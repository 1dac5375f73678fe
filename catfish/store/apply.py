"""What the durable commands do to the rooms that were read: no SQL, one command after the other.

A command answers, or answers its refusal; what it changed is noted in the state and written by `write`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from catfish.errors import Rejected
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import (
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
from catfish.rooms.model import Member, Message, Role, RoomKind
from catfish.rooms.moderation import Invite, Mute, Remove, SetRole, Unban
from catfish.rooms.permissions import Right
from catfish.store import discipline, refusals
from catfish.store.rows import shown_client_id
from catfish.store.state import NO_STANDING, Line, Presence, Rooms, RoomState, Stranger


class Applier:
    """Commands on the rooms of one transaction."""

    def __init__(self, rooms: Rooms, room_capacity_max: int) -> None:
        self._rooms = rooms
        self._room_capacity_max = room_capacity_max
        self.records: list[tuple[RoomRecord, RoomState]] = []
        """Records of new matched rooms, whose numbers are not known yet."""
        moderator = discipline.Moderator(rooms, self._left)
        self._handlers: dict[type[Command], Callable[[Any], Answer | Rejected]] = {
            SendMessage: self._send,
            CreateRoom: self._create,
            Join: self._join,
            Leave: self._leave,
            Away: self._mark_away,
            Match: self._match,
            Edit: self._edit,
            Delete: self._delete,
            React: self._react,
            MarkRead: self._mark_read,
            CloseRoom: self._close,
            Rematch: self._rematch,
            SetRole: moderator.set_role,
            Invite: moderator.invite,
            Mute: moderator.mute,
            Remove: moderator.remove,
            Unban: moderator.unban,
        }

    def apply(self, batch: Sequence[Command]) -> list[Answer | Rejected]:
        handlers = self._handlers
        return [handlers[type(command)](command) for command in batch]

    # Rooms and members

    def _create(self, command: CreateRoom) -> RoomRecord | Rejected:
        room = _seen(self._rooms.by_id.get(command.id), command)
        if room is None:
            return refusals.code_taken()
        if room.created_by != command.user or room.kind is not command.kind:
            return refusals.id_taken()
        if room.closed:
            return refusals.room_closed()
        return room.record()

    def _join(self, command: Join) -> Joined | Rejected:
        if command.room is not None:
            room = _seen(self._rooms.by_id.get(command.room), command)
            if room is None:
                return refusals.no_such_room(command.room)
        else:
            room = _seen(self._rooms.by_code.get(normalise_code(command.code or "")), command)
            if room is None:
                return refusals.no_such_code(command.code)
        if room.closed:
            own = room.users.get(command.user, {}).get(command.instance)
            if own is not None:
                self._remove(room, own)
            return refusals.room_closed()
        known = command.user in room.users
        standing = room.standings.get(command.user, NO_STANDING)
        refused = discipline.refuse_join(room, command, self._rooms.now, known=known)
        if refused is not None:
            return refused
        returning = False
        if not known:
            capacity = self._room_capacity_max if room.capacity is None else room.capacity
            if room.users_count >= capacity:
                return refusals.room_full(capacity)
            room.users_count += 1
            room.changed = True
            returning = room.come_back(command.user)
        if standing.role is Role.INVITED:
            room.standing(command.user).role = Role.MEMBER
        member, position = self._enter(room, command.user, command.name, command.instance, command.address)
        members = room.members() if command.with_members else None
        return Joined(
            record=room.record(),
            member=member,
            first=not known,
            stamp=position,
            returning=returning,
            members=members,
            muted_until=standing.muted_until if standing.muted_until > self._rooms.now else 0,
            apart=self._apart(command.user),
        )

    def _apart(self, user: str) -> tuple[str, ...]:
        return tuple(sorted(self._rooms.apart.get(user, ())))

    def _enter(
        self, room: RoomState, user: str, name: str, instance: str, address: str | None = None
    ) -> tuple[Member, int]:
        """The member, and a number that nobody had before in the room."""
        known = room.users.get(user, {})
        for presence in known.values():
            if presence.name != name:
                presence.name = name
                presence.changed = True
        own = known.get(instance)
        stamp = position = next(self._rooms.positions)
        if own is not None:
            own.changed |= own.away_since is not None or own.address != address
            own.away_since = None
            own.address = address
            own.dead = False
        else:
            since = self._rooms.now
            for presence in known.values():
                since, position = min(since, presence.since), min(position, presence.position)
            room.add(Presence(user, instance, name, since, position, None, address=address, stored=False))
        return room.member(user), stamp

    def _leave(self, command: Leave) -> Left:
        room = self._rooms.by_number.get(command.number)
        stamp = next(self._rooms.positions)
        if room is None:
            return Left(last=True, stamp=stamp, members_count=0)
        user = command.user
        own = room.users.get(user, {}).get(command.instance)
        if own is not None and _is_leaving(own, command.away_since):
            self._remove(room, own)
        last = user not in room.users
        return Left(last=last, stamp=stamp if last else 0, members_count=room.count())

    def _remove(self, room: RoomState, presence: Presence) -> None:
        room.remove(presence)
        if presence.user not in room.users:
            self._left(room, presence.user)

    def _left(self, room: RoomState, user: str) -> None:
        """Nothing of the user is left in the room."""
        if not room.is_pair:
            room.users_count -= 1
            room.changed = True
            room.depart(user)
            return
        if self._rooms.stranger_of.get(user) is room:
            del self._rooms.stranger_of[user]
        room.remove_stranger(user)
        for stranger in room.strangers.values():
            stranger.place = next(self._rooms.places)
            stranger.changed = True
        if not room.users and not room.closed:
            self._shut(room)

    def _mark_away(self, command: Away) -> int | None:
        room = self._rooms.by_number.get(command.number)
        own = None if room is None else room.users.get(command.user, {}).get(command.instance)
        if own is None:
            return None
        if own.away_since is None:
            own.away_since = self._rooms.now
            own.changed = True
        return own.away_since

    def _close(self, command: CloseRoom) -> bool | Rejected:
        room = self._rooms.by_number.get(command.number)
        if room is None:
            return refusals.no_such_room(command.number)
        if room.closed:
            return False
        self._shut(room)
        return True

    def _shut(self, room: RoomState) -> None:
        room.closed = room.closing = room.changed = True
        for user in list(room.strangers):
            if self._rooms.stranger_of.get(user) is room:
                del self._rooms.stranger_of[user]
            room.remove_stranger(user)

    # Matching

    def _match(self, command: Match) -> Matched:
        user = command.user
        room = self._rooms.stranger_of.get(user)
        if room is not None:
            return self._matched(room, command)
        interests = frozenset(command.interests)
        room = self._choose(user, interests, None, frozenset(command.avoid))
        if room is not None:
            self._claim(room)
            place = None
        else:
            room = RoomState(
                0, command.new_room, RoomKind.MATCHED, None, None, 2, user, self._rooms.now, False, 0, 0, 0
            )
            room.guarded = True
            self._rooms.opened.append(room)
            place = next(self._rooms.places)
        self._meet(room, user, command.pause_ms)
        room.strangers[user] = Stranger(user, interests, place, command.pause_ms, stored=False)
        self._rooms.stranger_of[user] = room
        return self._matched(room, command)

    def _rematch(self, command: Rematch) -> Matched | None:
        user, room = command.user, self._rooms.by_number.get(command.number)
        stranger = None if room is None else room.strangers.get(user)
        if room is not None and room.closed:
            return self._moved_before(command)
        if room is None or stranger is None or stranger.place is None:
            return None
        presences = room.users.get(user, {})
        own = presences.get(command.instance)
        if own is None or own.away:
            return None
        other = self._choose(user, stranger.interests, room)
        if other is None:
            return None
        for presence in list(presences.values()):
            room.remove(presence)
        self._left(room, user)
        self._claim(other)
        self._meet(other, user, stranger.pause_ms)
        other.strangers[user] = Stranger(user, stranger.interests, None, stranger.pause_ms, stored=False)
        self._rooms.stranger_of[user] = other
        member, position = self._enter(other, user, own.name, command.instance, own.address)
        [peer] = [each for each in other.users if each != user]
        return Matched(
            record=other.record(),
            member=member,
            peer=other.member(peer),
            stamp=position,
            apart=self._apart(user),
        )

    def _meet(self, room: RoomState, user: str, pause_ms: int) -> None:
        """Who comes to somebody, and that one, are not to meet again for as long as either wants."""
        for stranger in room.strangers.values():
            for one, other, pause in (user, stranger.user, pause_ms), (stranger.user, user, stranger.pause_ms):
                if pause:
                    self._rooms.met[one, other] = self._rooms.now + pause
                    self._rooms.partners.setdefault(user, set()).add(stranger.user)
                    self._rooms.partners.setdefault(stranger.user, set()).add(user)

    def _moved_before(self, command: Rematch) -> Matched | None:
        """The answer to one that was moved already, and asks again."""
        user, room = command.user, self._rooms.stranger_of.get(command.user)
        if room is None or not room.number or command.instance not in room.users.get(user, {}):
            return None
        others = [each for each in room.users if each != user]
        if not others:
            return None
        return Matched(
            record=room.record(),
            member=room.member(user),
            peer=room.member(others[0]),
            stamp=next(self._rooms.positions),
            apart=self._apart(user),
        )

    def _claim(self, room: RoomState) -> None:
        """Who waits in the room waits no more."""
        for stranger in room.strangers.values():
            if not room.guarded:
                self._rooms.claims.append((room, stranger.user))
            stranger.place = None
            stranger.changed = True

    def _choose(
        self, user: str, interests: frozenset[str], without: RoomState | None, avoid: frozenset[str] = frozenset()
    ) -> RoomState | None:
        """Where the one waits who has most in common with the user, and longest among those; None when nobody does."""
        avoid = avoid.union(self._rooms.apart.get(user, ()), self._rooms.partners.get(user, ()))
        best: tuple[int, int] | None = None
        chosen: RoomState | None = None
        for room in self._rooms.all():
            if room is without:
                continue
            for stranger in room.strangers.values():
                if stranger.place is None or stranger.user in avoid or not room.present(stranger.user):
                    continue
                rank = -len(interests & stranger.interests), stranger.place
                if best is None or rank < best:
                    best, chosen = rank, room
        return chosen

    def _matched(self, room: RoomState, command: Match) -> Matched:
        member, position = self._enter(room, command.user, command.name, command.instance)
        others = [other for other in room.users if other != command.user]
        record = room.record()
        if not room.number:
            self.records.append((record, room))
        peer = room.member(others[0]) if others else None
        return Matched(record=record, member=member, peer=peer, stamp=position, apart=self._apart(command.user))

    # Messages

    def _send(self, command: SendMessage) -> Sent | Rejected:
        rooms, number, client_id = self._rooms, command.number, command.client_id
        room = rooms.by_number.get(number)
        if room is None:
            return refusals.no_such_room(number)
        key = None
        if client_id is not None:
            key = number, command.user, client_id
            before = rooms.sent_before.get(key)
            if before is not None:
                return Sent(message=before[0], revision=before[1], repeated=True)
        if room.closed:
            return refusals.room_closed()
        if room.restricted:
            refused = discipline.refuse_sending(room, command, rooms.now)
            if refused is not None:
                return refused
        room.seq += 1
        room.revision += 1
        room.changed = True
        message = Message(
            room=room.id,
            seq=room.seq,
            id=0,
            user=command.user,
            name=command.name,
            content=command.content,
            client_id=shown_client_id(client_id),
            reply_to=command.reply_to,
            data=command.data,
            created_at=command.created_at,
        )
        if key is not None:
            rooms.sent_before[key] = message, room.revision
        room.new[room.seq] = message
        rooms.messages.append((room, message, room.revision, client_id))
        return Sent(message=message, revision=room.revision, repeated=False)

    def _line(self, number: int, seq: int) -> tuple[RoomState, Line] | Rejected:
        room = self._rooms.by_number.get(number)
        if room is not None:
            line = room.lines.get(seq)
            if line is None and seq in room.new:
                line = room.lines[seq] = Line(room.new[seq].user, False)
            if line is not None:
                return room, line
        return refusals.no_such_message(seq)

    def _edit(self, command: Edit) -> Changed | Rejected:
        found = self._line(command.number, command.seq)
        if isinstance(found, Rejected):
            return found
        room, line = found
        if line.deleted:
            return refusals.no_such_message(command.seq)
        if line.user != command.user:
            return refusals.not_your_message()
        refused = discipline.refuse(Right.SEND, room, command.user, self._rooms.now)
        if refused is not None:
            return refused
        line.content, line.edited_at, line.changed = command.content, command.at, True
        return self._changed(room, command.seq, command.at, "edited", command.user)

    def _delete(self, command: Delete) -> Changed | Rejected:
        found = self._line(command.number, command.seq)
        if isinstance(found, Rejected):
            return found
        room, line = found
        if line.user != command.user and not discipline.may_delete(room, command, self._rooms.now):
            return refusals.not_your_message()
        if line.deleted:
            return Changed(revision=0, unchanged=True)
        line.content, line.deleted_at, line.deleted, line.changed = "", command.at, True, True
        for key in [key for key in room.reactions if key[0] == command.seq]:
            del room.reactions[key]
        return self._changed(room, command.seq, command.at, "deleted", command.user)

    def _react(self, command: React) -> Changed | Rejected:
        found = self._line(command.number, command.seq)
        if isinstance(found, Rejected):
            return found
        room, line = found
        if line.deleted:
            return refusals.no_such_message(command.seq)
        refused = discipline.refuse(Right.SEND, room, command.user, self._rooms.now)
        if refused is not None:
            return refused
        key = command.seq, command.emoji, command.user
        if (room.reactions.get(key) is not None) is command.on:
            return Changed(revision=0, unchanged=True)
        kind = "reacted" if command.on else "unreacted"
        changed = self._changed(room, command.seq, command.at, kind, command.user, command.emoji)
        room.reactions[key] = changed.revision if command.on else None
        room.reacted.add(key)
        return changed

    def _changed(self, room: RoomState, seq: int, at: int, kind: str, user: str, emoji: str | None = None) -> Changed:
        room.revision += 1
        room.changed = True
        self._rooms.changes.append((room, room.revision, seq, room.seq, at, kind, user, emoji))
        return Changed(revision=room.revision, unchanged=False)

    def _mark_read(self, command: MarkRead) -> Read | Rejected:
        room = self._rooms.by_number.get(command.number)
        if room is None:
            return refusals.no_such_room(command.number)
        before = room.reads.get(command.user, 0)
        seq = min(command.seq, room.seq)
        if seq <= before:
            return Read(seq=before, moved=False)
        room.reads[command.user] = seq
        room.reads_moved.add(command.user)
        return Read(seq=seq, moved=True)


def _is_leaving(own: Presence, away_since: int | None) -> bool:
    """Whether a user leaves who does so of its own will, or because of an absence."""
    return away_since is None or (own.away_since is not None and own.away_since <= away_since)


def _seen(room: RoomState | None, command: Command) -> RoomState | None:
    """The room, unless a command that comes later in the batch makes it."""
    if room is None or room.opener is None:
        return room
    if room.opener is not command:
        return None
    room.opener = None
    return room
