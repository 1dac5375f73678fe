"""Matching two strangers: what both stores promise."""

from __future__ import annotations

from catfish.rooms.commands import CloseRoom, Joined, Left, Matched
from catfish.rooms.model import RoomKind
from catfish.rooms.ports import Store
from tests.store.commands import away, join, leave, match, perform, refused, rematch


async def pair(store: Store, one: str = "ada", other: str = "bob") -> int:
    """Two who were matched; the number of their room."""
    await perform(store, match(one), Matched)
    return (await perform(store, match(other), Matched)).record.number


async def test_the_first_waits_and_the_second_is_matched_with_it(store: Store) -> None:
    first = await perform(store, match("ada", room="m-1"), Matched)
    assert first.peer is None
    assert (first.record.room.id, first.record.room.kind, first.record.room.capacity) == ("m-1", RoomKind.MATCHED, 2)
    assert (first.record.room.members_count, first.member.user, first.record.created_by) == (1, "ada", "ada")
    second = await perform(store, match("bob", room="m-2"), Matched)
    assert second.record.number == first.record.number
    assert second.record.room.members_count == 2
    assert second.peer == first.member
    assert await store.room(id="m-2") is None
    assert [member.user for member in await store.members(first.record.number, 10)] == ["ada", "bob"]


async def test_a_batch_of_strangers_is_paired(store: Store) -> None:
    answers = await store.commit([match(f"user{place}") for place in range(7)])
    assert all(isinstance(answer, Matched) and answer.record.number for answer in answers)
    rooms = [answer.record.room.id for answer in answers if isinstance(answer, Matched)]
    assert rooms[0] == rooms[1] != rooms[2] == rooms[3] != rooms[4] == rooms[5] != rooms[6]
    peers = [answer.peer.user if answer.peer else None for answer in answers if isinstance(answer, Matched)]
    assert peers == [None, "user0", None, "user2", None, "user4", None]


async def test_who_waits_already_keeps_waiting_in_the_same_room(store: Store) -> None:
    first = await perform(store, match("ada"), Matched)
    again = await perform(store, match("ada"), Matched)
    elsewhere = await perform(store, match("ada", instance="i2"), Matched)
    assert again.record == first.record == elsewhere.record
    assert (again.peer, elsewhere.peer) == (None, None)
    assert (await perform(store, match("bob"), Matched)).record.number == first.record.number


async def test_who_is_matched_already_gets_the_same_room_and_peer(store: Store) -> None:
    number = await pair(store)
    again = await perform(store, match("ada"), Matched)
    assert again.record.number == number
    assert again.peer is not None
    assert again.peer.user == "bob"
    assert again.record.room.members_count == 2


async def test_nobody_is_matched_with_itself(store: Store) -> None:
    answers = await store.commit([match("ada"), match("ada")])
    assert [answer.peer for answer in answers if isinstance(answer, Matched)] == [None, None]


async def test_those_to_be_avoided_are_avoided(store: Store) -> None:
    ada = await perform(store, match("ada"), Matched)
    bob = await perform(store, match("bob", avoid=("ada",)), Matched)
    assert bob.peer is None
    assert bob.record.number != ada.record.number
    eve = await perform(store, match("eve", avoid=("ada",)), Matched)
    assert eve.peer is not None
    assert eve.peer.user == "bob"


async def test_common_interests_come_first_and_then_who_waits_longest(store: Store) -> None:
    waiting = [("ada", ("go",)), ("bob", ("chess", "go")), ("cyd", ("chess", "go")), ("dan", ())]
    for place, (user, interests) in enumerate(waiting):
        others = tuple(other for other, _ in waiting[:place])
        assert (await perform(store, match(user, *interests, avoid=others), Matched)).peer is None
    peers = []
    for user, interests in (("u1", ("chess", "go", "tea")), ("u2", ("go", "chess")), ("u3", ()), ("u4", ("chess",))):
        peer = (await perform(store, match(user, *interests), Matched)).peer
        peers.append(peer.user if peer else None)
    assert peers == ["bob", "cyd", "ada", "dan"]


async def test_who_stays_waits_again_in_the_same_room_with_its_interests(store: Store) -> None:
    await perform(store, match("ada", "go"), Matched)
    number = (await perform(store, match("bob", "tea"), Matched)).record.number
    left = await perform(store, leave(number, "ada"), Left)
    assert (left.last, left.members_count) == (True, 1)
    assert (await perform(store, match("zoe", avoid=("bob",)), Matched)).peer is None
    eve = await perform(store, match("eve", "tea"), Matched)
    assert eve.record.number == number
    assert eve.peer is not None
    assert eve.peer.user == "bob"
    assert [member.user for member in await store.members(number, 10)] == ["bob", "eve"]


async def test_two_who_wait_apart_are_brought_together(store: Store) -> None:
    number = await pair(store)  # ada and bob
    waiting = await perform(store, match("eve", "tea"), Matched)
    assert waiting.peer is None
    await perform(store, leave(number, "ada"), Left)
    moved = await perform(store, rematch(number, "bob"), Matched)
    assert moved.record.number == waiting.record.number
    assert moved.peer is not None
    assert (moved.peer.user, moved.member.user, moved.stamp > 0) == ("eve", "bob", True)
    assert [member.user for member in await store.members(moved.record.number, 10)] == ["eve", "bob"]
    assert await store.revisions([number]) == {}
    # Asked again, because the answer was lost, it is the same.
    again = await perform(store, rematch(number, "bob"), Matched)
    assert again.record.number == moved.record.number
    assert again.peer is not None
    assert (again.peer.user, again.member.user, again.stamp > moved.stamp) == ("eve", "bob", True)
    # Neither waits any more, and who comes next waits alone.
    assert (await perform(store, match("zoe"), Matched)).peer is None
    for user in ("bob", "eve"):
        assert await store.commit([rematch(moved.record.number, user)]) == [None]


