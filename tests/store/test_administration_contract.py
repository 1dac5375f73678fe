"""What operators ask: the double and Postgres answer the same."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from catfish.rooms.commands import CloseRoom, RoomRecord
from catfish.rooms.model import RoomKind
from catfish.rooms.ports import Figures, RoomsPage
from tests.store.commands import create, join, match, perform

FIGURES = Figures(version="1.0", host="box", pid=7, connections=3, rooms=2, journal_waiting=1, mirror="ok")


async def test_an_instance_tells_its_figures_with_its_lease(store: Any) -> None:
    await store.renew_lease("i1", 60, FIGURES)
    await store.renew_lease("i2", 60)
    await store.renew_lease("i1", 60)
    first, second = await store.administration.instances()
    assert (first.id, first.state, first.figures) == ("i1", "alive", FIGURES)
    assert (second.id, second.state, second.figures) == ("i2", "alive", None)
    assert first.started_at <= second.started_at
    assert 50_000 < first.lease_left_ms <= 60_000


async def test_who_stopped_and_who_died_are_told_apart(store: Any) -> None:
    await store.renew_lease("i1", 60, FIGURES)
    await store.renew_lease("i2", 0.001, FIGURES)
    await store.end_lease("i1")
    await trio.sleep(0.01)
    assert [each.state for each in await store.administration.instances()] == ["stopped", "dead"]
    assert all(each.lease_left_ms <= 0 for each in await store.administration.instances())
    await store.renew_lease("i1", 60)
    assert [each.state for each in await store.administration.instances()] == ["alive", "dead"]


def ids(page: RoomsPage) -> list[str]:
    return [listed.record.room.id for listed in page.rooms]


@pytest.fixture
async def rooms(store: Any) -> dict[str, int]:
    """Numbers of some rooms by their ids, the oldest first."""
    numbers = {}
    for command in (
        create("lobby"),
        create("den", kind=RoomKind.PRIVATE, name="The Den", code="abc234"),
        create("hall", name="Great Hall"),
    ):
        record = await perform(store, command, RoomRecord)
        numbers[command.id] = record.number
    return numbers


async def test_rooms_come_in_pages_the_newest_first(store: Any, rooms: dict[str, int]) -> None:
    page = await store.administration.rooms(limit=2)
    assert (ids(page), page.more) == (["hall", "den"], True)
    page = await store.administration.rooms(limit=2, below=rooms["den"])
    assert (ids(page), page.more) == (["lobby"], False)


async def test_rooms_are_filtered_by_kind_and_by_a_part_of_their_names(store: Any, rooms: dict[str, int]) -> None:
    list_rooms = store.administration.rooms
    assert ids(await list_rooms(limit=9, kind=RoomKind.OPEN)) == ["hall", "lobby"]
    assert ids(await list_rooms(limit=9, name="DEN")) == ["den"]
    assert ids(await list_rooms(limit=9, name="great")) == ["hall"]
    assert ids(await list_rooms(limit=9, name="C23")) == ["den"]
    assert ids(await list_rooms(limit=9, name="%")) == []
    assert ids(await list_rooms(limit=9, name="\ud800")) == []
    assert ids(await list_rooms(limit=9, kind=RoomKind.MATCHED)) == []


async def test_closed_rooms_are_listed_when_asked_for(store: Any, rooms: dict[str, int]) -> None:
    await store.commit([CloseRoom(number=rooms["den"])])
    assert ids(await store.administration.rooms(limit=9)) == ["hall", "lobby"]
    page = await store.administration.rooms(limit=9, closed=True)
    assert ids(page) == ["hall", "den", "lobby"]
    assert [listed.closed_at is None for listed in page.rooms] == [True, False, True]


async def test_a_room_is_found_by_its_id_or_its_code_also_when_closed(store: Any, rooms: dict[str, int]) -> None:
    await store.commit([CloseRoom(number=rooms["den"]), join("lobby", "ada")])
    find = store.administration.find
    by_id, by_code = await find("den"), await find("ABC234")
    assert by_id.record.number == by_code.record.number == rooms["den"]
    assert by_id.closed_at is not None
    assert (await find("lobby")).record.room.members_count == 1
    assert await find("nowhere") is None
    assert await find("\0") is None


async def test_an_id_goes_before_a_code(store: Any, rooms: dict[str, int]) -> None:
    record = await perform(store, create("abc234"), RoomRecord)
    assert (await store.administration.find("abc234")).record.number == record.number


async def test_members_of_matched_rooms_are_counted(store: Any) -> None:
    await store.commit([match("ann"), match("bob")])
    [listed] = (await store.administration.rooms(limit=9, kind=RoomKind.MATCHED)).rooms
    assert listed.record.room.members_count == 2
