"""The double of `catfish.rooms.ports.Administration`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from catfish.rooms.codes import normalise_code
from catfish.rooms.model import Room, RoomKind
from catfish.rooms.ports import Administration, InstanceRecord, ListedRoom, RoomsPage
from tests.doubles.memory_rooms import MemoryRooms


class MemoryAdministration(Administration):
    """`gate` raises the fault that is due."""

    def __init__(self, rooms: MemoryRooms, gate: Callable[[], Awaitable[None]]) -> None:
        self._rooms = rooms
        self._gate = gate

    async def instances(self) -> list[InstanceRecord]:
        await self._gate()
        return self._rooms.instances.records()

    async def rooms(
        self,
        *,
        kind: RoomKind | None = None,
        name: str | None = None,
        closed: bool = False,
        below: int | None = None,
        limit: int,
    ) -> RoomsPage:
        await self._gate()
        found = [
            listed
            for listed in self._rooms.listed()
            if (kind is None or listed.record.room.kind is kind)
            and (name is None or _is_named(listed.record.room, name))
            and (closed or listed.closed_at is None)
            and (below is None or listed.record.number < below)
        ]
        return RoomsPage(rooms=found[:limit], more=len(found) > limit)

    async def find(self, name: str) -> ListedRoom | None:
        await self._gate()
        listed = self._rooms.listed()
        by_id = [each for each in listed if each.record.room.id == name]
        by_code = [each for each in listed if each.record.room.code == normalise_code(name)]
        return next(iter(by_id + by_code), None)


def _is_named(room: Room, part: str) -> bool:
    return any(part.lower() in text.lower() for text in (room.id, room.name, room.code) if text is not None)
