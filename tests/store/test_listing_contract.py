"""Pages without deleted messages, below a sequence number or an id: what both stores promise."""

from __future__ import annotations

import pytest

from catfish.rooms.commands import Sent
from catfish.rooms.model import Message
from catfish.rooms.ports import Store
from tests.store.commands import delete, make_room, send

MESSAGES = 23


async def filled(store: Store) -> tuple[int, list[Message]]:
    """A room whose messages alternate with another's, so that ids are not sequence numbers; every fourth is deleted."""
    number, other = await make_room(store, "lobby"), await make_room(store, "other")
    answers = [await store.commit([send(other), send(number), send(other)]) for _ in range(MESSAGES)]
    messages = [answer[1].message for answer in answers if isinstance(answer[1], Sent)]
    await store.commit([delete(number, seq) for seq in range(4, MESSAGES + 1, 4)])
    return number, messages


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


async def test_pages_hold_as_many_as_they_should_whatever_was_deleted(store: Store) -> None:
    number, messages = await filled(store)
    left = [message.seq for message in messages if message.seq % 4]
    page = await store.undeleted(number, limit=5)
    assert (seqs(page.messages), page.more) == (left[-5:], True)
    page = await store.undeleted(number, below=page.messages[0].seq, limit=100)
    assert (seqs(page.messages), page.more) == (left[:-5], False)
    assert (await store.undeleted(number, below=1, limit=5)).messages == []
    page = await store.undeleted(number, limit=0)
    assert (page.messages, page.more) == ([], True)


@pytest.mark.parametrize("shift", [-1, 0, 1])
async def test_below_an_id_are_the_messages_that_were_stored_before(store: Store, shift: int) -> None:
    number, messages = await filled(store)
    for message in messages:
        below = message.id + shift
        page = await store.undeleted(number, below_id=below, limit=100)
        assert seqs(page.messages) == [each.seq for each in messages if each.seq % 4 and each.id < below]


async def test_ids_that_no_message_has_are_places_too(store: Store) -> None:
    number, messages = await filled(store)
    left = [message.seq for message in messages if message.seq % 4]
    assert (await store.undeleted(number, below_id=-(2**63), limit=100)).messages == []
    assert seqs((await store.undeleted(number, below_id=2**63 - 1, limit=100)).messages) == left
    assert (await store.undeleted(987_654_321, below_id=5, limit=100)).messages == []
    empty = await make_room(store, "empty")
    assert (await store.undeleted(empty, below_id=5, limit=100)).messages == []
