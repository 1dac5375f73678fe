"""Several stores on one database, as several instances have them."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack

import trio

from catfish.errors import Rejected
from catfish.rooms.commands import Joined, Left, Matched, Sent
from catfish.rooms.moderation import Removed
from catfish.store.postgres import PostgresStore
from tests.store.commands import away, ban, join, leave, make_room, match, send, unban
from tests.store.conftest import SETTINGS


async def stores(stack: AsyncExitStack, url: str, count: int) -> list[PostgresStore]:
    return [await stack.enter_async_context(PostgresStore(url, SETTINGS)) for _ in range(count)]


async def test_strangers_who_arrive_everywhere_at_once_are_paired(database_url: str) -> None:
    """Nobody waits while another one waits, never three in a room, nobody in two."""
    strangers = 300
    matched: dict[str, Matched] = {}

    async def arrive(store: PostgresStore, instance: int, users: list[str]) -> None:
        draw = random.Random(instance)
        while users:
            batch = [users.pop() for _ in range(min(len(users), draw.choice((1, 1, 2, 3, 7))))]
            answers = await store.commit([match(user, instance=f"i{instance}", room=f"m-{user}") for user in batch])
            for user, answer in zip(batch, answers, strict=True):
                assert isinstance(answer, Matched)
                matched[user] = answer

    async with AsyncExitStack() as stack:
        instances = await stores(stack, database_url, 3)
        async with trio.open_nursery() as nursery:
            for place, store in enumerate(instances):
                nursery.start_soon(arrive, store, place, [f"u{place}-{each}" for each in range(strangers // 3)])
        rooms = Counter(answer.record.number for answer in matched.values())
        assert len(matched) == strangers
        assert set(rooms.values()) == {2}
        for user, answer in matched.items():
            if answer.peer is not None:
                assert matched[answer.peer.user].record.number == answer.record.number
                assert matched[answer.peer.user].peer is None
            assert user in {member.user for member in await instances[0].members(answer.record.number, 5)}


async def test_strangers_who_come_and_go_are_never_three_and_never_in_two_rooms(database_url: str) -> None:
    async def stranger(store: PostgresStore, instance: str, user: str) -> None:
        draw = random.Random(user)
        for _ in range(6):
            (answer,) = await store.commit([match(user, *draw.sample(("go", "tea"), 1), instance=instance)])
            assert isinstance(answer, Matched)
            number = answer.record.number
            assert answer.record.room.members_count <= 2
            members = await store.members(number, 5)
            assert len(members) <= 2, members
            what = draw.random()
            if what < 0.2:
                await store.commit([away(number, user, instance), join(answer.record.room.id, user, instance)])
            if what < 0.8:
                (left,) = await store.commit([leave(number, user, instance)])
                assert isinstance(left, Left)
                assert left.last

    async with AsyncExitStack() as stack:
        instances = await stores(stack, database_url, 3)
        async with trio.open_nursery() as nursery:
            for place in range(30):
                nursery.start_soon(stranger, instances[place % 3], f"i{place % 3}", f"u{place}")
        # Whoever is left is in one room; those who wait are found by those who come now, until nobody waits.
        seen: Counter[str] = Counter()
        for place in range(60):
            (answer,) = await instances[place % 3].commit([match(f"late{place}", instance="i1")])
            assert isinstance(answer, Matched)
            if answer.peer is not None:
                seen[answer.peer.user] += 1
                assert len(await instances[0].members(answer.record.number, 5)) == 2
        assert set(seen.values()) <= {1}


async def test_rooms_named_in_any_order_never_deadlock(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        instances = await stores(stack, database_url, 3)
        numbers = [await make_room(instances[0], f"room{place}") for place in range(8)]
        sent: list[tuple[int, int, int]] = []

        async def write(store: PostgresStore, seed: int) -> None:
            draw = random.Random(seed)
            for _ in range(40):
                named = [draw.choice(numbers) for _ in range(10)]
                answers = await store.commit([send(number, f"user{seed}") for number in named])
                for number, answer in zip(named, answers, strict=True):
                    assert isinstance(answer, Sent)
                    sent.append((number, answer.message.seq, answer.revision))

        async with trio.open_nursery() as nursery:
            for seed, store in enumerate(instances):
                nursery.start_soon(write, store, seed)
        assert sum(store.statistics().commits.conflicts for store in instances) == 0
        for number in numbers:
            seqs = sorted(seq for each, seq, _ in sent if each == number)
            assert seqs == [*range(1, len(seqs) + 1)]
        assert len({(number, revision) for number, _, revision in sent}) == len(sent) == 1200


async def test_a_room_that_everybody_opens_at_once_is_one_room(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        instances = await stores(stack, database_url, 3)
        joined: list[Joined] = []

        async def enter(store: PostgresStore, instance: int) -> None:
            for start in range(0, 20, 4):
                rooms = [f"room{place}" for place in range(start, start + 4)]
                random.Random(instance).shuffle(rooms)
                answers = await store.commit([join(room, f"user{instance}", f"i{instance}") for room in rooms])
                joined.extend(answer for answer in answers if isinstance(answer, Joined))

        async with trio.open_nursery() as nursery:
            for instance, store in enumerate(instances):
                nursery.start_soon(enter, store, instance)
        assert len(joined) == 60
        assert len({(each.record.number, each.record.room.id) for each in joined}) == 20
        counts = [(await instances[0].room(id=f"room{place}")) for place in range(20)]
        assert all(record is not None and record.room.members_count == 3 for record in counts)


async def test_nobody_slips_in_or_speaks_while_it_is_banned_elsewhere(database_url: str) -> None:
    """Whatever comes between, once the ban is answered the user is out and silent, and what it said lies before."""
    said: list[int] = []

    async def insist(store: PostgresStore, number: int, done: trio.Event) -> None:
        while True:
            banned = done.is_set()
            answers = await store.commit([join("lobby", "bob", "i2"), send(number, "bob")])
            said.extend(answer.message.seq for answer in answers if isinstance(answer, Sent))
            if banned:
                assert [answer.code for answer in answers if isinstance(answer, Rejected)] == ["banned", "banned"]
                return

    async with AsyncExitStack() as stack:
        one, other = await stores(stack, database_url, 2)
        number = await make_room(one, "lobby", "ada")
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                done = trio.Event()
                nursery.start_soon(insist, other, number, done)
                await trio.sleep(0.01)
                (answer,) = await one.commit([ban(number, "ada", "bob")])
                assert isinstance(answer, Removed)
                assert [member.user for member in await one.members(number, 5)] == ["ada"]
                (sent,) = await one.commit([send(number, "ada")])
                assert isinstance(sent, Sent)
                assert sent.message.seq > max(said, default=0)
                done.set()
            await one.commit([unban(number, "ada", "bob")])
        page = await one.history(number, limit=1_000)
        assert [message.seq for message in page.messages] == list(range(1, len(said) + 6))
