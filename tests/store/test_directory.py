"""Who is where, and what was answered before, in Postgres."""

from __future__ import annotations

import trio

from catfish.rooms.commands import Away, CloseRoom, Join, Leave
from catfish.rooms.directory import KeptAnswer
from catfish.store.postgres import PostgresStore
from tests.store.commands import make_room

ANSWER = KeptAnswer(status=201, kind="application/json", body=b'{"a":1}')


def join(user: str, room: str = "lobby", instance: str = "one") -> Join:
    return Join(room=room, code=None, create=True, user=user, name=user.title(), instance=instance, with_members=False)


async def test_members_come_in_pages_in_the_order_in_which_they_entered(postgres: PostgresStore) -> None:
    number = await make_room(postgres)
    users = [f"user{place}" for place in range(5)]
    for user in users:
        await postgres.commit([join(user), join(user, instance="two")])
    await postgres.commit([Leave(number=number, user="user0", instance="one")])
    found, after = [], 0
    while True:
        page = await postgres.directory.members(number, after, 2)
        found += [member.user for member in page.members]
        if page.next is None:
            break
        after = page.next
    assert found == ["ada", *users]  # who made the room is in it
    assert (await postgres.directory.members(number, 0, 10)).members == await postgres.members(number, 10)
    assert (await postgres.directory.members(987_654, 0, 10)).members == []


async def test_a_user_is_found_in_all_rooms_on_all_instances(postgres: PostgresStore) -> None:
    await postgres.renew_lease("one", 60)
    first, second, closed = [await make_room(postgres, name) for name in ("first", "second", "closed")]
    for room, instance in (("second", "one"), ("first", "one"), ("first", "two"), ("closed", "one")):
        await postgres.commit([join("ann", room, instance)])
    await postgres.commit([join("bob", "second"), CloseRoom(number=closed)])
    found = await postgres.directory.presence("ann", 10)
    assert [(each.record.number, each.record.room.members_count) for each in found] == [(second, 3), (first, 2)]
    assert [(each.member.user, each.member.name, each.member.away) for each in found] == [("ann", "Ann", False)] * 2
    await postgres.commit([Away(number=second, user="ann", instance="one")])
    assert [each.member.away for each in await postgres.directory.presence("ann", 1)] == [True]
    assert await postgres.directory.presence("nobody", 10) == []
    assert await postgres.directory.presence("a\0b", 10) == []
    assert (await postgres.moderation.seen(first, "ann")).present
    assert not (await postgres.moderation.seen(first, "bob")).present
    assert not (await postgres.moderation.seen(first, "a\0b")).present


async def test_an_answer_is_given_again(postgres: PostgresStore) -> None:
    answers = postgres.answers
    assert await answers.claim("k", "f", 60) == "yours"
    assert await answers.claim("k", "f", 60) == "busy"
    assert await answers.claim("k", "g", 60) == "other"
    await answers.keep("k", ANSWER)
    assert await answers.claim("k", "f", 0) == ANSWER
    assert await answers.claim("k", "g", 60) == "other"
    await answers.release("k")
    assert await answers.claim("k", "f", 60) == ANSWER


async def test_who_failed_or_died_leaves_the_key_to_others(postgres: PostgresStore) -> None:
    answers = postgres.answers
    await answers.claim("k", "f", 60)
    await answers.release("k")
    assert await answers.claim("k", "f", 60) == "yours"
    assert await answers.claim("k", "g", 0) == "other"
    assert await answers.claim("k", "f", 0) == "yours"


async def test_one_of_many_gets_the_key(postgres: PostgresStore) -> None:
    found: list[object] = []

    async def claim() -> None:
        found.append(await postgres.answers.claim("k", "f", 60))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(claim)
    assert sorted(map(str, found)) == ["busy"] * 7 + ["yours"]


async def test_old_answers_are_forgotten(postgres: PostgresStore) -> None:
    await postgres.answers.claim("k", "f", 60)
    await postgres.answers.keep("k", ANSWER)
    await postgres.answers.prune(60)
    assert await postgres.answers.claim("k", "f", 60) == ANSWER
    await postgres.answers.prune(0)
    assert await postgres.answers.claim("k", "f", 60) == "yours"
