"""The checker of the fault matrix finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.audit import check_messages
from tests.faults.people import Person

STORED = {1: ("ann", "a"), 2: ("bob", "b"), 3: ("ann", "c")}


def _ann() -> Person:
    """She has heard everything, and sent the first and the third message."""
    ann = Person("ann's", "ann", "room")
    ann.lives = [[1, 2, 3]]
    ann.contents = {seq: content for seq, (_, content) in STORED.items()}
    ann.acknowledged = {1: "a", 3: "c"}
    return ann


def test_who_has_heard_everything_once_and_in_order_is_content() -> None:
    check_messages(_ann(), STORED, "nothing")
    ann = _ann()
    ann.lives = [[1, 2], [2, 3]]
    check_messages(ann, STORED, "nothing")


def _hear(*seqs: int) -> Callable[[Person, dict[int, tuple[str, str]]], None]:
    def change(ann: Person, stored: dict[int, tuple[str, str]]) -> None:
        ann.lives = [list(seqs)]

    return change


def _store(seq: int, message: tuple[str, str] | None) -> Callable[[Person, dict[int, tuple[str, str]]], None]:
    def change(ann: Person, stored: dict[int, tuple[str, str]]) -> None:
        stored.pop(seq)
        if message is not None:
            stored[seq] = message

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_hear(1, 3), "missing [2]"),
        (_hear(1, 2, 2, 3), "twice [2]"),
        (_hear(2, 1, 3), "in order: False"),
        (_hear(1, 2), "heard to 2 of 3"),
        (_hear(), "heard to 0 of 3"),
        (_store(3, None), "'c' was acknowledged as 3"),
        (_store(2, None), "the store has a gap"),
        (_store(3, ("ann", "x")), "'c' was acknowledged as 3"),
        (_store(2, ("ann", "a")), "a message is stored twice"),
        (_store(2, ("bob", "x")), "heard 'b' as 2"),
    ],
)
def test_it_complains(change: Callable[[Person, dict[int, tuple[str, str]]], None], complaint: str) -> None:
    ann, stored = _ann(), dict(STORED)
    change(ann, stored)
    with pytest.raises(AssertionError) as raised:
        check_messages(ann, stored, "a fault")
    assert complaint in str(raised.value)
