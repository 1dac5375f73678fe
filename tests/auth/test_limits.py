"""Token buckets, by the time that the tests give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.auth.limits import BATCH_MAX, COLLECTED_MAX, LOOKED_AT, Bucket, Buckets, Tap
from catfish.config_fields import Rate, parse_rate

RATE = Rate(per_s=2.0, burst=4)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20/100", Rate(20.0, 100)), ("0.5/1", Rate(0.5, 1)), ("999999999/1", Rate(999_999_999.0, 1)), ("off", None)],
)
def test_a_rate_is_read(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "20", "20/", "/100", "0/5", "5/0", "-1/5", "1e9/5", "20 / 100", "20/1.5", "OFF"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


def test_a_bucket_gives_its_burst_at_once_and_then_what_the_rate_says() -> None:
    buckets = Buckets(RATE, kept_max=10)
    assert [buckets.take("ann", 100.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert buckets.take("bob", 100.0) == 0, "everybody has a bucket of their own"
    assert buckets.take("ann", 100.25) == 0.25
    assert buckets.take("ann", 100.5) == 0
    assert buckets.take("ann", 100.5) == 0.5
    assert [buckets.take("ann", 1_000.0) for _ in range(5)] == [0, 0, 0, 0, 0.5], "it holds no more than its burst"


def test_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(RATE, kept_max=10)
    assert [buckets.take("ann", 100.0) for _ in range(4)] == [0] * 4
    assert buckets.take("ann", 50.0) == 0.5
    assert buckets.take("ann", 100.0) == 0.5


@given(st.lists(st.floats(0, 3), max_size=60), st.sampled_from((Rate(2.0, 4), Rate(0.5, 1), Rate(100.0, 3))))
def test_in_no_span_of_time_is_there_more_than_the_burst_and_the_rate(pauses: list[float], rate: Rate) -> None:
    buckets = Buckets(rate, kept_max=10)
    now, admitted = 0.0, []
    for pause in pauses:
        now += pause
        wait = buckets.take("ann", now)
        if not wait:
            admitted.append(now)
        else:
            assert 0 < wait <= 1 / rate.per_s
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= rate.burst + (admitted[last] - admitted[first]) * rate.per_s + 1e-6


# Taps


def take(tap: Tap, now: float) -> float:
    if tap.credit:
        tap.credit -= 1
        return 0.0
    return tap.draw(now)


def test_a_tap_takes_from_all_of_its_buckets_or_from_none() -> None:
    own, users = Bucket(Rate(1.0, 3), 0.0), Bucket(Rate(1.0, 2), 0.0)
    tap = Tap((own, users), batch_max=1)
    assert [take(tap, 0.0) for _ in range(3)] == [0, 0, 1.0]
    assert (own.level(0.0), users.level(0.0)) == (1, 0)


def test_a_tap_says_the_longest_wait() -> None:
    tap = Tap((Bucket(Rate(1.0, 1), 0.0), Bucket(Rate(0.1, 1), 0.0)))
    assert take(tap, 0.0) == 0
    assert take(tap, 0.0) == 10.0


def test_of_many_that_are_refused_each_gets_a_time_of_its_own_and_is_admitted_then() -> None:
    tap = Tap((Bucket(Rate(4.0, 40), 0.0),))
    waits = [take(tap, 0.0) for _ in range(60)]
    assert waits[:40] == [0] * 40
    assert waits[40:] == [(place + 1) / 4 for place in range(20)]
    assert [take(tap, wait) for wait in waits[40:]] == [0] * 20


def test_who_does_not_wait_is_not_told_to_wait_for_ever() -> None:
    tap = Tap((Bucket(Rate(4.0, 8), 0.0),))
    waits = [take(tap, 0.0) for _ in range(1_000)]
    assert max(waits) == 0.25 + 8 / 4


def test_a_tap_that_is_used_takes_more_at_a_time_and_no_more_than_there_is() -> None:
    bucket = Bucket(Rate(1.0, 50), 0.0)
    tap = Tap((bucket,))
    draws = 0
    for _ in range(50):
        draws += not tap.credit
        assert take(tap, 0.0) == 0
    assert draws == 7, "1 + 2 + 4 + 8 + 16 + 16, and what was left"
    assert take(tap, 0.0) == 1.0


@given(st.lists(st.floats(0, 3), max_size=100))
def test_what_a_tap_takes_in_advance_is_all_that_it_lets_through_besides(pauses: list[float]) -> None:
    rate = Rate(2.0, 20)
    tap = Tap((Bucket(rate, 0.0),))
    now, admitted = 0.0, []
    for pause in pauses:
        now += pause
        if not take(tap, now):
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            spent = last - first + 1
            assert spent <= rate.burst + BATCH_MAX + (admitted[last] - admitted[first]) * rate.per_s + 1e-6


def test_what_a_tap_has_not_used_comes_back() -> None:
    bucket = Bucket(Rate(1.0, 50), 0.0)
    tap = Tap((bucket,))
    for _ in range(6):
        assert take(tap, 0.0) == 0
    assert bucket.level(0.0) == 43
    tap.close()
    assert bucket.level(0.0) == 44
    assert (tap.credit, bucket.spent) == (0, 0)


def test_a_tap_without_buckets_lets_everything_through() -> None:
    tap = Tap(())
    assert [take(tap, 0.0) for _ in range(100)] == [0] * 100


# What is kept


def test_full_buckets_are_forgotten_before_others() -> None:
    buckets = Buckets(RATE, kept_max=2)
    for _ in range(4):
        buckets.take("busy", 0.0)
    buckets.take("quiet", 0.0)
    buckets.take("busy", 0.5)
    buckets.take("new", 0.5)  # by now `quiet` is full again
    assert len(buckets) == 2
    assert buckets.take("busy", 0.5) > 0


def test_when_none_is_full_the_longest_untouched_is_forgotten() -> None:
    buckets = Buckets(Rate(0.001, 1), kept_max=2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, 0.0)
    assert len(buckets) == 2
    assert [buckets.take(key, 0.0) > 0 for key in ("a", "c")] == [True, True]
    assert buckets.take("b", 0.0) == 0


def test_what_somebody_holds_is_never_forgotten() -> None:
    buckets = Buckets(Rate(0.001, 2), kept_max=3)
    held = [buckets.hold(f"held {index}", 0.0) for index in range(3 * LOOKED_AT)]
    again = buckets.hold("held 0", 0.0)
    assert again is held[0]
    for index in range(100):
        buckets.take(f"other {index}", 0.0)
    assert len(buckets) == len(held) + 3
    assert all(buckets.get(bucket.key, 0.0) is bucket for bucket in held)
    held[1].take(1)
    for bucket in (*held, again):
        buckets.release(bucket, 0.0)
    assert len(buckets) == 3, "those that are full are as good as new ones"
    assert buckets.get("held 1", 0.0) is held[1]


# Several processes


def test_what_one_has_spent_the_others_have_spent_too() -> None:
    here, there = Buckets(Rate(1.0, 10), 100), Buckets(Rate(1.0, 10), 100)
    here.shared = there.shared = True
    for _ in range(8):
        assert here.take("ann", 0.0) == 0
    told = here.collect(0.0)
    assert told == {"ann": 8}
    there.charge(told, 0.0)
    assert [there.take("ann", 0.0) for _ in range(3)] == [0, 0, 1.0]
    assert here.collect(0.0) == {}, "it was told"
    assert there.collect(0.0) == {"ann": 2}, "what was charged is not told again"


def test_who_spends_little_is_told_of_to_nobody() -> None:
    buckets = Buckets(Rate(1.0, 100), 100)
    buckets.shared = True
    now = 0.0
    for _ in range(300):
        now += 1.0
        assert buckets.take("ann", now) == 0
        assert buckets.collect(now) == {}


def test_of_very_many_some_are_told_at_a_time() -> None:
    buckets = Buckets(Rate(1.0, 1), 10_000)
    buckets.shared = True
    for index in range(COLLECTED_MAX + 5):
        buckets.take(str(index), 0.0)
    assert [len(buckets.collect(0.0)) for _ in range(3)] == [COLLECTED_MAX, 5, 0]


def test_what_has_come_back_before_it_was_told_is_not_told() -> None:
    buckets = Buckets(Rate(1.0, 10), 100)
    buckets.shared = True
    for _ in range(9):
        buckets.take("ann", 0.0)
    assert buckets.collect(4.0) == {"ann": 5}


def test_a_debt_is_bounded_and_delays() -> None:
    buckets = Buckets(Rate(1.0, 10), 100)
    buckets.charge({"ann": 10**15, "bob": 3, "eve": -5}, 0.0)
    assert buckets.take("ann", 0.0) == 11.0
    assert buckets.get("bob", 0.0).level(0.0) == 7
    assert buckets.get("eve", 0.0).level(0.0) == 10


@pytest.mark.parametrize("processes", [2, 4])
def test_together_they_keep_the_rate_after_their_bursts(processes: int) -> None:
    rate = Rate(10.0, 20)
    instances = [Buckets(rate, 100) for _ in range(processes)]
    for buckets in instances:
        buckets.shared = True
    admitted = 0
    steps = 4_000
    for step in range(steps):  # each asks 25 times a second, and tells every quarter of one
        now = step / 25
        for buckets in instances:
            admitted += not buckets.take("ann", now)
        if step % 6 == 0:
            told = [buckets.collect(now) for buckets in instances]
            for place, buckets in enumerate(instances):
                for other, spent in enumerate(told):
                    if other != place:
                        buckets.charge(spent, now)
    assert admitted <= rate.burst * processes + rate.per_s * steps / 25 * 1.25
    assert admitted >= rate.per_s * steps / 25 * 0.5
