"""Rooms and members: what both stores promise."""

from __future__ import annotations

import trio

from catfish.errors import Rejected
from catfish.rooms.commands import CloseRoom, Joined, Left, Matched, RoomRecord, Sent
from catfish.rooms.model import RoomKind
from catfish.rooms.ports import Store
from tests.store.commands import (
    away,
    create,
    join,
    leave,
    make_room,
    match,
    perform,
    refused,
    send,
)


async def test_a_room_is_created_and_found_by_id_and_by_code_in_any_case(store: Store) -> None:
    record = await perform(store, create("den", code="ABC234", name="The den", capacity=3), RoomRecord)
    assert (record.room.kind, record.room.code, record.room.name) == (RoomKind.OPEN, "abc234", "The den")
    assert (record.room.capacity, record.room.members_count, record.room.seq) == (3, 0, 0)
    assert (record.created_by, record.revision) == ("ada", 0)
    assert await store.room(id="den") == record
    assert await store.room(code="aBc234") == record
    assert await store.room(id="other") is None
    assert await store.room(code="zzzzzz") is None


async def test_creating_again_answers_the_same_room_to_its_creator_only(store: Store) -> None:
    record = await perform(store, create("den", code="abc234"), RoomRecord)
    assert await perform(store, create("den", code="xyz567"), RoomRecord) == record
    assert await refused(store, create("den", "bob")) == "forbidden"


async def test_a_code_is_given_once(store: Store) -> None:
    answers = await store.commit([create("a", code="abc234"), create("b", code="ABC234")])
    assert isinstance(answers[0], RoomRecord)
    assert isinstance(answers[1], Rejected)
    assert answers[1].code == "code_taken"
    assert await refused(store, create("c", code="abc234")) == "code_taken"
    assert await store.room(id="b") is None


async def test_numbers_increase(store: Store) -> None:
    answers = await store.commit([create("z"), create("a")])
    later = await perform(store, create("m"), RoomRecord)
    assert all(isinstance(answer, RoomRecord) and answer.number < later.number for answer in answers)


async def test_joining_makes_an_open_room_only_when_asked_to(store: Store) -> None:
    assert await refused(store, join("lobby", "ada", create=False)) == "no_such_room"
    joined = await perform(store, join("lobby", "ada", members=True), Joined)
    assert joined.first
    assert not joined.returning
    assert joined.record.room.members_count == 1
    assert joined.record.created_by == "ada"
    assert joined.members == [joined.member]
    assert (joined.member.user, joined.member.name, joined.member.away) == ("ada", "Ada", False)
    assert await refused(store, join(None, "ada", code="nope22")) == "no_such_code"


async def test_members_are_listed_in_the_order_in_which_they_entered(store: Store) -> None:
    number = await make_room(store, "lobby", "zoe", "bob", "ada")
    await perform(store, join("lobby", "zoe", "i2"), Joined)
    assert [member.user for member in await store.members(number, 10)] == ["zoe", "bob", "ada"]
    assert [member.user for member in await store.members(number, 2)] == ["zoe", "bob"]
    joined = await perform(store, join("lobby", "eve", members=True), Joined)
    assert [member.user for member in joined.members or []] == ["zoe", "bob", "ada", "eve"]


async def test_a_user_on_two_instances_is_one_member(store: Store) -> None:
    first = await perform(store, join("lobby", "ada", "i1"), Joined)
    second = await perform(store, join("lobby", "ada", "i2", name="Countess"), Joined)
    number = first.record.number
    assert (first.first, second.first) == (True, False)
    assert second.record.room.members_count == 1
    assert second.member.since == first.member.since
    assert [member.name for member in await store.members(number, 10)] == ["Countess"]
    left = await perform(store, leave(number, "ada", "i1"), Left)
    assert (left.last, left.members_count) == (False, 1)
    left = await perform(store, leave(number, "ada", "i2"), Left)
    assert (left.last, left.members_count) == (True, 0)
    assert await store.members(number, 10) == []


