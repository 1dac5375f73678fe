"""Who may do what, in a transaction: gathers the facts for `rooms.permissions`, and does what moderators ask for."""

from __future__ import annotations

from collections.abc import Callable

from catfish.errors import Rejected
from catfish.rooms import permissions
from catfish.rooms.commands import Delete, Join, SendMessage
from catfish.rooms.grants import Grants
from catfish.rooms.model import Role
from catfish.rooms.moderation import (
    Actor,
    Gone,
    Invite,
    ModerationCommand,
    Mute,
    Muted,
    Remove,
    Removed,
    RoleSet,
    SetRole,
    Unban,
    Unbanned,
)
from catfish.rooms.permissions import Facts, Right
from catfish.store import refusals
from catfish.store.state import NO_STANDING, Presence, Rooms, RoomState


def facts(
    room: RoomState,
    user: str,
    now: int,
    *,
    admitted: bool = True,
    grants: Grants | None = None,
    server: bool = False,
    address: str | None = None,
) -> Facts:
    """About a user who is, unless it is said otherwise, in the room or knew how to write to it."""
    standing = room.standings.get(user, NO_STANDING)
    banned_until = standing.banned_until
    role = _role(room, user)
    if address is not None and role not in (Role.OWNER, Role.MODERATOR):
        banned_until = max(banned_until, room.banned_addresses.get(address, 0))
    return Facts(
        access=room.access,
        role=role,
        admitted=admitted,
        room=room.id,
        grants=grants,
        server=server,
        banned_until=banned_until,
        muted_until=standing.muted_until,
        now=now,
    )


def _role(room: RoomState, user: str) -> Role:
    return Role.OWNER if room.created_by == user else room.standings.get(user, NO_STANDING).role


def refuse(right: Right, room: RoomState, user: str, now: int) -> Rejected | None:
    """Of somebody who is in the room; nothing when nobody is anything to it."""
    return permissions.refusal(right, facts(room, user, now)) if room.restricted else None


def refuse_join(room: RoomState, command: Join, now: int, *, known: bool) -> Rejected | None:
    admitted = known or command.code is not None
    about = facts(room, command.user, now, admitted=admitted, grants=command.grants, address=command.address)
    removed = room.standings.get(command.user, NO_STANDING).removed
    if command.restores and removed > command.restores and about.banned_until <= now:
        return refusals.kicked()
    return permissions.refusal(Right.JOIN, about)


def refuse_sending(room: RoomState, command: SendMessage, now: int) -> Rejected | None:
    about = facts(room, command.user, now, grants=command.grants, server=command.server)
    return permissions.refusal(Right.SEND, about)


def may_delete(room: RoomState, command: Delete, now: int) -> bool:
    """A message of somebody else."""
    return permissions.refusal(Right.MODERATE, facts(room, command.user, now, grants=command.grants)) is None


class Moderator:
    """Does what moderators ask for. `left` is called for a user of whom nothing is left in a room."""

    def __init__(self, rooms: Rooms, left: Callable[[RoomState, str], None]) -> None:
        self._rooms = rooms
        self._left = left

    def _room(self, right: Right, command: ModerationCommand) -> RoomState | Rejected:
        """The room, when the actor may do that to that user in it."""
        room = self._rooms.by_number.get(command.number)
        if room is None:
            return refusals.no_such_room(command.number)
        if room.closed:
            return refusals.room_closed()
        by: Actor = command.by
        about = facts(room, by.user, self._rooms.now, grants=by.grants, server=by.server)
        refused = permissions.refusal(right, about)
        if refused is not None:
            return refused
        if not by.server and by.user == command.user:
            return refusals.oneself()
        if right is not Right.INVITE and not permissions.outranks(about, _role(room, command.user)):
            return refusals.outranked()
        return room

    def set_role(self, command: SetRole) -> RoleSet | Rejected:
        stamp = next(self._rooms.positions)
        room = self._room(Right.APPOINT, command)
        if isinstance(room, Rejected):
            return room
        user, role = command.user, command.role
        if _role(room, user) is role:
            return RoleSet(role=role, changed=False)
        room.standing(user).role = role
        present = user in room.users
        stays = permissions.refusal(Right.READ, facts(room, user, self._rooms.now, admitted=present)) is None
        gone = () if stays else self._remove(room, [user], stamp)
        return RoleSet(role=role, changed=True, removed=gone)

    def invite(self, command: Invite) -> RoleSet | Rejected:
        room = self._room(Right.INVITE, command)
        if isinstance(room, Rejected):
            return room
        role = _role(room, command.user)
        if role is not Role.NONE:
            return RoleSet(role=role, changed=False)
        room.standing(command.user).role = Role.INVITED
        return RoleSet(role=Role.INVITED, changed=True)

    def mute(self, command: Mute) -> Muted | Rejected:
        room = self._room(Right.MODERATE, command)
        if isinstance(room, Rejected):
            return room
        now = self._rooms.now
        before = room.standings.get(command.user, NO_STANDING).muted_until
        until = 0 if command.duration_ms == 0 else permissions.until(now, command.duration_ms)
        if not until and before <= now:
            return Muted(until=0, changed=False)
        room.standing(command.user).muted_until = until
        return Muted(until=until, changed=until != before)

    def remove(self, command: Remove) -> Removed | Rejected:
        stamp = next(self._rooms.positions)
        room = self._room(Right.MODERATE, command)
        if isinstance(room, Rejected):
            return room
        user = command.user
        if not command.ban:
            if user not in room.users:
                return refusals.no_such_member(user)
            room.standing(user)
            return Removed(reason="kicked", removed=self._remove(room, [user], stamp))
        until = permissions.until(self._rooms.now, command.duration_ms)
        standing = room.standing(user)
        standing.banned_until = until
        standing.role = Role.NONE
        users = [user] if user in room.users else []
        if command.address:
            addresses = {each.address for each in room.users.get(user, {}).values() if each.address is not None}
            room.addresses_banned |= dict.fromkeys(addresses, (until, user))
            room.banned_addresses |= dict.fromkeys(addresses, until)
            users += [
                other
                for other, presences in room.users.items()
                if other != user and _comes_from(presences, addresses) and not _moderates(_role(room, other))
            ]
        return Removed(reason="banned", removed=self._remove(room, users, stamp), until=until)

    def unban(self, command: Unban) -> Unbanned | Rejected:
        room = self._room(Right.MODERATE, command)
        if isinstance(room, Rejected):
            return room
        room.addresses_freed.add(command.user)
        for address in [address for address, (_, user) in room.addresses_banned.items() if user == command.user]:
            del room.addresses_banned[address]
        if room.standings.get(command.user, NO_STANDING).banned_until <= self._rooms.now:
            return Unbanned(changed=False)
        room.standing(command.user).banned_until = 0
        return Unbanned(changed=True)

    def _remove(self, room: RoomState, users: list[str], stamp: int) -> tuple[Gone, ...]:
        """Whatever the users have in the room, on every instance; instances that do not hear of it learn it by
        `Standing.removed`."""
        gone: list[Gone] = []
        for user in users:
            presences = room.users.get(user)
            room.standing(user).removed = stamp
            if presences is None:
                continue
            gone.append(Gone(user=user, name=room.member(user).name, stamp=stamp))
            for presence in list(presences.values()):
                room.remove(presence)
            self._left(room, user)
        return tuple(gone)


def _comes_from(presences: dict[str, Presence], addresses: set[str]) -> bool:
    return any(presence.address in addresses for presence in presences.values())


def _moderates(role: Role) -> bool:
    return role in (Role.OWNER, Role.MODERATOR)
