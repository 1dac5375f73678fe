"""Random batches of commands: the real store answers what the double answers, and ends in the same state.

Numbers of rooms and ids of messages differ where a transaction was rolled back, so they are compared by what they name.
"""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import pytest

from catfish.errors import Rejected
from catfish.rooms.commands import (
    Answer,
    CloseRoom,
    Command,
    CreateRoom,
    Joined,
    MarkRead,
    Match,
    Matched,
    RoomRecord,
    Sent,
)
from catfish.rooms.model import Access, Role, RoomKind
from catfish.rooms.ports import Store
from catfish.store.postgres import PostgresStore
from tests.doubles.memory_store import MemoryStore
from tests.store.commands import (
    NOW,
    away,
    ban,
    create,
    delete,
    edit,
    invite,
    join,
    kick,
    leave,
    match,
    mute,
    react,
    rematch,
    send,
    set_role,
    unban,
)
from tests.store.conftest import SETTINGS

USERS = ("ada", "bob", "cyd", "dan", "eve")
INSTANCES = ("i1", "i2", "i3")
ROOMS = ("lobby", "den", "attic")
CODES = {"den": "den222", "attic": "att222"}
INTERESTS = ("go", "tea", "chess")
KINDS = ((RoomKind.PRIVATE, None), (RoomKind.OPEN, None), (RoomKind.MATCHED, None), (RoomKind.PRIVATE, Access.MEMBERS),
         (RoomKind.PRIVATE, Access.INVITED))  # fmt: skip
ADDRESSES = (None, "10.0.0.1", "10.0.0.2")
ROLES = (Role.MODERATOR, Role.MEMBER, Role.NONE)
SOON_MS, LATER_MS = 0, 3_600_000
"""Durations that nobody sees the end of meanwhile."""
SEEDS = int(os.environ.get("CATFISH_TEST_SEEDS", "10"))
"""More of them look at more; a seed that fails is printed with the name of its test."""
UNKNOWN = 987_654_321
FAR = 2**52
"""A time that has not come."""


