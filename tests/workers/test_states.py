"""The two tables and the waits between starts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.workers.backoff import Backoff
from catfish.workers.states import MOVES, PHASES, Event, Phase, State, Turn

IMPOSSIBLE_MOVES = {
    (State.SERVING, Event.READY),  # it says so once
    (State.DRAINING, Event.STOP),  # nobody is told twice
    (State.DYING, Event.LATE),  # nothing is awaited but its end
    *((State.GONE, event) for event in Event),
}
IMPOSSIBLE_TURNS = {
    *((phase, Turn.ALL_READY) for phase in Phase if phase is not Phase.STARTING),
    *((phase, turn) for phase in Phase if phase is not Phase.RELOADING for turn in (Turn.RELOADED, Turn.RELOAD_FAILED)),
    *((phase, Turn.EMPTY) for phase in Phase if phase is not Phase.STOPPING),
    (Phase.STOPPING, Turn.FAIL),
    *((Phase.STOPPED, turn) for turn in Turn),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_knows_every_event_that_can_happen_in_it(state: State, event: Event) -> None:
    assert ((state, event) in MOVES) != ((state, event) in IMPOSSIBLE_MOVES)


def test_a_worker_only_gets_older() -> None:
    order = list(State)
    for (before, event), after in MOVES.items():
        assert order.index(after) >= order.index(before)
        assert (after is State.GONE) == (event is Event.EXIT)


@pytest.mark.parametrize(("phase", "turn"), list(itertools.product(Phase, Turn)))
def test_every_phase_knows_every_turn_that_can_happen_in_it(phase: Phase, turn: Turn) -> None:
    assert ((phase, turn) in PHASES) != ((phase, turn) in IMPOSSIBLE_TURNS)


def test_a_server_that_stops_never_serves_again() -> None:
    for (before, _), after in PHASES.items():
        if before is Phase.STOPPING:
            assert after in (Phase.STOPPING, Phase.STOPPED)


def test_the_first_start_is_at_once_and_then_the_wait_doubles_up_to_a_limit() -> None:
    backoff = Backoff(steady_s=10, delay_s_max=5)
    assert [backoff.failed(1) for _ in range(7)] == [0, 0.5, 1, 2, 4, 5, 5]
    assert backoff.failures == 7
    assert backoff.failed(10) == 0
    assert backoff.failed(9) == 0.5


@given(st.lists(st.floats(0, 100), max_size=2000))
def test_a_wait_is_never_longer_than_the_limit(served: list[float]) -> None:
    backoff = Backoff(steady_s=50, delay_s_max=30)
    assert all(0 <= backoff.failed(each) <= 30 for each in served)
