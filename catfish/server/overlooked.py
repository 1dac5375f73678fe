"""What moderators did while nobody here heard of it: there is no mirror, or it was away, or lost it. The store refuses
by itself what is to be stored; here it is about those who still listen, and about what is not stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catfish.rooms.events import MemberLeft
from catfish.rooms.ports import Store
from catfish.rooms.room import LiveRoom

ROOMS_PER_COMPARISON = 1_000
LATE = 10_000
"""By how many stamps a removal may be older than one that was committed before it."""


class Overlooked:
    """Looks after the rooms of one instance; `hear_removed` as of its supervisor."""

    def __init__(
        self, store: Store, rooms: Mapping[int, LiveRoom], hear_removed: Callable[[LiveRoom, MemberLeft], None]
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._hear_removed = hear_removed
        self._newest = 0

    async def find(self) -> None:
        """Learn who was removed, or muted, or may speak again. Raises: StoreUnavailable."""
        numbers = list(self._rooms)
        after = max(0, self._newest - LATE)
        for start in range(0, len(numbers), ROOMS_PER_COMPARISON):
            some = numbers[start : start + ROOMS_PER_COMPARISON]
            muted = await self._store.moderation.mutes(some)
            for number in some:
                live = self._rooms.get(number)
                if live is not None and (live.muted or number in muted):
                    live.muted = muted.get(number, {})
            for removal in await self._store.moderation.removals(some, after):
                self._newest = max(self._newest, removal.stamp)
                live = self._rooms.get(removal.number)
                presence = None if live is None else live.members.get(removal.user)
                if live is not None and presence is not None and 0 < presence.stamp < removal.stamp:
                    name = presence.member.name
                    event = MemberLeft(
                        room=live.id, user=removal.user, user_name=name, stamp=removal.stamp, reason=removal.reason
                    )
                    self._hear_removed(live, event)