class Player:
    """Draws commands and plays them on one store; the same seed draws the same commands for every store."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.numbers: dict[str, int] = {}
        self.drawn = 0

    def command(self) -> Command:
        draw = self.random
        user, instance, room = draw.choice(USERS), draw.choice(INSTANCES), draw.choice(ROOMS)
        names = [*ROOMS, *sorted(name for name in self.numbers if name.startswith("m-"))]
        number = self.numbers.get(draw.choice(names), UNKNOWN)
        seq, at = draw.randint(1, 12), NOW + draw.randint(0, 1000)
        other, by = draw.choice(USERS), draw.choice((*USERS, "server"))
        kind, access = draw.choice(KINDS)
        self.drawn += 1

        def chance(of: float) -> bool:
            return draw.random() < of

        choices: list[tuple[int, Any]] = [
            (6, lambda: send(number, user, f"text {self.drawn}", f"c{draw.randint(1, 40)}", data={"n": self.drawn})),
            (4, lambda: join(draw.choice(names), user, instance, create=chance(0.5), members=chance(0.5),
                             address=draw.choice(ADDRESSES), restores=draw.choice((0, 0, 0, 1)))),
            (1, lambda: join(None, user, instance, code=draw.choice(list(CODES.values())), create=False)),
            (1, lambda: create(room, user, kind=kind, access=access, code=CODES.get(room), capacity=3)),
            (5, lambda: leave(number, user, instance, away_since=draw.choice((None, None, None, 0, FAR)))),
            (3, lambda: away(number, user, instance)),
            (2, lambda: rematch(number, user, instance)),
            (5, lambda: match(user, *draw.sample(INTERESTS, draw.randint(0, 2)), instance=instance,
                              avoid=tuple(draw.sample(USERS, draw.randint(0, 1))), room=f"m-{self.drawn}",
                              pause_ms=draw.choice((0, LATER_MS)))),
            (1, lambda: set_role(number, by, other, draw.choice(ROLES))),
            (1, lambda: invite(number, by, other)),
            (1, lambda: mute(number, by, other, draw.choice((SOON_MS, LATER_MS, None)))),
            (1, lambda: kick(number, by, other)),
            (1, lambda: ban(number, by, other, draw.choice((LATER_MS, None)), address=chance(0.5))),
            (1, lambda: unban(number, by, other)),
            (2, lambda: edit(number, seq, f"edited {self.drawn}", user, at)),
            (1, lambda: delete(number, seq, user, at)),
            (3, lambda: react(number, seq, user, draw.choice("👍🎉"), chance(0.6), at)),
            (2, lambda: MarkRead(number=number, user=user, seq=seq)),
            (chance(0.05), lambda: CloseRoom(number=number)),
            (chance(0.1), lambda: send(number, user, "nul \x00")),
        ]  # fmt: skip
        weights = [weight for weight, _ in choices]
        chosen: Command = draw.choices(choices, weights)[0][1]()
        return chosen

    async def step(self) -> tuple[list[Command], list[Any]]:
        """One batch, or something an instance does; what came of it, in a form that both stores share."""
        draw = self.random
        instance, other = draw.sample(INSTANCES, 2)
        event = draw.random()
        if event > 0.95:
            user, friend = draw.sample(USERS, 2)
            return [], [await self.store.moderation.block(user, friend, draw.random() < 0.6)]
        if event < 0.06:
            await self.store.end_lease(instance)
            taken = []
            limit = draw.choice((1, 3, 100))
            if draw.random() < 0.7:
                while found := await self.store.take_over(other, limit):
                    taken += [shared(each, self) for each in found]
            return [], [await self.store.renew_lease(instance, 600), sorted(taken, key=repr)]
        batch = [self.command() for _ in range(draw.choice((1, 1, 2, 5, 12)))]
        answers = await self.store.commit(batch)
        for command, answer in zip(batch, answers, strict=True):
            self.learn(command, answer)
        return batch, [
            # Which of two reasons a refusal names is not promised.
            "Rejected" if "\\x00" in repr(command) and isinstance(answer, Rejected) else shared(answer, self)
            for command, answer in zip(batch, answers, strict=True)
        ]

    def learn(self, command: Command, answer: Answer | Rejected) -> None:
        if isinstance(answer, Joined | Matched):
            answer = answer.record
        if isinstance(answer, RoomRecord):
            assert isinstance(command, (CreateRoom, Match)) or answer.room.id
            self.numbers[answer.room.id] = answer.number

    async def state(self) -> list[Any]:
        """Everything that can be read."""
        told: list[Any] = []
        for name, number in sorted(self.numbers.items()):
            told.append(shared(await self.store.room(id=name), self))
            told.append(shared(await self.store.members(number, 100), self))
            told.append(shared(await self.store.history(number, limit=100), self))
            told.append(shared(await self.store.changes(number, after=0, limit=1000), self))
            told.append(shared(await self.store.changed_since(number, 4, 100), self))
            told.append(list((await self.store.revisions([number])).values()))
            standings = (await self.store.moderation.standings(number, "", 100)).standings
            told.append([(each.user, each.role, each.muted_until > 0, each.banned_until > 0) for each in standings])
        return told


def shared(answer: Any, player: Player) -> Any:
    """Without what differs from store to store: numbers, ids, the database's time."""
    if isinstance(answer, Rejected):
        return "Rejected", answer.code
    if type(answer) is int:
        return "away since"
    if isinstance(answer, Sent) and answer.repeated:
        # Whether the message already shows what the same batch did to it is not promised.
        return "Sent before", answer.message.seq, answer.revision
    names = {number: name for name, number in player.numbers.items()}

    def clean(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            dropped = {"since", "away_since"} | ({"id"} if "seq" in value and "user" in value else set())
            kept = {key: clean(item) for key, item in value.items() if key not in dropped}
            if "number" in kept:
                kept["number"] = names.get(kept["number"], "new")
                del kept["room"]["createdAt"]
            for name in kept.keys() & {"until", "muted_until"}:
                kept[name] = kept[name] > 0
            for name in kept.keys() & {"away_ms", "stamp"}:
                kept[name] = kept[name] > 0 or name == "away_ms"
            return kept
        return value

    return type(answer).__name__, clean(msgspec.to_builtins(answer))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_double_and_the_real_store_do_the_same(database_url: str, seed: int) -> None:
    async with PostgresStore(database_url, SETTINGS) as real:
        players = [Player(MemoryStore(room_capacity_max=SETTINGS.room_capacity_max), seed), Player(real, seed)]
        for player in players:
            for instance in INSTANCES:
                await player.store.renew_lease(instance, 600)
        for step in range(60):
            (batch, expected), (_, told) = [await player.step() for player in players]
            assert told == expected, (step, batch)
        expected, told = [await player.state() for player in players]
        assert told == expected
