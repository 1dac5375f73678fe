"""What somebody does about others, in a session or over HTTP: it is stored, and then those are told whom it concerns.

Whether it is allowed is decided in the store's transaction. Who is removed is so on every instance: those that hear of
it through the mirror do it at once; the others learn it when they compare their rooms with the store, which tells them
then that the user was removed (`rooms.commands.Join.restores`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from catfish.contracts.interface import Moderating
from catfish.rooms import permissions
from catfish.rooms.commands import RoomRecord
from catfish.rooms.events import Invited, MemberLeft, MemberMuted, RoleChanged, UsersApart
from catfish.rooms.model import Role
from catfish.rooms.moderation import (
    Actor,
    Gone,
    Invite,
    Mute,
    Muted,
    NewReport,
    RemovalReason,
    Remove,
    Removed,
    RoleSet,
    SetRole,
    Unban,
    Unbanned,
)
from catfish.rooms.permissions import Right
from catfish.rooms.policy import bad_request
from catfish.server.access import facts_of
from catfish.server.archive import available

if TYPE_CHECKING:
    from catfish.server.instance import Instance

REASON_CHARS_MAX: Final = 1_000
"""Of a report."""
DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
BLOCKED_LISTED_MAX: Final = 10_000


class Desk(Moderating):
    """Of one who moderates."""

    def __init__(self, instance: Instance, by: Actor) -> None:
        self._instance = instance
        self._by = by

    async def set_role(self, room: str, user: str, role: Role) -> Role:
        if role not in (Role.MODERATOR, Role.MEMBER, Role.NONE):
            raise bad_request("role", f"is {role.value}; moderator, member and none are given")
        record = await self._room(room, user)

        def done(answer: RoleSet) -> Role:
            if answer.changed:
                self._tell_role(record, user, answer.role)
            self._tell_gone(record, answer.removed, "kicked")
            return answer.role

        command = SetRole(number=record.number, by=self._by, user=user, role=role)
        return await self._instance.journal.perform(command, done)

    async def invite(self, room: str, user: str) -> Role:
        record = await self._room(room, user)

        def done(answer: RoleSet) -> Role:
            if answer.changed:
                self._tell_role(record, user, answer.role)
                self._instance.order(Invited(room=record.room.id, user=user, by=self._by.user))
            return answer.role

        return await self._instance.journal.perform(Invite(number=record.number, by=self._by, user=user), done)

    async def mute(self, room: str, user: str, duration_ms: int | None) -> int:
        record = await self._room(room, user)
        _check_duration(duration_ms, 0)

        def done(answer: Muted) -> int:
            if answer.changed:
                live = self._instance.supervisor.get(record.number)
                if live is not None:
                    live.mute(user, answer.until)
                event = MemberMuted(room=record.room.id, user=user, until=answer.until)
                self._instance.supervisor.tell_room(record.number, event)
            return answer.until

        command = Mute(number=record.number, by=self._by, user=user, duration_ms=duration_ms)
        return await self._instance.journal.perform(command, done)

    async def kick(self, room: str, user: str) -> None:
        await self._remove(room, user)

    async def ban(self, room: str, user: str, duration_ms: int | None, *, address: bool) -> int:
        _check_duration(duration_ms, 1)
        return await self._remove(room, user, ban=True, duration_ms=duration_ms, address=address)

    async def _remove(
        self, room: str, user: str, *, ban: bool = False, duration_ms: int | None = None, address: bool = False
    ) -> int:
        record = await self._room(room, user)

        def done(answer: Removed) -> int:
            self._tell_gone(record, answer.removed, answer.reason)
            return answer.until

        command = Remove(
            number=record.number, by=self._by, user=user, ban=ban, duration_ms=duration_ms, address=address
        )
        return await self._instance.journal.perform(command, done)

    async def unban(self, room: str, user: str) -> bool:
        record = await self._room(room, user)
        command = Unban(number=record.number, by=self._by, user=user)

        def done(answer: Unbanned) -> bool:
            return answer.changed

        return await self._instance.journal.perform(command, done)

    async def report(self, room: str, user: str | None, seq: int | None, reason: str) -> int:
        instance, policy = self._instance, self._instance.policy
        if user is not None:
            policy.user(user)
        if seq is not None:
            policy.seq("seq", seq)
        if len(reason) > REASON_CHARS_MAX:
            raise bad_request("reason", f"has {len(reason)} characters, at most {REASON_CHARS_MAX} are allowed")
        policy.content(reason, "reason")
        record = await instance.archive.record(room=room)
        permissions.check(Right.REPORT, await facts_of(instance.store.moderation, record, self._by))
        new = NewReport(number=record.number, room=record.room.id, by=self._by.user, user=user, seq=seq, reason=reason)
        return await available(instance.store.moderation.report(new, policy.settings.report_messages))

    async def block(self, user: str, on: bool) -> bool:
        by = self._by.user
        self._instance.policy.user(user)
        if user == by:
            raise bad_request("user", "must not be oneself")
        moderation = self._instance.store.moderation
        changed = await available(moderation.block(by, user, on))
        apart = await available(moderation.apart([by]))
        self._instance.order(UsersApart(room="", user=by, other=user, on=user in apart.get(by, ())))
        return changed

    async def blocked(self) -> list[str]:
        return await available(self._instance.store.moderation.blocked(self._by.user, BLOCKED_LISTED_MAX))

    async def _room(self, room: str, user: str) -> RoomRecord:
        self._instance.policy.user(user)
        return await self._instance.archive.record(room=room)

    def _tell_role(self, record: RoomRecord, user: str, role: Role) -> None:
        event = RoleChanged(room=record.room.id, user=user, role=role)
        self._instance.supervisor.tell_room(record.number, event)

    def _tell_gone(self, record: RoomRecord, removed: Iterable[Gone], reason: RemovalReason) -> None:
        for gone in removed:
            event = MemberLeft(
                room=record.room.id, user=gone.user, user_name=gone.name, stamp=gone.stamp, reason=reason
            )
            self._instance.supervisor.tell_left(record.number, event)


def _check_duration(duration_ms: int | None, least: int) -> None:
    if duration_ms is not None and not least <= duration_ms <= DURATION_MS_MAX:
        raise bad_request("durationMs", f"is {duration_ms}, from {least} to {DURATION_MS_MAX} are allowed")