async def test_joining_again_on_the_same_instance_changes_the_name_and_is_not_first(store: Store) -> None:
    await make_room(store, "lobby", "ada")
    again = await perform(store, join("lobby", "ada", name="Lovelace"), Joined)
    assert not again.first
    assert again.member.name == "Lovelace"
    assert again.record.room.members_count == 1


async def test_leaving_a_room_in_which_one_is_not_is_answered_all_the_same(store: Store) -> None:
    number = await make_room(store)
    left = await perform(store, leave(number, "bob"), Left)
    assert (left.last, left.members_count) == (True, 1)
    left = await perform(store, leave(number, "ada", "i9"), Left)
    assert (left.last, left.members_count) == (False, 1)
    left = await perform(store, leave(987_654_321, "ada"), Left)
    assert (left.last, left.members_count) == (True, 0)


async def test_an_away_member_stays_until_it_leaves_and_may_come_back(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    (since,) = await store.commit([away(number, "bob")])
    assert type(since) is int
    assert await store.commit([away(number, "bob")]) == [since]
    assert [member.away for member in await store.members(number, 10)] == [False, True]
    back = await perform(store, join("lobby", "bob"), Joined)
    assert not back.first
    assert not back.member.away
    left = await perform(store, leave(number, "bob", away_since=since), Left)
    assert (left.last, left.members_count) == (False, 2)
    await trio.sleep(0.01)
    later, *others = await store.commit([away(number, "bob"), away(number, "nobody"), away(987_654_321, "bob")])
    assert others == [None, None]
    assert type(later) is int
    left = await perform(store, leave(number, "bob", away_since=since), Left)
    assert (left.last, left.members_count) == (False, 2)
    left = await perform(store, leave(number, "bob", away_since=later), Left)
    assert (left.last, left.members_count) == (True, 1)


async def test_a_member_is_away_only_when_it_is_so_on_every_instance(store: Store) -> None:
    number = await make_room(store)
    await perform(store, join("lobby", "ada", "i2"), Joined)
    await store.commit([away(number, "ada", "i1")])
    assert not (await store.members(number, 10))[0].away
    await store.commit([away(number, "ada", "i2")])
    assert (await store.members(number, 10))[0].away


async def test_who_left_while_others_stayed_returns(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await store.commit([leave(number, "bob")])
    assert (await perform(store, join("lobby", "bob"), Joined)).returning
    assert not (await perform(store, join("lobby", "bob"), Joined)).returning
    answers = await store.commit([leave(number, "bob"), join("lobby", "bob")])
    assert isinstance(answers[1], Joined)
    assert answers[1].returning


async def test_an_empty_room_forgets_who_left(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob", "eve")
    await store.commit([leave(number, "bob"), leave(number, "ada")])
    await store.commit([leave(number, "eve")])
    answers = await store.commit(
        [join("lobby", "bob"), join("lobby", "eve"), leave(number, "bob"), join("lobby", "bob")]
    )
    returning = [answer.returning for answer in answers if isinstance(answer, Joined)]
    assert returning == [False, False, True]


async def test_a_private_room_admits_by_code_its_creator_and_its_members(store: Store) -> None:
    await perform(store, create("den", kind=RoomKind.PRIVATE, code="abc234"), RoomRecord)
    assert await refused(store, join("den", "bob")) == "forbidden"
    assert (await perform(store, join("den", "ada", create=False), Joined)).first
    by_code = await perform(store, join(None, "bob", code="ABC234"), Joined)
    assert by_code.first
    assert not (await perform(store, join("den", "bob", "i2"), Joined)).first
    await store.commit([leave(by_code.record.number, "bob", each) for each in ("i1", "i2")])
    assert await refused(store, join("den", "bob")) == "forbidden"


async def test_a_full_room_admits_its_members_only(store: Store) -> None:
    await perform(store, create("den", capacity=2), RoomRecord)
    answers = await store.commit([join("den", user) for user in ("ada", "bob", "eve")])
    assert [isinstance(answer, Joined) for answer in answers] == [True, True, False]
    assert isinstance(answers[2], Rejected)
    assert answers[2].code == "room_full"
    assert not (await perform(store, join("den", "bob", "i2"), Joined)).first
    number = (await perform(store, join("den", "ada"), Joined)).record.number
    await store.commit([leave(number, "ada")])
    assert (await perform(store, join("den", "eve"), Joined)).record.room.members_count == 2


async def test_a_room_without_a_capacity_has_the_greatest_one(store: Store) -> None:
    answers = await store.commit([join("lobby", f"user{place}") for place in range(51)])
    assert [isinstance(answer, Joined) for answer in answers] == [True] * 50 + [False]


async def test_a_closed_room_admits_nobody_and_takes_no_messages(store: Store) -> None:
    record = await perform(store, create("den", code="abc234"), RoomRecord)
    number = record.number
    await store.commit([join("den", "ada"), send(number)])
    assert await store.commit([CloseRoom(number=number)]) == [True]
    assert await store.commit([CloseRoom(number=number)]) == [False]
    assert await refused(store, CloseRoom(number=987_654_321)) == "no_such_room"
    assert await refused(store, join("den", "bob")) == "room_closed"
    assert await refused(store, join("den", "ada")) == "room_closed"
    assert await refused(store, join(None, "bob", code="abc234")) == "room_closed"
    assert await refused(store, send(number)) == "room_closed"
    assert await refused(store, create("den")) == "room_closed"
    assert await store.room(id="den") is None
    assert await store.room(code="abc234") is None
    assert await store.revisions([number]) == {}
    left = await perform(store, leave(number, "ada"), Left)
    assert (left.last, left.members_count) == (True, 0)


async def test_who_asks_for_a_closed_room_is_a_member_of_it_no_more_on_that_instance(store: Store) -> None:
    number = await make_room(store)
    await store.commit([join("lobby", "ada"), join("lobby", "bob"), join("lobby", "bob", "i2")])
    await store.commit([CloseRoom(number=number)])
    assert await refused(store, join("lobby", "ada")) == "room_closed"
    assert await refused(store, join("lobby", "bob")) == "room_closed"
    assert [member.user for member in await store.members(number, 9)] == ["bob"]
    assert await refused(store, join("lobby", "bob")) == "room_closed"
    left = await perform(store, leave(number, "bob", "i2"), Left)
    assert (left.last, left.members_count) == (True, 0)
    assert await store.members(number, 9) == []


async def test_who_asks_for_a_closed_room_of_strangers_is_in_it_no_more(store: Store) -> None:
    ada, _ = await store.commit([match("ada"), match("bob")])
    assert isinstance(ada, Matched)
    number, room = ada.record.number, ada.record.room.id
    await store.commit([CloseRoom(number=number)])
    assert await refused(store, join(room, "ada", create=False)) == "room_closed"
    assert [member.user for member in await store.members(number, 9)] == ["bob"]
    assert await refused(store, join(room, "bob", create=False)) == "room_closed"
    assert await store.members(number, 9) == []


async def test_commands_on_one_room_take_effect_in_the_order_of_the_batch(store: Store) -> None:
    number = await make_room(store)
    answers = await store.commit(
        [
            join("lobby", "bob"),
            leave(number, "ada"),
            send(number, "bob", "one"),
            leave(number, "bob"),
            join("lobby", "eve", members=True),
            CloseRoom(number=number),
            send(number, "eve", "two"),
            join("lobby", "ada"),
        ]
    )
    assert isinstance(answers[1], Left)
    assert (answers[1].last, answers[1].members_count) == (True, 1)
    assert isinstance(answers[2], Sent)
    assert isinstance(answers[3], Left)
    assert (answers[3].last, answers[3].members_count) == (True, 0)
    assert isinstance(answers[4], Joined)
    assert [member.user for member in answers[4].members or []] == ["eve"]
    assert answers[5] is True
    assert [answer.code for answer in answers[6:] if isinstance(answer, Rejected)] == ["room_closed", "room_closed"]


async def test_a_batch_may_create_a_room_and_enter_it(store: Store) -> None:
    answers = await store.commit(
        [
            create("den", code="abc234", capacity=1),
            join("den", "bob"),
            join(None, "eve", code="abc234"),
            join("den", "bob", "i2", members=True),
        ]
    )
    assert isinstance(answers[0], RoomRecord)
    assert isinstance(answers[1], Joined)
    assert isinstance(answers[2], Rejected)
    assert isinstance(answers[3], Joined)
    assert answers[3].record.number == answers[0].number
    assert len(answers[3].members or []) == 1


async def test_one_refusal_leaves_the_other_commands_alone(store: Store) -> None:
    number = await make_room(store)
    answers = await store.commit([send(number), join("nowhere", "ada", create=False), send(number)])
    assert [type(answer) for answer in answers] == [Sent, Rejected, Sent]
    assert len((await store.history(number, limit=10)).messages) == 2


async def test_values_that_cannot_be_stored_are_refused_alone_and_by_name(store: Store) -> None:
    number = await make_room(store)
    batch = [
        send(number, content="good"),
        send(number, content="a\x00b"),
        send(number, content="half \ud800 a pair"),
        send(number, data={"deep": float}),
        join("lob\x00by", "ada"),
        send(number, reply_to=2**70),
        match("bo\x00b"),
        away(number, "ada\x00"),
        join("new room", "eve"),
        send(number, content="good too", data={"kept": ["as", "it", "is", 1.0, None]}),
    ]
    answers = await store.commit(batch)
    codes = [answer.code if isinstance(answer, Rejected) else type(answer) for answer in answers]
    assert codes == [Sent, *["bad_request"] * 7, Joined, Sent]
    told = [answer.message.partition(":")[0] for answer in answers if isinstance(answer, Rejected)]
    assert told == ["content", "content", "data", "room", "reply_to", "user", "user"]
    page = await store.history(number, limit=10)
    assert [message.content for message in page.messages] == ["good", "good too"]


async def test_reading_what_is_not_there_gives_nothing(store: Store) -> None:
    assert await store.room(id="nul\x00") is None
    assert await store.members(987_654_321, 10) == []
    page = await store.history(987_654_321, limit=10)
    assert (page.messages, page.more) == ([], False)
    assert await store.changed_since(987_654_321, 5, 10) == []
    assert await store.changes(987_654_321, after=0, limit=10) == []
    assert await store.revisions([987_654_321]) == {}
    assert await store.revisions([]) == {}
    assert await store.commit([]) == []


async def test_comings_and_goings_of_a_room_have_increasing_stamps(store: Store) -> None:
    number = await make_room(store, "lobby", "ada")
    stamps = []
    for _ in range(3):
        joined = await perform(store, join("lobby", "bob"), Joined)
        again = await perform(store, join("lobby", "bob", "i2"), Joined)
        stays = await perform(store, leave(number, "bob"), Left)
        left = await perform(store, leave(number, "bob", "i2"), Left)
        assert (again.first, stays.last, stays.stamp) == (False, False, 0)
        stamps += [joined.stamp, again.stamp, left.stamp]
    gone = await perform(store, leave(number, "bob"), Left)
    stamps.append(gone.stamp)
    assert stamps[0] > 0
    assert stamps == sorted(set(stamps))


# Leases


async def test_a_lease_is_held_while_it_is_renewed(store: Store) -> None:
    assert await store.renew_lease("i1", 60)
    assert await store.renew_lease("i1", 0.001)
    await trio.sleep(0.01)
    assert not await store.renew_lease("i1", 60)
    assert await store.renew_lease("i1", 60)


async def test_members_of_an_instance_that_stopped_are_away_and_can_be_taken_over(store: Store) -> None:
    await store.renew_lease("i1", 60)
    await store.renew_lease("i2", 60)
    number = await make_room(store, "lobby", "ada", "bob")
    await store.commit([away(number, "bob")])
    assert await store.take_over("i2", 10) == []
    await store.end_lease("i1")
    assert [member.away for member in await store.members(number, 10)] == [True, True]
    taken = await store.take_over("i2", 10)
    assert [(each.member.user, each.member.away) for each in taken] == [("ada", True), ("bob", True)]
    assert all(0 <= each.away_ms < 60_000 for each in taken)
    assert all(each.record.number == number and each.record.room.members_count == 2 for each in taken)
    assert await store.take_over("i2", 10) == []
    back = await perform(store, join("lobby", "ada", "i2"), Joined)
    assert (back.first, back.member.away) == (False, False)
    left = await perform(store, leave(number, "bob", "i2", away_since=taken[1].away_since), Left)
    assert (left.last, left.members_count) == (True, 1)


async def test_members_of_an_instance_that_died_are_away_since_its_lease_ended(store: Store) -> None:
    number = await make_room(store)
    await store.renew_lease("i1", 0.001)
    await trio.sleep(0.01)
    assert (await store.members(number, 10))[0].away
    (taken,) = await store.take_over("i2", 10)
    assert 0 <= taken.away_ms < 60_000
    assert not await store.renew_lease("i1", 60)


async def test_of_instances_that_ended_those_that_stopped_may_be_taken_over_first(store: Store) -> None:
    await store.renew_lease("i1", 0.001)
    await store.renew_lease("i2", 60)
    number = await make_room(store, "lobby", "ada")
    await store.commit([join("lobby", "bob", "i2")])
    await store.end_lease("i2")
    await trio.sleep(0.01)
    (taken,) = await store.take_over("i3", 10, stopped_only=True)
    assert (taken.record.number, taken.member.user) == (number, "bob")
    assert await store.take_over("i3", 10, stopped_only=True) == []
    (taken,) = await store.take_over("i3", 10)
    assert taken.member.user == "ada"


async def test_a_member_who_is_present_on_the_new_instance_is_not_reported(store: Store) -> None:
    await store.renew_lease("i1", 60)
    number = await make_room(store, "lobby", "ada", "bob")
    await store.commit([join("lobby", "ada", "i2"), join("lobby", "bob", "i2")])
    _, before = await store.commit([away(number, "bob", "i1"), away(number, "bob", "i2")])
    assert type(before) is int
    await store.commit([join("lobby", "bob", "i1")])
    await trio.sleep(0.01)
    await store.end_lease("i1")
    # Who was lost again, on the instance that stopped, has the whole grace period anew.
    (taken,) = await store.take_over("i2", 10)
    assert taken.member.user == "bob"
    assert taken.away_since > before
    left = await perform(store, leave(number, "bob", "i2", away_since=before), Left)
    assert not left.last
    assert [member.away for member in await store.members(number, 10)] == [False, True]
    left = await perform(store, leave(number, "ada", "i2"), Left)
    assert (left.last, left.members_count) == (True, 1)


async def test_members_are_taken_over_a_limited_number_at_a_time(store: Store) -> None:
    await store.renew_lease("i1", 60)
    await store.renew_lease("i0", 60)
    await make_room(store, "lobby", "ada", "bob", "eve")
    await make_room(store, "den", "ada", "bob")
    await make_room(store, "den", "ada", instance="i0")
    await store.end_lease("i1")
    await store.end_lease("i0")
    taken = []
    while found := await store.take_over("i2", 2):
        assert len(found) <= 2
        taken += found
    assert sorted((each.record.room.id, each.member.user) for each in taken) == [
        ("den", "ada"),
        ("den", "bob"),
        ("lobby", "ada"),
        ("lobby", "bob"),
        ("lobby", "eve"),
    ]
    assert await store.take_over("i2", 2) == []


async def test_a_matched_member_is_taken_over_into_the_same_room(store: Store) -> None:
    await store.renew_lease("i1", 60)
    first = await perform(store, match("ada"), Matched)
    await perform(store, match("bob", instance="i2"), Matched)
    await store.end_lease("i1")
    (taken,) = await store.take_over("i2", 10)
    assert (taken.record.number, taken.record.room.members_count) == (first.record.number, 2)
    again = await perform(store, match("ada", instance="i2"), Matched)
    assert again.record.number == first.record.number
    assert again.peer is not None
    assert again.peer.user == "bob"
