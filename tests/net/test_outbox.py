"""The outbox: order, limits, and what is left of a frame that was taken in part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catfish.net.outbox import FRAME_COST, SEND_BYTES, Outbox

FRAMES = st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 3).map(lambda n: b"x" * (n * SEND_BYTES // 2))))


def filled(*frames: bytes, cost_max: float = 1e9) -> Outbox:
    outbox = Outbox(cost_max)
    for frame in frames:
        outbox.put(frame)
    return outbox


@given(FRAMES, st.data())
def test_whatever_the_kernel_takes_the_bytes_come_out_as_they_went_in(frames: list[bytes], data: st.DataObject) -> None:
    outbox = filled(*frames)
    taken = b""
    rounds = 0
    while outbox.frames:
        head = bytes(outbox.head())
        count = data.draw(st.integers(0, len(head))) if rounds < 20 else len(head)
        rounds += 1
        taken += head[:count]
        empty = outbox.sent(count)
        assert empty == (not outbox.frames)
        assert outbox.bytes_waiting == sum(map(len, frames)) - len(taken)
        assert outbox.cost == outbox.bytes_waiting + FRAME_COST * len(outbox.frames)
    assert taken == b"".join(frames)
    assert outbox.cost == 0


def test_one_frame_is_handed_over_as_it_is() -> None:
    frame = b"shared by everyone"
    assert filled(frame).head() is frame


def test_many_frames_are_joined_up_to_what_one_write_can_take() -> None:
    assert filled(b"ab", b"", b"cd").head() == b"abcd"
    outbox = filled(*[bytes(SEND_BYTES // 3)] * 10)
    assert len(outbox.head()) == SEND_BYTES // 3 * 3
    assert len(filled(bytes(SEND_BYTES * 5)).head()) == SEND_BYTES
    assert len(filled(b"x", bytes(SEND_BYTES * 5)).head()) == 1
    assert filled(b"ab", b"cd").head(3) == b"ab"
    assert filled(b"abcd").head(3) == b"abc"


def test_a_part_of_a_frame_is_not_copied() -> None:
    outbox = filled(bytes(1_000_000))
    outbox.sent(10)
    assert isinstance(outbox.head(), memoryview)


def test_the_limit_counts_frames_and_bytes_but_one_frame_may_be_longer() -> None:
    outbox = Outbox(100)
    assert outbox.put(bytes(1_000))
    assert not outbox.put(b"")
    outbox.clear()
    assert outbox.put(bytes(100 - FRAME_COST))
    assert not outbox.put(b"")
    assert outbox.bytes_waiting == 100 - FRAME_COST


def test_forgetting_keeps_the_rest_of_a_frame_that_was_begun() -> None:
    outbox = filled(b"one", b"two", b"three")
    outbox.sent(4)
    outbox.drop_unbegun()
    outbox.put(b"close")
    assert bytes(outbox.head()) == b"wo"
    assert not outbox.sent(2)
    assert outbox.head() == b"close"
    assert outbox.sent(5)
    assert outbox.cost == 0


def test_forgetting_between_frames_forgets_everything() -> None:
    outbox = filled(b"one", b"two")
    outbox.sent(3)
    outbox.drop_unbegun()
    assert (outbox.frames, outbox.cost) == ([], 0)
