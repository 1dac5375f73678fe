"""What the parent does when something happens; time is a number here, and no process is started."""

from __future__ import annotations

import signal
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catfish.workers.states import Phase, State
from catfish.workers.supervision import CUT_S, NEVER, Limits, Send, Start, Supervision, Word, Worker

LIMITS = Limits(start_s=60, silence_s=30, drain_s=15, steady_s=30, backoff_s_max=8, failures_max=4)


class World:
    """Does what it is told, at a time of the test's choice."""

    def __init__(self, count: int = 3) -> None:
        self.now = 0.0
        self.mind = Supervision(count, LIMITS)
        self.alive: dict[int, Worker] = {}
        self.said: list[Word] = []
        self.sent: list[tuple[int, signal.Signals]] = []
        self.mind.begin(self.now)
        self.obey()

    @property
    def phase(self) -> Phase:
        return self.mind.phase

    def obey(self) -> None:
        for order in self.mind.take():
            match order:
                case Start(worker):
                    assert self.mind.phase not in (Phase.STOPPING, Phase.STOPPED)
                    assert worker.number not in self.alive
                    self.alive[worker.number] = worker
                case Send(worker, number, why):
                    assert why
                    assert worker.number in self.alive
                    self.sent.append((worker.number, number))
                case word:
                    self.said.append(word)

    def ready(self, *numbers: int) -> None:
        for number in numbers:
            self.mind.ready(self.alive[number], self.now)
            self.obey()

    def exits(self, *numbers: int) -> None:
        for number in numbers:
            self.mind.exited(self.alive.pop(number), "ended with status 9", self.now)
            self.obey()

    def wait(self, seconds: float) -> None:
        """As the parent does: wakes up whenever something is due."""
        end = self.now + seconds
        while self.mind.due <= end:
            self.now = max(self.now, self.mind.due)
            self.mind.tick(self.now)
            self.obey()
        self.now = end

    def reload(self) -> None:
        self.mind.reload(self.now)
        self.obey()

    def stop(self, number: signal.Signals = SIGTERM) -> None:
        self.mind.stop(number, self.now)
        self.obey()

    def all_alive(self) -> None:
        """Every worker gives a sign of life."""
        for worker in self.alive.values():
            self.mind.heard(worker, self.now)


@pytest.fixture
def world() -> World:
    """Three workers that serve."""
    world = World()
    world.ready(0, 1, 2)
    return world


# Starting


def test_it_is_ready_when_every_worker_is() -> None:
    world = World()
    assert sorted(world.alive) == [0, 1, 2]
    world.ready(2, 0)
    assert world.said == []
    world.ready(1)
    assert world.said == [Word.READY]
    assert world.phase is Phase.SERVING


def test_a_worker_that_ends_before_the_server_was_ready_ends_the_start() -> None:
    world = World()
    world.ready(0)
    world.exits(1)
    assert world.mind.failure == "worker 1 ended with status 9 before it was ready"
    assert world.sent == [(0, SIGTERM), (2, SIGTERM)]
    world.exits(0, 2)
    assert world.phase is Phase.STOPPED


def test_a_worker_that_does_not_become_ready_is_killed_and_that_ends_the_start() -> None:
    world = World()
    world.ready(0, 1)
    for _ in range(6):
        world.wait(10)
        world.all_alive()
    assert world.sent == [(2, SIGKILL)]
    world.exits(2)
    assert world.phase is Phase.STOPPING


def test_a_worker_that_was_ready_may_end_during_the_start() -> None:
    world = World()
    world.ready(0)
    world.exits(0)
    world.ready(1, 2, 3)
    assert world.said == [Word.READY]


# Ends that nobody asked for


def test_a_lost_worker_is_started_again_at_once_and_the_others_hear_nothing(world: World) -> None:
    world.exits(1)
    assert {number: worker.index for number, worker in world.alive.items()} == {0: 0, 2: 2, 3: 1}
    assert world.sent == []
    world.ready(3)
    assert world.said == [Word.READY]


