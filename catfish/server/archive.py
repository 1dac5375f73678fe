"""What is stored, read on behalf of anybody: sessions, and requests over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from catfish.errors import Rejected
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import RoomRecord
from catfish.rooms.model import Message, Room
from catfish.rooms.policy import Policy
from catfish.rooms.ports import Page, Store, StoreUnavailable
from catfish.server.journal import UNAVAILABLE_RETRY_MS
from catfish.server.supervisor import RoomSupervisor

T = TypeVar("T")


async def available(reading: Awaitable[T]) -> T:
    """What is read. Rejected: unavailable, when the store is."""
    try:
        return await reading
    except StoreUnavailable:
        raise Rejected("unavailable", "the database does not answer", UNAVAILABLE_RETRY_MS) from None


class Archive:
    """Rooms and messages as they are stored. Every method may be rejected as `unavailable`."""

    def __init__(self, store: Store, supervisor: RoomSupervisor, policy: Policy) -> None:
        self._store = store
        self._supervisor = supervisor
        self._policy = policy

    async def find(self, *, room: str | None = None, code: str | None = None) -> tuple[int, Room]:
        """A room and its number. Rejected: bad_request, no_such_room, no_such_code."""
        record = await self.record(room=room, code=code)
        return record.number, record.room

    async def record(self, *, room: str | None = None, code: str | None = None) -> RoomRecord:
        """All that is stored of a room; one that is hosted here costs nothing. Rejected: as `find`."""
        if room is not None:
            self._policy.room(room)
        if code is not None:
            code = normalise_code(self._policy.code(code))
        live = self._supervisor.find(room, code)
        if live is not None:
            return RoomRecord(number=live.number, room=live.view(), created_by=live.created_by, revision=live.revision)
        record = await available(self._store.room(id=room, code=code))
        if record is None:
            if room is not None:
                raise Rejected("no_such_room", f"there is no room {room!r}")
            raise Rejected("no_such_code", f"there is no room with the code {code!r}")
        return record

    async def history(
        self, number: int, *, before: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Page:
        """Messages of a room by its number; see `Store.history`."""
        limit = self._policy.settings.history_page_default if limit is None else limit
        return await available(self._store.history(number, before=before, after=after, limit=limit))

    async def record_with_history(
        self, room: str, *, before: int | None, after: int | None, limit: int
    ) -> tuple[RoomRecord, Page]:
        """`record` and `history` at the same time; who may read it is for the caller to decide. Rejected: as `find`."""
        self._policy.room(room)
        if self._supervisor.find(room) is not None:
            record = await self.record(room=room)
            return record, await self.history(record.number, before=before, after=after, limit=limit)
        found = await available(self._store.room_history(room, before=before, after=after, limit=limit))
        if found is None:
            raise Rejected("no_such_room", f"there is no room {room!r}")
        return found

    async def undeleted(
        self, number: int, *, below: int | None = None, below_id: int | None = None, limit: int
    ) -> Page:
        """Messages that were not deleted; see `Store.undeleted`."""
        return await available(self._store.undeleted(number, below=below, below_id=below_id, limit=limit))

    async def changed_since(self, number: int, seq: int) -> list[Message]:
        """Messages up to `seq` that changed after message `seq` was stored."""
        limit = self._policy.settings.history_page_max
        return await available(self._store.changed_since(number, seq, limit))
