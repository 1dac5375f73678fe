"""The journal: order, batches, bounds, and a store that goes away."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.commands import CreateRoom, RoomRecord, SendMessage, Sent
from catfish.rooms.model import RoomKind
from catfish.server.journal import Journal
from tests.doubles.memory_store import MemoryStore


def send(number: int, text: str, *, user: str = "ann") -> SendMessage:
    return SendMessage(
        number=number,
        room="r",
        user=user,
        name=user,
        content=text,
        client_id=f"{user}-{text}",
        reply_to=None,
        data=None,
        created_at=1,
    )


class Desk:
    """A journal at work, with one room to write to."""

    def __init__(self, **settings: Any) -> None:
        self.store = MemoryStore()
        self.recovered = 0
        self.journal = Journal(self.store, Settings(**settings), self._on_recovered)
        self.answers: list[Any] = []
        self.number = 0

    def _on_recovered(self) -> None:
        self.recovered += 1

    async def open_room(self) -> None:
        command = CreateRoom(id="r", kind=RoomKind.OPEN, code=None, name=None, capacity=None, user="ann")
        [record] = await self.store.commit([command])
        assert isinstance(record, RoomRecord)
        self.number = record.number
        self.store.batches.clear()

    def submit(self, text: str) -> None:
        self.journal.submit(send(self.number, text), self.answers.append)

    def seqs(self) -> list[int]:
        return [answer.message.seq for answer in self.answers if isinstance(answer, Sent)]


@pytest.fixture
async def desk(nursery: trio.Nursery) -> Desk:
    desk = Desk()
    await desk.open_room()
    await nursery.start(desk.journal.run)
    return desk


async def test_commands_are_answered_in_order_and_batches_form_while_one_commits(desk: Desk) -> None:
    desk.store.hold()
    desk.submit("0")
    await wait_all_tasks_blocked()
    for index in range(1, 1200):
        desk.submit(str(index))
    desk.store.release()
    await desk.journal.flush()
    assert desk.seqs() == list(range(1, 1201))
    assert desk.store.batches == [1, 500, 500, 199]
    statistics = desk.journal.statistics()
    assert (statistics.waiting, statistics.waiting_bytes, statistics.committed) == (0, 0, 1200)


async def test_nothing_is_answered_before_it_is_committed(desk: Desk) -> None:
    desk.store.hold()
    desk.submit("a")
    await wait_all_tasks_blocked()
    assert desk.answers == []
    desk.store.release()
    await wait_all_tasks_blocked()
    assert desk.seqs() == [1]


async def test_a_full_queue_refuses_and_keeps_what_it_accepted(nursery: trio.Nursery) -> None:
    desk = Desk(journal_items_max=3)
    await desk.open_room()
    desk.store.hold()
    for text in "abc":
        desk.submit(text)
    with pytest.raises(Rejected) as refusal:
        desk.submit("d")
    assert (refusal.value.code, refusal.value.retry_after_ms) == ("busy", 1000)
    await nursery.start(desk.journal.run)
    desk.store.release()
    await desk.journal.flush()
    assert desk.seqs() == [1, 2, 3]
    desk.submit("e")
    await desk.journal.flush()
    assert desk.seqs() == [1, 2, 3, 4]


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    desk = Desk(journal_bytes_max=2000)
    await desk.open_room()
    desk.submit("x" * 1500)
    with pytest.raises(Rejected, match="too much is waiting"):
        desk.submit("y" * 1500)
    assert desk.journal.statistics().refused_busy == 1


async def test_an_outage_shorter_than_the_limit_is_not_noticed_by_senders(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.store.away = True
    for text in "abc":
        desk.submit(text)
    await trio.sleep(5)
    assert desk.answers == []
    assert desk.journal.statistics().away
    desk.store.away = False
    await desk.journal.flush()
    assert desk.seqs() == [1, 2, 3]
    assert desk.recovered == 1


async def test_an_outage_longer_than_the_limit_refuses_what_waited_too_long_as_retryable(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.store.away = True
    desk.submit("old")
    await trio.sleep(10)
    desk.submit("young")
    await trio.sleep(7)
    [refusal] = desk.answers
    assert (refusal.code, refusal.retry_after_ms) == ("unavailable", 2000)
    desk.store.away = False
    await desk.journal.flush()
    assert desk.seqs() == [1]


async def test_a_lost_confirmation_stores_nothing_twice(desk: Desk, autojump_clock: MockClock) -> None:
    desk.store.fail_next(1, applied=True)
    desk.submit("a")
    desk.submit("b")
    await desk.journal.flush()
    assert desk.seqs() == [1, 2]
    assert len((await desk.store.history(desk.number, limit=10)).messages) == 2


async def test_a_refusal_of_one_command_leaves_the_others_alone(desk: Desk) -> None:
    desk.submit("a")
    desk.journal.submit(send(999_999, "lost"), desk.answers.append)
    desk.submit("b")
    await desk.journal.flush()
    assert [type(answer) for answer in desk.answers] == [Sent, Rejected, Sent]


async def test_an_answer_that_fails_is_logged_and_the_next_ones_still_come(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: object) -> None:
        raise RuntimeError("a bug in a vocabulary")

    desk.journal.submit(send(desk.number, "a"), fail)
    desk.submit("b")
    await desk.journal.flush()
    assert desk.seqs() == [2]
    assert "a bug in a vocabulary" in caplog.text


async def test_a_store_with_a_bug_costs_its_batch_and_not_the_journal(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(batch: object) -> list[Any]:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "commit", broken)
        desk.submit("a")
        await desk.journal.flush()
    desk.submit("b")
    await desk.journal.flush()
    assert [type(answer) for answer in desk.answers] == [Rejected, Sent]
    assert desk.answers[0].code == "internal"
    assert "ZeroDivisionError" in caplog.text


async def test_what_was_performed_is_applied_even_if_nobody_waits_any_more(
    desk: Desk, autojump_clock: MockClock
) -> None:
    applied: list[Sent] = []
    desk.store.hold()
    with trio.move_on_after(1) as scope:
        await desk.journal.perform(send(desk.number, "a"), applied.append)
    assert scope.cancelled_caught
    desk.store.release()
    await desk.journal.flush()
    assert [answer.message.seq for answer in applied] == [1]


async def test_performing_returns_what_applying_gave_and_raises_refusals(desk: Desk) -> None:
    seq = await desk.journal.perform(send(desk.number, "a"), lambda sent: sent.message.seq)
    assert seq == 1
    with pytest.raises(Rejected):
        await desk.journal.perform(send(999_999, "a"), lambda sent: sent)