def test_a_worker_that_keeps_ending_is_started_again_ever_more_rarely_for_ever(world: World) -> None:
    starts = []
    for _ in range(12):
        world.exits(max(alive for alive, worker in world.alive.items() if worker.index == 2))
        before = world.now
        while len(world.alive) < 3:
            world.wait(0.5)
            world.all_alive()
        starts.append(world.now - before)
        world.ready(max(world.alive))
    assert starts == [0, 0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8, 8]
    assert world.phase is Phase.SERVING
    assert world.sent == []


def test_when_none_serves_and_one_failed_too_often_the_server_gives_up() -> None:
    world = World(count=2)
    world.ready(0, 1)
    for _ in range(20):
        if world.mind.failure:
            break
        world.exits(*world.alive)
        world.wait(0 if world.alive or world.mind.failure else 8)
    assert world.mind.failure == "no worker serves, and worker 0 failed 4 times in a row"
    world.exits(*world.alive)
    assert world.phase is Phase.STOPPED


def test_who_served_long_enough_has_not_failed_in_a_row(world: World) -> None:
    for _ in range(20):
        for _ in range(4):
            world.wait(8)
            world.all_alive()
        number = max(world.alive)
        world.exits(number)
        world.ready(number + 1)
    assert len(world.alive) == 3


def test_a_silent_worker_is_killed_and_started_again(world: World) -> None:
    world.wait(20)
    world.mind.heard(world.alive[0], world.now)
    world.mind.heard(world.alive[2], world.now)
    world.wait(10)
    assert world.sent == [(1, SIGKILL)]
    world.wait(10)
    assert world.sent == [(1, SIGKILL)]
    world.exits(1)
    assert world.alive[3].index == 1


# Stopping


def test_one_signal_stops_all_and_is_handed_on(world: World) -> None:
    world.stop(SIGINT)
    assert world.sent == [(0, SIGINT), (1, SIGINT), (2, SIGINT)]
    world.exits(1, 0, 2)
    assert world.phase is Phase.STOPPED
    assert world.said == [Word.READY, Word.STOPPING]
    assert world.mind.failure is None


def test_who_does_not_stop_in_time_is_killed(world: World) -> None:
    world.stop()
    world.exits(0)
    world.wait(LIMITS.drain_s)
    assert world.sent[3:] == [(1, SIGKILL), (2, SIGKILL)]


def test_a_second_signal_is_handed_on_and_soon_followed_by_the_last(world: World) -> None:
    world.stop()
    world.exits(0)
    world.stop()
    assert world.sent[3:] == [(1, SIGTERM), (2, SIGTERM)]
    world.wait(CUT_S)
    assert world.sent[5:] == [(1, SIGKILL), (2, SIGKILL)]


def test_stopping_while_a_worker_waits_for_its_start_starts_nobody(world: World) -> None:
    world.exits(0)
    world.exits(3)
    world.stop()
    world.wait(100)
    assert sorted(world.alive) == [1, 2]


def test_stopping_while_nobody_is_there_is_the_end() -> None:
    world = World(count=1)
    world.ready(0)
    world.exits(0)
    world.exits(1)
    assert not world.alive
    world.stop()
    assert world.phase is Phase.STOPPED


# Reloading


def test_a_reload_replaces_one_after_the_other_and_the_new_one_is_ready_before_the_old_one_drains(
    world: World,
) -> None:
    world.reload()
    for old, new in ((0, 3), (1, 4), (2, 5)):
        assert world.alive[new].index == world.alive[old].index
        assert len(world.alive) == 4
        assert world.alive[old].state is State.SERVING
        world.ready(new)
        assert world.sent[-1] == (old, SIGTERM)
        assert len(world.alive) == 4  # the next one waits until this one has drained
        world.exits(old)
    assert world.said == [Word.READY, Word.RELOADING, Word.RELOADED]
    assert sorted(world.alive) == [3, 4, 5]
    assert world.sent == [(0, SIGTERM), (1, SIGTERM), (2, SIGTERM)]
    assert world.phase is Phase.SERVING


def test_a_successor_that_ends_ends_the_reload_and_the_others_go_on(world: World) -> None:
    world.reload()
    world.ready(3)
    world.exits(0)
    world.exits(4)
    assert world.said[-1] is Word.RELOAD_FAILED
    assert sorted(world.alive) == [1, 2, 3]
    assert world.phase is Phase.SERVING


