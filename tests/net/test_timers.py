"""Timers: called in order, once, by one task; a fault of one does not stop the others."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.net.timers import CALLBACKS_PER_TURN, Timers, TimersStatistics


@pytest.fixture
async def timers(nursery: trio.Nursery) -> Timers:
    timers = Timers()
    await nursery.start(timers.run)
    return timers


async def test_callbacks_run_at_their_time_and_in_order(timers: Timers, autojump_clock: MockClock) -> None:
    started = trio.current_time()
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, trio.current_time() - started))

    timers.call_at(started + 5, partial(note, "b"))
    timers.call_at(started + 9, partial(note, "c"))
    await trio.sleep(1)
    timers.call_later(1, partial(note, "a"))  # earlier than what is being waited for
    timers.call_at(started - 100, partial(note, "at once"))
    await trio.sleep(20)
    assert called == [("at once", 1), ("a", 2), ("b", 5), ("c", 9)]
    assert timers.statistics().pending == 0


async def test_a_cancelled_timer_is_never_called(timers: Timers, autojump_clock: MockClock) -> None:
    called: list[str] = []
    kept = timers.call_later(1, lambda: called.append("kept"))
    dropped = timers.call_later(1, lambda: called.append("dropped"))
    dropped.cancel()
    dropped.cancel()
    assert (kept.pending, dropped.pending) == (True, False)
    assert timers.statistics().pending == 1
    await trio.sleep(2)
    assert called == ["kept"]
    assert not kept.pending
    kept.cancel()
    assert timers.statistics() == TimersStatistics(0, 0, float("inf"))


async def test_a_callback_may_add_and_cancel_timers(timers: Timers, autojump_clock: MockClock) -> None:
    called: list[str] = []
    victims = [timers.call_later(1 + 1e-6 * (n + 1), lambda: called.append("victim")) for n in range(200)]

    def first() -> None:
        called.append("first")
        for victim in victims:
            victim.cancel()
        timers.call_later(0, lambda: called.append("second"))

    timers.call_later(1, first)
    await trio.sleep(3)
    assert called == ["first", "second"]


async def test_a_callback_that_raises_is_logged_and_the_others_run(
    timers: Timers, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def fail() -> None:
        raise RuntimeError("on purpose")

    timers.call_later(1, fail)
    timers.call_later(2, lambda: called.append("after"))
    await trio.sleep(3)
    assert called == ["after"]
    assert "on purpose" in caplog.text


async def test_cancelled_timers_do_not_pile_up(timers: Timers, autojump_clock: MockClock) -> None:
    keep = timers.call_later(1e6, lambda: None)
    for _ in range(10_000):
        timers.call_later(1e5, lambda: None).cancel()
    assert timers.statistics().cancelled <= 100
    assert timers.statistics().pending == 1
    assert timers.statistics().next_deadline == keep.deadline


async def test_other_tasks_run_between_many_callbacks(timers: Timers, autojump_clock: MockClock) -> None:
    called = 0
    seen: list[int] = []

    def count() -> None:
        nonlocal called
        called += 1

    for _ in range(CALLBACKS_PER_TURN * 3):
        timers.call_later(1, count)

    async def watch() -> None:
        await trio.sleep(1)
        while called < CALLBACKS_PER_TURN * 3:
            seen.append(called)
            await trio.lowlevel.checkpoint()

    with trio.fail_after(10):
        await watch()
    assert any(0 < each < CALLBACKS_PER_TURN * 3 for each in seen)


async def test_timers_may_be_set_before_the_task_runs(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    timers = Timers()
    called: list[int] = []
    timers.call_later(1, lambda: called.append(1))
    await trio.sleep(5)
    assert called == []
    await nursery.start(timers.run)
    await wait_all_tasks_blocked()
    assert called == [1]
