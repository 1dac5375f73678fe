"""Who may not speak, as far as this instance has to know: what is stored the store refuses by itself."""

from __future__ import annotations

from collections.abc import Mapping

from catfish.rooms.ports import Store
from catfish.rooms.room import LiveRoom

ROOMS_PER_COMPARISON = 1_000


async def compare_mutes(store: Store, rooms: Mapping[int, LiveRoom]) -> None:
    """Learn who was muted, or is no more, while nobody here heard of it. Raises: StoreUnavailable."""
    numbers = list(rooms)
    for start in range(0, len(numbers), ROOMS_PER_COMPARISON):
        some = numbers[start : start + ROOMS_PER_COMPARISON]
        muted = await store.moderation.mutes(some)
        for number in some:
            live = rooms.get(number)
            if live is not None and (live.muted or number in muted):
                live.muted = muted.get(number, {})