def test_a_successor_that_is_late_ends_the_reload(world: World) -> None:
    world.reload()
    for _ in range(6):
        world.wait(10)
        world.all_alive()
    assert world.sent == [(3, SIGKILL)]
    world.exits(3)
    assert world.said[-1] is Word.RELOAD_FAILED


def test_a_predecessor_that_ends_early_has_a_successor_already(world: World) -> None:
    world.reload()
    world.exits(0)
    assert sorted(world.alive) == [1, 2, 3]
    world.ready(3)
    assert sorted(world.alive) == [1, 2, 3, 4]
    assert world.sent == []


def test_when_predecessor_and_successor_both_end_another_one_is_started(world: World) -> None:
    world.reload()
    world.exits(0)
    world.exits(3)
    assert world.said[-1] is Word.RELOAD_FAILED
    assert world.alive[4].index == 0


def test_a_reload_does_not_wait_for_a_worker_that_waits_for_its_start(world: World) -> None:
    world.exits(0)
    world.exits(3)
    assert sorted(world.alive) == [1, 2]
    world.reload()
    assert world.alive[4].index == 0
    world.ready(4)
    assert world.alive[5].index == 1
    world.wait(1)
    assert sorted(world.alive) == [1, 2, 4, 5]


def test_a_predecessor_that_does_not_drain_is_killed_and_the_reload_goes_on(world: World) -> None:
    world.reload()
    world.ready(3)
    world.wait(LIMITS.drain_s)
    assert world.sent == [(0, SIGTERM), (0, SIGKILL)]
    world.exits(0)
    assert world.alive[4].index == 1


def test_a_reload_that_comes_during_a_reload_is_done_afterwards(world: World) -> None:
    world.reload()
    world.reload()
    world.reload()
    for old in range(6):
        world.ready(old + 3)
        world.exits(old)
    assert world.said == [Word.READY, *(Word.RELOADING, Word.RELOADED) * 2]
    assert sorted(world.alive) == [6, 7, 8]


def test_stopping_during_a_reload_stops_everyone_once(world: World) -> None:
    world.reload()
    world.ready(3)
    world.stop()
    assert world.sent == [(0, SIGTERM), (1, SIGTERM), (2, SIGTERM), (3, SIGTERM)]
    world.exits(0, 1, 2, 3)
    assert world.phase is Phase.STOPPED


@settings(max_examples=300)
@given(st.data())
def test_whatever_happens_no_slot_is_forgotten_and_no_storm_breaks_out(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4), "workers")
    world = World(count)
    starts = 0
    for _ in range(data.draw(st.integers(1, 60), "events")):
        numbers = sorted(world.alive)
        happening = data.draw(st.sampled_from(("ready", "exit", "exit", "heard", "reload", "stop", "wait", "wait")))
        before = world.mind._number
        if happening == "wait":
            world.wait(data.draw(st.sampled_from((0.1, 1.0, 10.0, 100.0))))
        elif happening == "reload" and world.mind.phase is not Phase.STOPPED:
            world.reload()
        elif happening == "stop" and world.mind.phase is not Phase.STOPPED:
            world.stop()
        elif numbers and happening == "exit":
            world.exits(data.draw(st.sampled_from(numbers)))
        elif numbers and happening == "ready":
            number = data.draw(st.sampled_from(numbers))
            if world.alive[number].ready_at is None:
                world.ready(number)
        elif numbers and happening == "heard":
            world.mind.heard(world.alive[data.draw(st.sampled_from(numbers))], world.now)
        starts += world.mind._number - before
        assert world.mind.workers == set(world.alive.values())
        assert len(world.alive) <= count + 1 + sum(slot.retiring is not None for slot in world.mind._slots)
        if world.mind.phase in (Phase.STOPPING, Phase.STOPPED):
            assert world.alive or world.phase is Phase.STOPPED
            assert all(worker.state in (State.DRAINING, State.DYING) for worker in world.alive.values())
            continue
        for slot in world.mind._slots:
            assert (slot.current is None) == (slot.start_at < NEVER), "a slot has a worker, or waits for one"
        for worker in world.alive.values():
            assert (worker.due == NEVER) == (worker.state is State.DYING), "whoever lives may be late"
