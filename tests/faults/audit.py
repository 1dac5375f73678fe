"""What must hold after every fault, once the clients pause for breath."""

from __future__ import annotations

import trio

from tests.e2e.process import until
from tests.faults.cluster import GRACE_S, LEASE_S, Cluster
from tests.faults.people import Person

RECOVERY_S = 60.0
"""Within which everything that was sent is acknowledged again."""
SETTLE_S = 2 * LEASE_S + GRACE_S + 30.0
MESSAGES = """select r.id, m.seq, m.user_id, m.content from messages m join rooms r on r.number = m.room"""
MEMBERS = """select r.id, m.user_id, bool_and(m.away_since is not null) from members m join rooms r on r.number = m.room
group by 1, 2"""


async def audit(cluster: Cluster, people: list[Person], after: str) -> None:
    """Raises AssertionError: a promise is broken."""
    for person in people:
        person.talking = False
    with trio.move_on_after(RECOVERY_S):
        await until(lambda: not any(person.sending for person in people))
    waiting = [person.user for person in people if person.sending]
    assert not waiting, f"{after}: {waiting} wait for an acknowledgement"
    stored: dict[str, dict[int, tuple[str, str]]] = {}
    for room, seq, user, content in await cluster.query(MESSAGES):
        stored.setdefault(room, {})[seq] = user, content
    with trio.move_on_after(SETTLE_S):
        await until(lambda: all(person.seqs and person.seqs[-1] == len(stored[person.room]) for person in people))
    for person in people:
        check_messages(person, stored[person.room], after)
    await check_members(cluster, people, after)
    problems = {person.user: person.problems for person in people if person.problems}
    assert not problems, f"{after}: {problems}"
    for person in people:
        person.talking = True


def check_messages(person: Person, stored: dict[int, tuple[str, str]], after: str) -> None:
    who = f"{after}: {person.user} in {person.room}"
    assert sorted(stored) == list(range(1, len(stored) + 1)), f"{who}: the store has a gap"
    for seq, content in person.acknowledged.items():
        assert stored[seq] == (person.user, content), f"{who}: {content!r} was acknowledged as {seq} and is not there"
    sent = [content for user, content in stored.values() if user == person.user]
    assert len(sent) == len(set(sent)), f"{who}: a message is stored twice"
    expected = list(range(person.seqs[0], len(stored) + 1))
    assert person.seqs == expected, f"{who}: heard {_difference(person.seqs, expected)}"
    for seq, heard in person.contents.items():
        assert heard == stored[seq][1], f"{who}: heard {heard!r} as {seq}, stored is {stored[seq]}"


async def check_members(cluster: Cluster, people: list[Person], after: str) -> None:
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
    assert now == truth, f"{after}: members in the store: { {room: now.get(room) for room in truth} }"
    with trio.move_on_after(SETTLE_S):
        await until(lambda: all(person.members == truth[person.room] for person in people))
    wrong = {person.user: person.members ^ truth[person.room] for person in people}
    assert not any(wrong.values()), f"{after}: wrong about {[(user, who) for user, who in wrong.items() if who]}"


def _difference(heard: list[int], expected: list[int]) -> str:
    twice = [seq for seq in set(heard) if heard.count(seq) > 1]
    return f"to {heard[-1]} of {expected[-1]}, missing {sorted(set(expected) - set(heard))[:10]}, twice {twice[:10]}"