async def test_who_waits_on_two_instances_is_moved_by_one_of_them(store: Store) -> None:
    number = await pair(store)
    waiting = await perform(store, match("eve"), Matched)
    await store.commit([leave(number, "ada"), join(waiting.record.room.id, "eve", "i2", create=False)])
    await store.commit([away(waiting.record.number, "eve", "i2")])
    assert await store.commit([rematch(waiting.record.number, "eve", "i2")]) == [None]
    moved = await perform(store, rematch(waiting.record.number, "eve", "i1"), Matched)
    assert moved.record.number == number
    assert await store.members(waiting.record.number, 10) == []
    left = await perform(store, leave(waiting.record.number, "eve", "i2"), Left)
    assert (left.last, left.members_count) == (True, 0)


async def test_who_waits_alone_or_not_at_all_stays_where_it_is(store: Store) -> None:
    number = await pair(store)
    assert (
        await store.commit([rematch(number, "ada"), rematch(number, "nobody"), rematch(987_654, "ada")]) == [None] * 3
    )
    await perform(store, leave(number, "ada"), Left)
    assert await store.commit([rematch(number, "bob")]) == [None]
    waiting = await perform(store, match("eve", avoid=("bob",)), Matched)
    await store.commit([away(waiting.record.number, "eve")])
    assert await store.commit([rematch(number, "bob")]) == [None]
    assert (await store.commit([away(number, "bob"), rematch(number, "bob")]))[1] is None


async def test_two_who_look_for_each_other_at_once_move_only_one(store: Store) -> None:
    first, second = await pair(store), await pair(store, "cyd", "dan")
    await store.commit([leave(first, "ada"), leave(second, "cyd")])
    answers = await store.commit([rematch(first, "bob"), rematch(second, "dan")])
    assert [type(answer) for answer in answers] == [Matched, type(None)]
    assert [member.user for member in await store.members(second, 10)] == ["dan", "bob"]


async def test_a_room_that_both_left_is_closed_and_nobody_waits_in_it(store: Store) -> None:
    number = await pair(store)
    await store.commit([leave(number, "ada"), leave(number, "bob")])
    assert await store.revisions([number]) == {}
    eve = await perform(store, match("eve"), Matched)
    assert eve.peer is None
    assert eve.record.number != number
    assert await refused(store, join(f"{eve.record.room.id}", "ada")) == "forbidden"


async def test_leaving_and_seeking_the_next_one_in_one_batch(store: Store) -> None:
    number = await pair(store)
    answers = await store.commit([leave(number, "ada"), match("ada", avoid=("bob",)), match("eve")])
    assert isinstance(answers[1], Matched)
    assert answers[1].peer is None
    assert answers[1].record.number != number
    assert isinstance(answers[2], Matched)
    assert answers[2].peer is not None
    assert answers[2].peer.user == "bob", "bob has waited for longer than ada"


async def test_a_matched_room_admits_its_two_members_only(store: Store) -> None:
    number = await pair(store)
    record = await store.room(id=(await perform(store, match("ada"), Matched)).record.room.id)
    assert record is not None
    assert await refused(store, join(record.room.id, "eve")) == "forbidden"
    again = await perform(store, join(record.room.id, "bob", "i2", members=True), Joined)
    assert not again.first
    assert [member.user for member in again.members or []] == ["ada", "bob"]
    assert again.record.number == number


async def test_an_away_stranger_is_passed_over_until_it_is_back(store: Store) -> None:
    ada = await perform(store, match("ada"), Matched)
    number = ada.record.number
    await store.commit([away(number, "ada")])
    bob = await perform(store, match("bob"), Matched)
    assert bob.peer is None
    await perform(store, join(ada.record.room.id, "ada"), Joined)
    eve = await perform(store, match("eve"), Matched)
    assert eve.record.number == number
    assert eve.peer is not None
    assert eve.peer.user == "ada"


async def test_who_seeks_again_while_away_is_back_in_the_same_room(store: Store) -> None:
    number = await pair(store)
    await store.commit([away(number, "ada")])
    back = await perform(store, match("ada"), Matched)
    assert back.record.number == number
    assert not back.member.away
    assert [member.away for member in await store.members(number, 10)] == [False, False]


async def test_whose_instance_is_dead_is_passed_over(store: Store) -> None:
    await store.renew_lease("i1", 60)
    await perform(store, match("ada", instance="i1"), Matched)
    await store.end_lease("i1")
    assert (await perform(store, match("bob", instance="i2"), Matched)).peer is None


async def test_in_a_closed_room_nobody_waits(store: Store) -> None:
    ada = await perform(store, match("ada"), Matched)
    assert await store.commit([CloseRoom(number=ada.record.number)]) == [True]
    bob = await perform(store, match("bob"), Matched)
    assert bob.peer is None
    again = await perform(store, match("ada"), Matched)
    assert again.peer is not None
    assert again.record.number == bob.record.number


async def test_waiting_while_others_write_into_the_room(store: Store) -> None:
    ada = await perform(store, match("ada"), Matched)
    number = ada.record.number
    answers = await store.commit([away(number, "ada"), join(ada.record.room.id, "ada"), match("bob")])
    assert isinstance(answers[2], Matched)
    assert answers[2].record.number == number
    answers = await store.commit([leave(number, "bob"), match("eve"), leave(number, "ada"), match("zoe")])
    assert isinstance(answers[1], Matched)
    assert answers[1].record.number == number
    assert isinstance(answers[3], Matched)
    assert answers[3].peer is not None
    assert answers[3].peer.user == "eve"
