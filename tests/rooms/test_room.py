"""LiveRoom: who hears what, in which order, and encoded how often."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.errors import Rejected
from catfish.rooms.commands import RoomRecord
from catfish.rooms.events import Custom, Event, MediaStarted, MessageSent, Signal
from catfish.rooms.model import Member, Message, Room, RoomKind
from catfish.rooms.room import ARRIVAL_EVENTS_MAX, EARLY_MAX, LiveRoom


class RecordingAudience:
    def __init__(self) -> None:
        self.encoded: list[Event] = []

    def encode(self, event: Event, room: LiveRoom, /) -> bytes | None:
        self.encoded.append(event)
        return None if isinstance(event, MediaStarted) else f"{id(self)}:{len(self.encoded)}".encode()


class RecordingListener:
    def __init__(self, user: str, audience: RecordingAudience) -> None:
        self.user = user
        self.audience = audience
        self.pushed: list[Any] = []
        self.failed = False
        self.address: str | None = None
        self.apart: frozenset[str] = frozenset()
        self.removed_from: list[str] = []

    def removed(self, live: LiveRoom) -> None:
        self.removed_from.append(live.id)

    def push(self, outgoing: Any, /) -> None:
        self.pushed.append(outgoing)

    def fail(self) -> None:
        self.failed = True

    def origin_in(self, room: str) -> None:
        return None

    def follow(self, former: LiveRoom, live: LiveRoom, revision: int, peer: Member) -> None:
        raise AssertionError("rooms move nobody")


def make_room(*, kind: RoomKind = RoomKind.OPEN, revision: int = 0) -> LiveRoom:
    room = Room(id="r", kind=kind, members_count=0, seq=revision, created_at=0)
    return LiveRoom(RoomRecord(number=1, room=room, created_by="", revision=revision), ())


def enter(room: LiveRoom, user: str, audience: RecordingAudience, *, settle: bool = True) -> RecordingListener:
    listener = RecordingListener(user, audience)
    room.enter(Member(user=user, name=user, since=0))
    room.attach(listener, room.revision)
    if settle:
        room.settle(listener)
    return listener


def message(seq: int, revision: int | None = None) -> MessageSent:
    text = Message(room="r", seq=seq, id=seq, user="ann", name="ann", content=str(seq), created_at=0)
    return MessageSent(room="r", message=text, revision=revision or seq)


def heard(audience: RecordingAudience) -> list[int]:
    return [event.message.seq for event in audience.encoded if isinstance(event, MessageSent)]


def custom() -> Custom:
    return Custom(room="r", user="ann", event="wave")


def test_a_broadcast_is_encoded_once_for_each_audience_and_everyone_gets_the_same_object() -> None:
    room, json, msgpack = make_room(), RecordingAudience(), RecordingAudience()
    listeners = [enter(room, f"u{i}", json if i % 2 else msgpack) for i in range(10)]
    room.deliver(custom())
    assert (len(json.encoded), len(msgpack.encoded)) == (1, 1)
    for audience in (json, msgpack):
        pushed = [listener.pushed[0] for listener in listeners if listener.audience is audience]
        assert len(pushed) == 5
        assert all(each is pushed[0] for each in pushed)


def test_the_one_who_is_skipped_hears_nothing_and_its_other_device_does() -> None:
    room, audience = make_room(), RecordingAudience()
    phone, laptop = enter(room, "ann", audience), enter(room, "ann", audience)
    room.deliver(custom(), skip=phone)
    assert (phone.pushed, len(laptop.pushed)) == ([], 1)
    assert len(room.members) == 1


def test_an_event_that_an_audience_has_no_word_for_is_not_pushed() -> None:
    room, audience = make_room(), RecordingAudience()
    listener = enter(room, "ann", audience)
    room.deliver(MediaStarted(room="r", user="ann"))
    assert listener.pushed == []


def test_durable_events_come_in_order_once_and_a_gap_is_reported() -> None:
    room, audience = make_room(), RecordingAudience()
    enter(room, "ann", audience)
    assert not room.deliver_durable(message(1))
    assert room.deliver_durable(message(3))
    assert heard(audience) == [1]
    assert not room.deliver_durable(message(1))
    assert not room.deliver_durable(message(2))
    assert heard(audience) == [1, 2, 3]
    assert (room.seq, room.revision, room.early) == (3, 3, {})


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 8), max_size=20))
def test_whatever_the_order_of_arrival_everyone_hears_all_in_order(order: list[int], repeats: list[int]) -> None:
    room, audience = make_room(), RecordingAudience()
    enter(room, "ann", audience)
    for seq in [*order[:4], *repeats[:10], *order[4:], *repeats]:
        room.deliver_durable(message(seq))
    assert heard(audience) == list(range(1, 9))


def test_events_that_come_early_are_bounded_and_the_gap_stays_reported() -> None:
    room = make_room()
    for seq in range(2, EARLY_MAX + 100):
        assert room.deliver_durable(message(seq))
    assert len(room.early) == EARLY_MAX
    assert room.deliver_durable(message(1)) is False
    assert room.revision == EARLY_MAX + 1


def test_what_happens_during_an_arrival_follows_it_without_what_it_showed_already() -> None:
    room, audience = make_room(revision=5), RecordingAudience()
    listener = RecordingListener("ann", audience)
    room.enter(Member(user="ann", name="ann", since=0))
    room.attach(listener, revision=7)  # the store was ahead of this instance by two messages
    for seq in (6, 7, 8):
        room.deliver_durable(message(seq))
    room.deliver(custom())
    assert listener.pushed == []
    room.settle(listener)
    assert [type(event) for event in audience.encoded] == [MessageSent, Custom]
    assert heard(audience) == [8]
    room.deliver_durable(message(9))
    assert len(listener.pushed) == 3


def test_what_is_kept_back_is_bounded_and_ends_the_session_of_who_waits_too_long() -> None:
    room, audience = make_room(), RecordingAudience()
    listener = enter(room, "ann", audience, settle=False)
    event = custom()
    failed = []
    for _ in range(ARRIVAL_EVENTS_MAX + 1):
        room.deliver(event)
        failed.append(listener.failed)
    assert failed == [False] * ARRIVAL_EVENTS_MAX + [True]
    assert len(room.arriving[listener].kept) == ARRIVAL_EVENTS_MAX


def test_joining_once_more_keeps_back_events_until_it_is_answered_again() -> None:
    room, audience = make_room(), RecordingAudience()
    listener = enter(room, "ann", audience)
    room.attach(listener, room.revision)
    assert room.listeners_count == 1
    room.deliver(custom())
    assert listener.pushed == []
    room.settle(listener)
    assert len(listener.pushed) == 1
    assert room.detach(listener)
    assert (room.listeners_count, room.audiences, room.arriving) == (0, {}, {})


def test_detaching_tells_whether_it_was_the_last_device_of_its_user() -> None:
    room, audience = make_room(), RecordingAudience()
    phone = enter(room, "ann", audience)
    laptop = enter(room, "ann", audience, settle=False)
    assert not room.detach(phone)
    assert room.detach(laptop)
    assert room.listeners() == []


def test_an_event_to_one_member_reaches_all_its_devices_and_nobody_else() -> None:
    room, audience = make_room(), RecordingAudience()
    phone, laptop, other = enter(room, "ann", audience), enter(room, "ann", audience), enter(room, "bob", audience)
    room.deliver_to("ann", Signal(room="r", user="bob"))
    assert (len(phone.pushed), len(laptop.pushed), len(other.pushed)) == (1, 1, 0)
    room.deliver_to("nobody", Signal(room="r", user="bob"))


def test_a_listener_that_moves_to_another_audience_hears_each_event_once() -> None:
    room, polling, websocket = make_room(), RecordingAudience(), RecordingAudience()
    listener = enter(room, "ann", polling)
    room.move(listener, websocket)
    listener.audience = websocket
    room.deliver(custom())
    assert (len(polling.encoded), len(websocket.encoded), len(listener.pushed)) == (0, 1, 1)
    assert list(room.audiences) == [websocket]


def test_media_are_remembered_for_those_who_come_later_and_kept_when_a_user_comes_again() -> None:
    room, audience = make_room(), RecordingAudience()
    enter(room, "ann", audience)
    room.toggle("ann", "camera", True)
    room.toggle("ann", "mic", True)
    room.toggle("ann", "camera", False)
    enter(room, "ann", audience)
    media = room.list_members(10)[0].media
    assert (media.camera, media.mic, media.screen) == (False, True, False)
    with pytest.raises(Rejected, match="not in the room"):
        room.toggle("bob", "mic", True)


def test_a_matched_room_is_a_full_pair_only_with_both() -> None:
    room, audience = make_room(kind=RoomKind.MATCHED), RecordingAudience()
    states = []
    for user in ("ann", "bob"):
        enter(room, user, audience)
        states.append(room.is_full_pair)
    exits = [room.exit("bob"), room.exit("bob")]
    assert (states, exits, room.is_full_pair) == ([False, True], [True, False], False)
