"""What the durable commands mean, on plain dictionaries: the state behind `MemoryStore`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from catfish.errors import Rejected
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import (
    Answer,
    Away,
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
    React,
    Rematch,
    RoomRecord,
    SendMessage,
)
from catfish.rooms.model import Member, Role, RoomKind
from catfish.rooms.moderation import Invite, Mute, Remove, SetRole, Unban
from catfish.rooms.ports import Figures, ListedRoom, Taken
from catfish.store import refusals
from tests.doubles.memory_instances import Instances
from tests.doubles.memory_matching import Matching
from tests.doubles.memory_messages import Messages
from tests.doubles.memory_moderation import Moderators, check_join
from tests.doubles.memory_room import Presence, Shelf, StoredRoom


class MemoryRooms:
    """All rooms; one command at a time. `now` gives milliseconds since the epoch."""

    def __init__(self, now: Callable[[], int], room_capacity_max: int) -> None:
        self.shelf = Shelf(now)
        self._room_capacity_max = room_capacity_max
        self.messages = Messages(self.shelf)
        self.instances = Instances(now, self.shelf.leases)
        self._matching = Matching(self.shelf, self._enter, self._leave)
        self._moderators = Moderators(self.shelf, self._remove)

    # What the port asks

    def room(self, *, id: str | None = None, code: str | None = None) -> RoomRecord | None:
        room = self.shelf.by_id.get(id) if id is not None else self.shelf.by_code.get(normalise_code(code or ""))
        return None if room is None or room.closed else room.record()

    def listed(self) -> list[ListedRoom]:
        """All rooms, the newest first."""
        return [
            ListedRoom(record=room.record(), closed_at=room.closed_at) for room in reversed(self.shelf.rooms.values())
        ]

    def members(self, number: int, limit: int) -> list[Member]:
        room = self.shelf.rooms.get(number)
        return [] if room is None else self.shelf.members(room)[:limit]

    def revisions(self, numbers: Sequence[int]) -> dict[int, int]:
        rooms = [room for number in numbers if (room := self.shelf.rooms.get(number)) is not None]
        return {room.number: room.revision for room in rooms if not room.closed}

    def renew_lease(self, instance: str, lease_s: float, figures: Figures | None) -> bool:
        now = self.shelf.now()
        self.instances.renewed(instance, figures)
        held = self.shelf.leases.get(instance, now + 1) > now
        self.shelf.leases[instance] = now + int(lease_s * 1000)
        return held

    def end_lease(self, instance: str) -> None:
        for room in self.shelf.rooms.values():
            for presence in room.presences.values():
                if presence.instance == instance and presence.away_since is None:
                    presence.away_since = self.shelf.now()
        if instance in self.shelf.leases:
            self.instances.stopped(instance)
            self.shelf.leases[instance] = min(self.shelf.leases[instance], self.shelf.now())

    def take_over(self, instance: str, limit: int, stopped_only: bool) -> list[Taken]:
        taken: list[Taken] = []
        for room in self.shelf.rooms.values():
            for user in sorted(room.users()):
                if len(taken) < limit:
                    moved = self._take_over_user(room, user, instance, stopped_only)
                    if moved is not None:
                        member = self.shelf.member(room, user)
                        assert moved.away_since is not None
                        away_ms = max(self.shelf.now() - moved.away_since, 0)
                        away_since = moved.away_since
                        taken.append(Taken(record=room.record(), member=member, away_ms=away_ms, away_since=away_since))
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
                return self.messages.send(command)
            case CreateRoom():
                return self._create(command)
            case Join():
                return self._join(command)
            case Leave():
                return self._leave(command)
            case Away():
                return self._mark_away(command)
            case Match():
                return self._matching.match(command)
            case Rematch():
                return self._matching.rematch(command)
            case Edit():
                return self.messages.edit(command)
            case Delete():
                return self.messages.delete(command)
            case React():
                return self.messages.react(command)
            case MarkRead():
                return self.messages.mark_read(command)
            case CloseRoom():
                return self._close(command)
            case SetRole() | Invite() | Mute() | Remove() | Unban():
                return self._moderators.do(command)
        raise TypeError(f"not a command: {command!r}")

    def _create(self, command: CreateRoom) -> RoomRecord:
        room = self.shelf.by_id.get(command.id)
        if room is not None:
            if room.created_by != command.user or room.kind != command.kind:
                raise refusals.id_taken()
            if room.closed:
                raise refusals.room_closed()
            return room.record()
        code = None if command.code is None else normalise_code(command.code)
        if code in self.shelf.by_code:
            raise refusals.code_taken()
        room = self.shelf.open(command.id, command.kind, command.user)
        room.name, room.capacity, room.stored_access = command.name, command.capacity, command.access
        if code is not None:
            room.code = code
            self.shelf.by_code[code] = room
        return room.record()

    def _join(self, command: Join) -> Joined:
        user = command.user
        if command.room is not None:
            room = self.shelf.by_id.get(command.room)
            if room is None:
                if not command.create:
                    raise refusals.no_such_room(command.room)
                room = self.shelf.open(command.room, RoomKind.OPEN, user)
        else:
            room = self.shelf.by_code.get(normalise_code(command.code or ""))
            if room is None:
                raise refusals.no_such_code(command.code)
        if room.closed:
            if (user, command.instance) in room.presences:
                self._remove(room, [(user, command.instance)])
            raise refusals.room_closed()
        known = room.of_user(user)
        check_join(room, command, self.shelf.now(), known=bool(known))
        if not known:
            capacity = self._room_capacity_max if room.capacity is None else room.capacity
            if len(room.users()) >= capacity:
                raise refusals.room_full(capacity)
        returning = user in room.departed
        room.departed.discard(user)
        standing = room.standing(user)
        if standing.role is Role.INVITED:
            standing.role = Role.MEMBER
        member = self._enter(room, user, command.name, command.instance, command.address)
        members = self.shelf.members(room) if command.with_members else None
        return Joined(
            record=room.record(),
            member=member,
            first=not known,
            stamp=next(self.shelf.positions),
            returning=returning,
            members=members,
            muted_until=standing.muted_until if standing.muted_until > self.shelf.now() else 0,
            apart=self.shelf.apart(user),
        )

    def _enter(self, room: StoredRoom, user: str, name: str, instance: str, address: str | None = None) -> Member:
        known = room.of_user(user)
        for presence in known:
            presence.name = name
        own = room.presences.get((user, instance))
        if own is not None:
            own.away_since = None
            own.address = address
        else:
            room.presences[user, instance] = Presence(
                user=user,
                instance=instance,
                name=name,
                since=min((presence.since for presence in known), default=self.shelf.now()),
                position=known[0].position if known else next(self.shelf.positions),
                address=address,
            )
        return msgspec.structs.replace(self.shelf.member(room, user), away=False)

    def _leave(self, command: Leave) -> Left:
        room = self.shelf.rooms.get(command.number)
        if room is None:
            return Left(last=True, stamp=next(self.shelf.positions), members_count=0)
        key = command.user, command.instance
        own = room.presences.get(key)
        stays = command.away_since is not None and (
            own is None or own.away_since is None or own.away_since > command.away_since
        )
        if own is None or stays:
            last = not room.of_user(command.user)
            return Left(last=last, stamp=next(self.shelf.positions) if last else 0, members_count=len(room.users()))
        self._remove(room, [key])
        last = not room.of_user(command.user)
        return Left(last=last, stamp=next(self.shelf.positions) if last else 0, members_count=len(room.users()))

    def _remove(self, room: StoredRoom, keys: list[tuple[str, str]]) -> None:
        """Presences of one user."""
        [user] = {user for user, _ in keys}
        for key in keys:
            del room.presences[key]
        last = not room.of_user(user)
        if not room.presences:
            room.departed.clear()
        elif last and not room.is_pair:
            room.departed.add(user)
        if last and room.is_pair:
            room.strangers.pop(user, None)
            for stranger in room.strangers.values():
                stranger.place = next(self.shelf.places)
            if not room.strangers:
                room.closed_at = self.shelf.now()

    def _mark_away(self, command: Away) -> int | None:
        room = self.shelf.rooms.get(command.number)
        own = None if room is None else room.presences.get((command.user, command.instance))
        if own is None:
            return None
        if own.away_since is None:
            own.away_since = self.shelf.now()
        return own.away_since

    def _close(self, command: CloseRoom) -> bool:
        room = self.shelf.room(command.number)
        if room.closed:
            return False
        room.closed_at = self.shelf.now()
        room.strangers.clear()
        return True

    # Members

    def _take_over_user(self, room: StoredRoom, user: str, instance: str, stopped_only: bool) -> Presence | None:
        """Move what dead instances hold of a user; None when there is none, or the user is present on `instance`."""
        now = self.shelf.now()
        dead = [
            presence
            for presence in room.of_user(user)
            if presence.instance != instance
            and self.shelf.leases.get(presence.instance, now + 1) <= now
            and (not stopped_only or self.instances.has_stopped(presence.instance))
        ]
        if not dead:
            return None
        away_since = max(self.shelf.away_since(presence) or now for presence in dead)
        for presence in dead:
            del room.presences[user, presence.instance]
        own = room.presences.get((user, instance))
        if own is not None:
            if own.away_since is None:
                return None
            own.away_since = max(own.away_since, away_since)
            return own
        moved = msgspec.structs.replace(dead[0], instance=instance, away_since=away_since)
        room.presences[user, instance] = moved
        return moved
