"""What a request over HTTP may do in a room: the facts about it, for `rooms.permissions` to decide.

Guests have no role: nobody can say whether they are who they say.
"""

from __future__ import annotations

from catfish.auth.tokens import Identity
from catfish.rooms import permissions
from catfish.rooms.commands import RoomRecord
from catfish.rooms.model import Access as RoomAccess
from catfish.rooms.model import Role
from catfish.rooms.moderation import Actor, Moderation
from catfish.rooms.permissions import Facts, Right
from catfish.server.accounts import Accounts
from catfish.server.archive import available
from catfish.server.instance import Instance

GUEST = Actor(user="")
"""Somebody without a token."""


def acting(identity: Identity | None) -> Actor:
    """Whoever a token names, or a guest."""
    return GUEST if identity is None else Actor(user=identity.user, grants=identity.grants)


async def facts_of(moderation: Moderation, record: RoomRecord, by: Actor, *, admitted: bool = False) -> Facts:
    """What `by` is to a room, as it is stored. Rejected: unavailable."""
    room = record.room
    if by.server or not by.user:
        return Facts(room.access, admitted=admitted, room=room.id, grants=by.grants, server=by.server)
    seen = await available(moderation.seen(record.number, by.user))
    return Facts(
        room.access,
        role=Role.OWNER if record.created_by == by.user else seen.standing.role,
        admitted=admitted or seen.present,
        room=room.id,
        grants=by.grants,
        banned_until=seen.standing.banned_until,
        muted_until=seen.standing.muted_until,
        now=seen.now,
    )


class Access:
    def __init__(self, instance: Instance, accounts: Accounts) -> None:
        self._instance = instance
        self._accounts = accounts

    async def allow(self, right: Right, by: Actor, *, room: str | None = None, code: str | None = None) -> RoomRecord:
        """The room, when `by` may do that; naming its code admits where a code does.

        Rejected: bad_request, no_such_room, no_such_code, forbidden, banned, muted, unavailable.
        """
        record = await self._instance.archive.record(room=room, code=code)
        await self.check(right, by, record, admitted=code is not None)
        return record

    async def check(self, right: Right, by: Actor, record: RoomRecord, *, admitted: bool = False) -> None:
        """Rejected: forbidden, banned, muted, unavailable."""
        about = await facts_of(self._instance.store.moderation, record, by, admitted=admitted)
        if about.access is RoomAccess.PUBLIC and by.user and not by.server:
            about = about._replace(outsider=not await self._accounts.admits(record.room.id, by.user))
        permissions.check(right, about)
