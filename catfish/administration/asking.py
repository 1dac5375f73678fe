"""What operators ask of the database that the servers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from catfish.config import Settings
from catfish.errors import Rejected, StartError
from catfish.rooms.commands import CloseRoom
from catfish.rooms.model import Member, Message, RoomKind
from catfish.rooms.ports import InstanceRecord, ListedRoom, RoomsPage, StoreUnavailable
from catfish.store.database import reach_database
from catfish.store.postgres import PostgresStore

T = TypeVar("T")


class Shown(NamedTuple):
    """A room, who is in it, and what was written last."""

    room: ListedRoom
    members: list[Member]
    messages: list[Message]
    """Oldest first."""


async def ask(settings: Settings, work: Callable[[PostgresStore], Awaitable[T]]) -> T:
    """Do something with the store of these settings. Raises: StartError."""
    async with reach_database(settings) as url, PostgresStore(url, settings) as store:
        try:
            return await work(store)
        except StoreUnavailable as error:
            raise StartError(f"the database does not answer: {error}") from error


async def list_instances(settings: Settings) -> list[InstanceRecord]:
    """Those that live, and those that ended in the last day. Raises: StartError."""
    return await ask(settings, lambda store: store.administration.instances())


async def list_rooms(
    settings: Settings, *, kind: str | None, name: str | None, closed: bool, below: int | None, limit: int
) -> RoomsPage:
    """A page of rooms; see `rooms.ports.Administration`. Raises: StartError."""
    of_kind = None if kind is None else RoomKind(kind)

    async def work(store: PostgresStore) -> RoomsPage:
        return await store.administration.rooms(kind=of_kind, name=name, closed=closed, below=below, limit=limit)

    return await ask(settings, work)


async def show_room(settings: Settings, name: str, *, members: int, messages: int) -> Shown | None:
    """The room of that id or code, with so many of its members and of its newest messages. Raises: StartError."""

    async def work(store: PostgresStore) -> Shown | None:
        room = await store.administration.find(name)
        if room is None:
            return None
        number = room.record.number
        page = await store.history(number, limit=messages)
        return Shown(room, await store.members(number, members), page.messages)

    return await ask(settings, work)


async def close_room(
    settings: Settings, name: str, confirm: Callable[[ListedRoom], bool]
) -> tuple[ListedRoom | None, bool]:
    """Close the room of that id or code, when `confirm` agrees.

    Returns:
        The room, None when there is none; and whether it was closed now.

    Raises:
        StartError.
    """

    async def work(store: PostgresStore) -> tuple[ListedRoom | None, bool]:
        room = await store.administration.find(name)
        if room is None or room.closed_at is not None or not confirm(room):
            return room, False
        [answer] = await store.commit([CloseRoom(number=room.record.number)])
        if isinstance(answer, Rejected):
            raise StartError(f"the room could not be closed: {answer.message}")
        return room, answer is True

    return await ask(settings, work)
