"""Who may do what, in the double of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from catfish.rooms import moderation as ports
from catfish.rooms import permissions
from catfish.rooms.commands import Join, Moderated
from catfish.rooms.model import Role
from catfish.rooms.moderation import (
    Gone,
    Invite,
    ModerationCommand,
    Mute,
    Muted,
    NewReport,
    Removal,
    Remove,
    Removed,
    Report,
    ReportsPage,
    RoleSet,
    Seen,
    SetRole,
    StandingsPage,
    Unban,
    Unbanned,
)
from catfish.rooms.permissions import Facts, Right
from catfish.store import refusals
from tests.doubles.memory_room import Shelf, Standing, StoredRoom, shown


def facts(room: StoredRoom, user: str, now: int, address: str | None = None, **known: Any) -> Facts:
    """About somebody who is in the room, unless `admitted` says otherwise."""
    standing, role = room.standing(user), room.role(user)
    banned_until = standing.banned_until
    if address in room.banned_addresses and role not in (Role.OWNER, Role.MODERATOR):
        banned_until = max(banned_until, room.banned_addresses[address][0])
    given = {"admitted": True, "banned_until": banned_until, "muted_until": standing.muted_until, **known}
    return Facts(room.access, role, room=room.id, now=now, **given)


def check(right: Right, room: StoredRoom, user: str, now: int, **known: Any) -> None:
    """Whoever writes; where nobody is anything to a room, whoever knows it may write to it. Raises: Rejected."""
    if room.standings or room.stored_access is not None:
        permissions.check(right, facts(room, user, now, **known))


def may(right: Right, room: StoredRoom, user: str, now: int, **known: Any) -> bool:
    return permissions.refusal(right, facts(room, user, now, **known)) is None


def check_join(room: StoredRoom, command: Join, now: int, *, known: bool) -> None:
    admitted = known or command.code is not None
    about = facts(room, command.user, now, command.address, admitted=admitted, grants=command.grants)
    if command.restores and room.standing(command.user).removed > command.restores and about.banned_until <= now:
        raise refusals.kicked()
    permissions.check(Right.JOIN, about)


class Moderators:
    """`remove` takes presences of one user out of a room."""

    def __init__(self, shelf: Shelf, remove: Callable[[StoredRoom, list[tuple[str, str]]], None]) -> None:
        self._shelf = shelf
        self._take_out = remove

    def do(self, command: ModerationCommand) -> Moderated:
        match command:
            case SetRole():
                return self._set_role(command, self._room(Right.APPOINT, command))
            case Invite():
                return self._invite(command, self._room(Right.INVITE, command))
            case Mute():
                return self._mute(command, self._room(Right.MODERATE, command))
            case Remove():
                return self._remove(command, self._room(Right.MODERATE, command))
            case Unban():
                return self._unban(command, self._room(Right.MODERATE, command))

    def _room(self, right: Right, command: ModerationCommand) -> StoredRoom:
        room = self._shelf.room(command.number)
        if room.closed:
            raise refusals.room_closed()
        by = command.by
        about = facts(room, by.user, self._shelf.now(), grants=by.grants, server=by.server)
        permissions.check(right, about)
        if by.user == command.user and not by.server:
            raise refusals.oneself()
        if right is not Right.INVITE and not permissions.outranks(about, room.role(command.user)):
            raise refusals.outranked()
        return room

    def _standing(self, room: StoredRoom, user: str) -> Standing:
        return room.standings.setdefault(user, Standing())

    def _set_role(self, command: SetRole, room: StoredRoom) -> RoleSet:
        user, role = command.user, command.role
        if room.role(user) is role:
            return RoleSet(role=role, changed=False)
        self._standing(room, user).role = role
        if may(Right.READ, room, user, self._shelf.now(), admitted=user in room.users()):
            return RoleSet(role=role, changed=True)
        return RoleSet(role=role, changed=True, removed=self._leave(room, [user]))

    def _invite(self, command: Invite, room: StoredRoom) -> RoleSet:
        role = room.role(command.user)
        if role is not Role.NONE:
            return RoleSet(role=role, changed=False)
        self._standing(room, command.user).role = Role.INVITED
        return RoleSet(role=Role.INVITED, changed=True)

    def _mute(self, command: Mute, room: StoredRoom) -> Muted:
        now = self._shelf.now()
        before = room.standing(command.user).muted_until
        if command.duration_ms == 0:
            if before <= now:
                return Muted(until=0, changed=False)
            until = 0
        else:
            until = permissions.until(now, command.duration_ms)
        self._standing(room, command.user).muted_until = until
        return Muted(until=until, changed=until != before)

    def _remove(self, command: Remove, room: StoredRoom) -> Removed:
        user = command.user
        if not command.ban:
            if user not in room.users():
                raise refusals.no_such_member(user)
            return Removed(reason="kicked", removed=self._leave(room, [user]))
        until = permissions.until(self._shelf.now(), command.duration_ms)
        standing = self._standing(room, user)
        standing.banned_until, standing.role = until, Role.NONE
        users = [user] if user in room.users() else []
        if command.address:
            addresses = {each.address for each in room.of_user(user) if each.address is not None}
            for address in addresses:
                room.banned_addresses[address] = until, user
            for member in room.presences.values():
                moderates = room.role(member.user) in (Role.OWNER, Role.MODERATOR)
                if member.address in addresses and member.user not in users and not moderates:
                    users.append(member.user)
        return Removed(reason="banned", removed=self._leave(room, users), until=until)

    def _unban(self, command: Unban, room: StoredRoom) -> Unbanned:
        for address, (_, user) in list(room.banned_addresses.items()):
            if user == command.user:
                del room.banned_addresses[address]
        if room.standing(command.user).banned_until <= self._shelf.now():
            return Unbanned(changed=False)
        self._standing(room, command.user).banned_until = 0
        return Unbanned(changed=True)

    def _leave(self, room: StoredRoom, users: list[str]) -> tuple[Gone, ...]:
        stamp = next(self._shelf.positions)
        gone = []
        for user in users:
            self._standing(room, user).removed = stamp
            keys = [key for key in room.presences if key[0] == user]
            if keys:
                gone.append(Gone(user=user, name=self._shelf.member(room, user).name, stamp=stamp))
                self._take_out(room, keys)
        return tuple(gone)


class MemoryModeration(ports.Moderation):
    """The double of the port; `gate` raises the fault that is due."""

    def __init__(self, shelf: Shelf, gate: Callable[[], Awaitable[None]]) -> None:
        self._shelf = shelf
        self._gate = gate
        self._reports: list[Report] = []

    async def seen(self, number: int, user: str) -> Seen:
        await self._gate()
        room = self._shelf.rooms.get(number)
        if room is None:
            return Seen(standing=ports.Standing(user=user), present=False, now=self._shelf.now())
        return Seen(standing=_told(user, room.standing(user)), present=bool(room.of_user(user)), now=self._shelf.now())

    async def standings(self, number: int, after: str, limit: int) -> StandingsPage:
        await self._gate()
        now = self._shelf.now()
        room = self._shelf.rooms.get(number)
        found = [] if room is None else [
            _told(user, standing, now) for user, standing in sorted(room.standings.items()) if user > after
        ]  # fmt: skip
        found = [each for each in found if each.role is not Role.NONE or each.muted_until or each.banned_until]
        return StandingsPage(standings=found[:limit], more=len(found) > limit)

    async def mutes(self, numbers: Sequence[int]) -> dict[int, dict[str, int]]:
        await self._gate()
        now, found = self._shelf.now(), {}
        for number in numbers:
            room = self._shelf.rooms.get(number)
            muted = {} if room is None else {
                user: standing.muted_until for user, standing in room.standings.items() if standing.muted_until > now
            }  # fmt: skip
            if muted:
                found[number] = muted
        return found

    async def removals(self, numbers: Sequence[int], after: int) -> list[Removal]:
        await self._gate()
        now = self._shelf.now()
        return [
            Removal(
                number=number,
                user=user,
                stamp=standing.removed,
                reason="banned" if standing.banned_until > now else "kicked",
            )
            for number in numbers
            if number in self._shelf.rooms
            for user, standing in self._shelf.rooms[number].standings.items()
            if standing.removed > after
        ]

    async def block(self, user: str, other: str, on: bool) -> bool:
        await self._gate()
        changed = ((user, other) in self._shelf.blocks) is not on
        if on:
            self._shelf.blocks[user, other] = None
        else:
            self._shelf.blocks.pop((user, other), None)
        return changed

    async def blocked(self, user: str, limit: int) -> list[str]:
        await self._gate()
        return sorted(other for one, other in self._shelf.blocks if one == user)[:limit]

    async def apart(self, users: Sequence[str]) -> dict[str, set[str]]:
        await self._gate()
        return {user: set(apart) for user in users if (apart := self._shelf.apart(user))}

    async def report(self, report: NewReport, messages: int) -> int:
        await self._gate()
        room = self._shelf.rooms[report.number]
        upto = len(room.messages) if report.seq is None else report.seq
        found = [shown(each) for each in room.messages[:upto]]
        given = msgspec.structs.asdict(report)
        id = len(self._reports) + 1
        self._reports.append(
            Report(id=id, at=self._shelf.now(), messages=found[max(len(found) - messages, 0) :], **given)
        )
        return id

    async def reports(self, *, below: int | None, limit: int, handled: bool) -> ReportsPage:
        await self._gate()
        found = [
            report
            for report in reversed(self._reports)
            if (below is None or report.id < below) and (handled or report.handled_at is None)
        ]
        return ReportsPage(reports=found[:limit], more=len(found) > limit)

    async def handle(self, id: int) -> bool:
        await self._gate()
        if not 1 <= id <= len(self._reports):
            return False
        report = self._reports[id - 1]
        report.handled_at = report.handled_at or self._shelf.now()
        return True


def _told(user: str, standing: Standing, now: int = 0) -> ports.Standing:
    return ports.Standing(
        user=user,
        role=standing.role,
        muted_until=standing.muted_until if standing.muted_until > now else 0,
        banned_until=standing.banned_until if standing.banned_until > now else 0,
    )
