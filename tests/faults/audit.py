"""What must hold after every fault, once the clients pause for breath."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from tests.e2e.process import until
from tests.faults.cluster import GRACE_S, LEASE_S, POOL, Cluster
from tests.faults.people import Person
from tests.faults.resources import Use

RECOVERY_S = 90.0
"""Within which everything that was sent is acknowledged again, or refused."""
SETTLE_S = 2 * LEASE_S + GRACE_S + 60.0
DESCRIPTORS_MORE = POOL + 4
"""The pool of connections to the database grows with the load and shrinks after minutes."""
MEMORY_MORE_KIB = 30_000
MESSAGES = """select r.id, m.seq, m.user_id, m.content from messages m join rooms r on r.number = m.room"""
MEMBERS = """select r.id, m.user_id, bool_and(m.away_since is not null) from members m join rooms r on r.number = m.room
group by 1, 2"""


async def audit(cluster: Cluster, people: Sequence[Person], after: str) -> None:
    """Raises AssertionError: a promise is broken."""
    for person in people:
        person.talking = False
    with trio.move_on_after(RECOVERY_S):
        await until(lambda: not any(person.sending for person in people))
    waiting = [person.label for person in people if person.sending]
    assert not waiting, f"{after}: {waiting} wait for an acknowledgement"
    stored: dict[str, dict[int, tuple[str, str]]] = {person.room: {} for person in people}
    for room, seq, user, content in await cluster.query(MESSAGES):
        stored[room][seq] = user, content
    with trio.move_on_after(SETTLE_S):
        await until(lambda: all(person.last_seq == len(stored[person.room]) for person in people))
    for person in people:
        check_messages(person, stored[person.room], after)
    await check_members(cluster, people, after)
    await check_connections(cluster, len(people), after)
    problems = {person.label: person.problems for person in people if person.problems}
    assert not problems, f"{after}: {problems}"
    await cluster.healthy()


def check_messages(person: Person, stored: dict[int, tuple[str, str]], after: str) -> None:
    who = f"{after}: {person.label} in {person.room}"
    assert sorted(stored) == list(range(1, len(stored) + 1)), f"{who}: the store has a gap"
    for seq, content in person.acknowledged.items():
        assert stored.get(seq) == (person.user, content), (
            f"{who}: {content!r} was acknowledged as {seq} and is not there"
        )
    sent = [content for user, content in stored.values() if user == person.user]
    assert len(sent) == len(set(sent)), f"{who}: a message is stored twice"
    assert person.last_seq == len(stored), f"{who}: heard to {person.last_seq} of {len(stored)}"
    for life in person.lives:
        expected = list(range(life[0], life[-1] + 1)) if life else []
        assert life == expected, f"{who}: heard {_difference(life, expected)}"
    for seq, heard in person.contents.items():
        assert heard == stored[seq][1], f"{who}: heard {heard!r} as {seq}, stored is {stored[seq]}"


async def check_members(cluster: Cluster, people: Sequence[Person], after: str) -> None:
    """No ghosts a lease later, and nobody is missing."""
    truth: dict[str, set[str]] = {}
    for person in people:
        truth.setdefault(person.room, set()).add(person.user)

    async def stored() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for room, user, away in await cluster.query(MEMBERS):
            found.setdefault(room, set()).add(f"{user} (away)" if away else user)
        return found

    now: dict[str, set[str]] = {}
    with trio.move_on_after(SETTLE_S):
        while (now := await stored()) != truth:  # noqa: ASYNC110 - nobody here could set an event
            await trio.sleep(0.2)
    wrong = {room: now.get(room, set()) ^ truth.get(room, set()) for room in {*now, *truth}}
    assert now == truth, f"{after}: wrong in the store: { {room: who for room, who in wrong.items() if who} }"
    with trio.move_on_after(SETTLE_S):
        async with trio.open_nursery() as asking:
            for person in people:
                asking.start_soon(person.look_around)
        await until(lambda: all(person.members == truth[person.room] for person in people))
    wrong = {person.label: person.members ^ truth[person.room] for person in people}
    assert not any(wrong.values()), f"{after}: wrong about {[(user, who) for user, who in wrong.items() if who]}"


async def check_connections(cluster: Cluster, count: int, after: str) -> None:
    """Those of clients that are gone are closed."""
    with trio.move_on_after(SETTLE_S):
        await until(lambda: sum(use.connections for use in cluster.measure()) == count)
    open_now = [use.connections for use in cluster.measure()]
    assert sum(open_now) == count, f"{after}: {open_now} connections are open, for {count} clients"


async def check_end(cluster: Cluster, before: Sequence[Use], after: str) -> None:
    """Everybody has left: nothing of them is there any more. `before`: what was used before anybody came."""
    await check_members(cluster, (), after)
    await check_connections(cluster, 0, after)
    for instance in cluster.instances:
        health: dict[str, object] = {}
        with trio.move_on_after(SETTLE_S):
            while health.get("rooms") != 0:
                health = await cluster.health(instance)
                await trio.sleep(0.1)
        assert (health["rooms"], health["connections"]) == (0, 0), f"{after}: {health}"
    for use, then in zip(cluster.measure(), before, strict=True):
        assert use.descriptors <= then.descriptors + DESCRIPTORS_MORE, f"{after}: {use}, before {then}"
        assert use.memory_kib <= then.memory_kib + MEMORY_MORE_KIB, f"{after}: {use}, before {then}"


def _difference(heard: list[int], expected: list[int]) -> str:
    twice = [seq for seq in set(heard) if heard.count(seq) > 1]
    missing, order = sorted(set(expected) - set(heard)), heard == sorted(heard)
    return f"to {heard[-1]} of {expected[-1]}, missing {missing[:10]}, twice {twice[:10]}, in order: {order}"
