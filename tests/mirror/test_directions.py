"""Entries are numbered and missed, without any transport: `outgoing` and `incoming`."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from catfish.config import Settings
from catfish.mirror.incoming import GAP_PAUSE_S, SILENCE_S, STREAMS_MAX, Incoming
from catfish.mirror.outgoing import Entry, Outgoing
from tests.mirror.world import Site, said, stored, text_of

SETTINGS = Settings(mirror_streams=2, mirror_waiting_items_max=10, mirror_waiting_bytes_max=2_000)


class Pair:
    """One that sends, one that receives, and a test between them."""

    def __init__(self, settings: Settings = SETTINGS, epoch: int = 1) -> None:
        self.woken = 0
        self.now = 0.0
        self.settings = settings
        self.out = self.sender(epoch)
        self.site = Site("b")
        self.incoming = Incoming("b", self.site, lambda: 1_500)

    def sender(self, epoch: int, name: str = "a") -> Outgoing:
        out = Outgoing(self.settings, name, epoch, lambda: 1_000, self._wake)
        out.open = True
        return out

    def _wake(self) -> None:
        self.woken += 1

    def take(self, *texts: str, number: int = 0, out: Outgoing | None = None) -> list[Entry]:
        out = out or self.out
        for text in texts:
            out.publish(number, said(text), None)
        return out.take(self.now, float("inf"))

    def receive(self, entries: Sequence[Entry]) -> list[str]:
        texts: list[str] = []
        for entry in entries:
            content = self.incoming.sift(entry.data)
            if content is not None:
                texts += [text_of(told.event) for told in self.incoming.receive(entry.stream, content, self.now)]
        self.incoming.tell_gap(self.now)
        return texts

    def gaps(self) -> int:
        """How many were told since the last time, with enough time in between."""
        self.now += GAP_PAUSE_S
        self.incoming.tell_gap(self.now)
        gaps, self.site.gaps = self.site.gaps, 0
        return gaps


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    for stream in range(2):
        pair.receive(pair.take("hello", number=stream))
    assert pair.gaps() == 0
    return pair


def test_what_waits_leaves_as_one_entry_a_stream_and_wakes_once() -> None:
    pair = Pair()
    for number in (0, 1, 2, 3):
        pair.out.publish(number, said(str(number)), None)
    assert pair.woken == 1
    entries = pair.out.take(0.0, float("inf"))
    assert [(entry.stream, entry.events) for entry in entries] == [(0, 2), (1, 2)]
    assert pair.receive(entries) == ["0", "2", "1", "3"]
    assert pair.out.take(0.0, float("inf")) == []


def test_streams_that_were_not_written_to_get_a_beat(pair: Pair) -> None:
    pair.out.publish(0, said("x"), None)
    assert [(entry.stream, entry.events) for entry in pair.out.take(100.0, 1.0)] == [(0, 1), (1, 0)]
    assert pair.out.take(100.5, 1.0) == []
    assert [(entry.stream, entry.events) for entry in pair.out.take(101.0, 1.0)] == [(0, 0), (1, 0)]


def test_an_entry_that_is_missing_leaves_a_gap(pair: Pair) -> None:
    pair.take("lost")
    assert pair.receive(pair.take("next")) == ["next"]
    assert pair.gaps() == 1
    assert pair.receive(pair.take("more")) == ["more"]
    assert pair.gaps() == 0


def test_an_entry_that_comes_twice_is_delivered_once(pair: Pair) -> None:
    entries = pair.take("once")
    assert pair.receive([*entries, *entries]) == ["once"]
    assert pair.gaps() == 0
    assert pair.incoming.stale == 1


def test_entries_that_change_places_leave_a_gap_and_never_an_older_event_behind_a_newer(pair: Pair) -> None:
    first, second = pair.take("first"), pair.take("second")
    assert pair.receive([*second, *first]) == ["second"]
    assert pair.gaps() == 1
    assert pair.incoming.stale == 1


def test_every_stream_is_counted_by_itself(pair: Pair) -> None:
    even, odd = pair.take("even", number=0), pair.take("odd", number=1)
    assert pair.receive([*odd, *even]) == ["odd", "even"]
    assert pair.gaps() == 0


def test_what_was_dropped_leaves_a_hole_in_the_numbers(pair: Pair) -> None:
    pair.out.open = False
    pair.out.publish(0, said("lost"), None)
    pair.out.publish(0, stored("lost"), None)
    assert (pair.out.dropped_ephemeral, pair.out.dropped_durable) == (1, 1)
    pair.out.open = True
    assert pair.receive(pair.take("next")) == ["next"]
    assert pair.gaps() == 1
    assert pair.receive(pair.take("other", number=1)) == ["other"]
    assert pair.gaps() == 0, "nothing was dropped in that stream"


def test_what_waited_when_redis_went_away_is_counted_by_its_kind(pair: Pair) -> None:
    pair.out.publish(0, said("lost"), None)
    pair.out.publish(1, stored("lost"), None)
    pair.out.clear()
    assert (pair.out.dropped_ephemeral, pair.out.dropped_durable) == (1, 1)
    assert pair.out.waiting_items == pair.out.waiting_bytes == 0
    pair.receive(pair.out.beat(0.0))
    assert pair.gaps() == 1


def test_over_the_limit_the_newest_is_dropped(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    entries = pair.take(*(str(i) for i in range(15)))
    assert pair.receive(entries) == [str(i) for i in range(10)]
    assert pair.out.dropped_ephemeral == 5
    assert len(caplog.records) == 1
    pair.out.publish(0, said("x" * 3_000), None)
    assert pair.out.dropped_ephemeral == 6
    pair.out.publish(0, said("x" * 1_000), None)
    pair.out.publish(0, said("x" * 1_000), None)
    assert pair.out.dropped_ephemeral == 7
    assert 1_000 < pair.out.waiting_bytes < 2_000


def test_a_large_batch_leaves_in_several_entries_in_order() -> None:
    pair = Pair(attrs.evolve(SETTINGS, mirror_entry_bytes_max=500, mirror_streams=1, mirror_waiting_bytes_max=100_000))
    for i, text in enumerate(("a" * 200, "b" * 200, "c" * 900, "d", "e")):
        pair.out.publish(0, stored(text) if i % 2 else said(text), None)
    entries = pair.out.take(0.0, float("inf"))
    assert [(entry.events, entry.durable) for entry in entries] == [(1, 0), (1, 1), (1, 0), (2, 1)]
    assert "".join(pair.receive(entries)) == "a" * 200 + "b" * 200 + "c" * 900 + "de"
    pair.out.give_up(entries)
    assert (pair.out.dropped_ephemeral, pair.out.dropped_durable) == (3, 2)


def test_one_that_is_heard_for_the_first_time_must_begin_at_one(pair: Pair) -> None:
    other = pair.sender(1, "c")
    assert pair.receive(pair.take("first", out=other)) == ["first"]
    assert pair.gaps() == 0
    another = pair.sender(1, "d")
    pair.take("missed", out=another)
    assert pair.receive(pair.take("second", out=another)) == ["second"]
    assert pair.gaps() == 1
    assert pair.incoming.peers == 3


def test_a_newer_epoch_begins_anew_and_an_older_one_is_stale(pair: Pair) -> None:
    newer = pair.sender(2)
    assert pair.receive(pair.take("anew", out=newer)) == ["anew"]
    assert pair.gaps() == 0
    assert pair.receive(pair.take("old")) == []
    assert pair.receive(pair.take("more", out=newer)) == ["more"]
    assert pair.gaps() == 0


def test_one_that_falls_silent_leaves_a_gap_and_so_does_its_return(pair: Pair) -> None:
    pair.receive(pair.take("x"))
    pair.receive(pair.take("x", number=1))
    pair.now += SILENCE_S
    pair.incoming.look_around(pair.now)
    assert pair.site.gaps == 0
    pair.now += 1.0
    pair.incoming.look_around(pair.now)
    assert pair.gaps() == 1
    assert pair.incoming.peers == 0
    pair.receive(pair.take("back"))
    assert pair.gaps() == 1


def test_silence_while_nothing_could_be_read_says_nothing(pair: Pair) -> None:
    pair.now += SILENCE_S * 10
    pair.incoming.resumed(pair.now)
    pair.incoming.look_around(pair.now)
    assert pair.gaps() == 0


def test_gaps_are_told_at_once_and_then_together(pair: Pair) -> None:
    for _ in range(10):
        pair.take("lost")
        pair.receive(pair.take("next"))
    assert pair.site.gaps == 1
    assert pair.gaps() == 2
    assert pair.gaps() == 0


def test_own_entries_tell_the_lag_and_nothing_else(pair: Pair) -> None:
    own = pair.sender(1, "b")
    pair.take("lost", out=own)
    assert pair.receive(pair.take("own", out=own)) == []
    assert pair.incoming.lag_ms == 500
    assert pair.gaps() == 0


def test_what_cannot_be_read_leaves_a_gap_and_is_logged_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert pair.receive([Entry(0, b"junk", 0, 0)]) == []
    assert pair.gaps() > 0
    assert pair.incoming.unreadable == 3
    assert len(caplog.records) == 1


def test_how_many_streams_others_use_is_known_within_reason(pair: Pair) -> None:
    pair.settings = attrs.evolve(SETTINGS, mirror_streams=8)
    pair.receive(pair.take("x", out=pair.sender(1, "c")))
    assert pair.incoming.streams == 8
    pair.settings = attrs.evolve(SETTINGS, mirror_streams=STREAMS_MAX + 1)
    pair.receive(pair.take("x", out=pair.sender(1, "d")))
    assert pair.incoming.streams == STREAMS_MAX
