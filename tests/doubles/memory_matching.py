"""Matching in the double of the store."""

from __future__ import annotations

from collections.abc import Callable

from catfish.errors import Rejected
from catfish.rooms.commands import Leave, Left, Match, Matched, Rematch
from catfish.rooms.model import Member, RoomKind
from tests.doubles.memory_room import Shelf, StoredRoom, Stranger


class Matching:
    def __init__(self, shelf: Shelf, enter: Callable[..., Member], leave: Callable[[Leave], Left]) -> None:
        self._shelf = shelf
        self._enter = enter
        self._leave = leave

    def match(self, command: Match) -> Matched:
        user = command.user
        for room in self._shelf.rooms.values():
            if user in room.strangers:
                return self._matched(room, command)
        chosen = self._choose(user, frozenset(command.interests), None, frozenset(command.avoid))
        if chosen is not None:
            room, place = chosen, None
        else:
            if command.new_room in self._shelf.by_id:
                raise Rejected("bad_request", "another room has that id")
            room = self._shelf.open(command.new_room, RoomKind.MATCHED, user)
            room.capacity = 2
            place = next(self._shelf.places)
        self._meet(room, user, command.pause_ms)
        room.strangers[user] = Stranger(
            user=user, interests=frozenset(command.interests), place=place, pause_ms=command.pause_ms
        )
        return self._matched(room, command)

    def _meet(self, room: StoredRoom, user: str, pause_ms: int) -> None:
        for other in room.strangers.values():
            for one, two, pause in (user, other.user, pause_ms), (other.user, user, other.pause_ms):
                if pause:
                    self._shelf.met[one, two] = self._shelf.now() + pause

    def _unwanted(self, user: str) -> set[str]:
        """Whom the user does not meet now."""
        now = self._shelf.now()
        met = [pair for pair, until in self._shelf.met.items() if user in pair and until > now]
        return {*self._shelf.apart(user), *(other for pair in met for other in pair if other != user)}

    def _choose(
        self, user: str, interests: frozenset[str], without: StoredRoom | None, avoid: frozenset[str] = frozenset()
    ) -> StoredRoom | None:
        """Where the best one waits, who then waits no more."""
        avoid = avoid | self._unwanted(user)
        waiting = [
            (len(stranger.interests & interests), -stranger.place, room)
            for room in self._shelf.rooms.values()
            for stranger in room.strangers.values()
            if room is not without
            and stranger.place is not None
            and stranger.user not in avoid
            and not self._shelf.member(room, stranger.user).away
        ]
        if not waiting:
            return None
        _, _, chosen = max(waiting, key=lambda found: found[:2])
        for stranger in chosen.strangers.values():
            stranger.place = None
        return chosen

    def rematch(self, command: Rematch) -> Matched | None:
        user, room = command.user, self._shelf.rooms.get(command.number)
        stranger = None if room is None else room.strangers.get(user)
        if room is not None and room.closed:
            return self._moved_before(command)
        if room is None or stranger is None or stranger.place is None:
            return None
        own = room.presences.get((user, command.instance))
        if own is None or self._shelf.away_since(own) is not None:
            return None
        other = self._choose(user, stranger.interests, room)
        if other is None:
            return None
        for presence in room.of_user(user):
            self._leave(Leave(number=room.number, user=user, instance=presence.instance))
        self._meet(other, user, stranger.pause_ms)
        other.strangers[user] = Stranger(
            user=user, interests=stranger.interests, place=None, pause_ms=stranger.pause_ms
        )
        member = self._enter(other, user, own.name, command.instance, own.address)
        [peer] = [each for each in self._shelf.members(other) if each.user != user]
        return self._answer(other, member, peer)

    def _moved_before(self, command: Rematch) -> Matched | None:
        """The answer to one that was moved already, and asks again."""
        for room in self._shelf.rooms.values():
            others = room.users() - {command.user}
            if command.user in room.strangers and (command.user, command.instance) in room.presences and others:
                members = self._shelf.member(room, command.user), self._shelf.member(room, others.pop())
                return self._answer(room, *members)
        return None

    def _matched(self, room: StoredRoom, command: Match) -> Matched:
        member = self._enter(room, command.user, command.name, command.instance)
        others = [other for other in self._shelf.members(room) if other.user != command.user]
        peer = others[0] if others else None
        return self._answer(room, member, peer)

    def _answer(self, room: StoredRoom, member: Member, peer: Member | None) -> Matched:
        stamp, apart = next(self._shelf.positions), self._shelf.apart(member.user)
        return Matched(record=room.record(), member=member, peer=peer, stamp=stamp, apart=apart)
