"""Guests get no ids of those who sign in; and how few statements that takes."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import Rejected
from catfish.rooms.ports import StoreUnavailable
from catfish.server.registry import KNOWN_MAX, Registry


class Identities:
    """Implements `rooms.accounts.IdentityStore` in memory."""

    def __init__(self, *users: str) -> None:
        self.users = set(users)
        self.calls: list[set[str]] = []
        self.away = False
        self.hold: trio.Event | None = None

    async def registered(self, users: Collection[str]) -> set[str]:
        self.calls.append(set(users))
        asked = set(users)
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise StoreUnavailable
        return asked & self.users

    async def register(self, users: Collection[str]) -> set[str]:
        self.calls.append(set(users))
        if self.away:
            raise StoreUnavailable
        new = set(users) - self.users
        self.users |= new
        return new


def make(*users: str) -> tuple[Registry, Identities]:
    registry, store = Registry(), Identities(*users)
    registry.store = store
    return registry, store


async def outcome(registry: Registry, user: str) -> str:
    try:
        await registry.check(user)
    except Rejected as refusal:
        return refusal.code
    return "free"


async def test_ids_of_those_who_sign_in_are_taken() -> None:
    registry, _ = make("ann")
    assert await outcome(registry, "ann") == "user_taken"
    assert await outcome(registry, "bob") == "free"
    assert registry.note("bob")
    assert await outcome(registry, "bob") == "user_taken"
    assert not registry.note("bob")


async def test_without_a_store_those_are_known_who_came_here() -> None:
    registry = Registry()
    registry.note("ann")
    assert await outcome(registry, "ann") == "user_taken"
    assert await outcome(registry, "bob") == "free"


async def test_however_many_ask_at_once_two_statements_do(nursery: trio.Nursery) -> None:
    registry, store = make("u-7", "u-77")
    store.hold = trio.Event()
    answers: dict[str, str] = {}

    async def ask(user: str) -> None:
        answers[user] = await outcome(registry, user)

    for number in range(100):
        nursery.start_soon(ask, f"u-{number}")
    await wait_all_tasks_blocked()
    assert len(store.calls) == 1
    store.hold.set()
    await wait_all_tasks_blocked()
    assert {user for user, answer in answers.items() if answer == "user_taken"} == {"u-7", "u-77"}
    assert len(answers) == 100
    assert len(store.calls) == registry.queries <= 2


async def test_who_signs_in_while_a_guest_asks_for_the_id_gets_it(nursery: trio.Nursery) -> None:
    registry, store = make()
    store.hold = trio.Event()
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await outcome(registry, "ann"))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    registry.note("ann")
    store.hold.set()
    await wait_all_tasks_blocked()
    assert answers == ["user_taken"]


async def test_a_guest_who_goes_away_takes_no_answer_with_it(nursery: trio.Nursery) -> None:
    registry, store = make("ann")
    store.hold = trio.Event()
    first = await nursery.start(in_scope, registry, "ann")
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await outcome(registry, "ann"))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    first.cancel()
    store.hold.set()
    await wait_all_tasks_blocked()
    assert answers == ["user_taken"]


async def in_scope(
    registry: Registry, user: str, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await registry.check(user)


async def test_while_the_store_is_away_guests_choose_no_ids_and_nobody_waits_in_line(nursery: trio.Nursery) -> None:
    registry, store = make()
    store.away, store.hold = True, trio.Event()
    answers: list[str] = []

    async def ask(user: str) -> None:
        answers.append(await outcome(registry, user))

    for number in range(10):
        nursery.start_soon(ask, f"u-{number}")
    await wait_all_tasks_blocked()
    store.hold.set()
    await wait_all_tasks_blocked()
    assert answers == ["unavailable"] * 10
    assert len(store.calls) <= 2


async def test_those_who_came_are_stored_together_later_when_it_must_be_and_told_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry, store = make("old")
    appeared: list[set[str]] = []
    registry.appeared = appeared.append
    store.away = True
    await nursery.start(registry.run)
    for user in ("old", "ann", "bob"):
        registry.note(user)
    await wait_all_tasks_blocked()
    assert store.calls == [{"old", "ann", "bob"}]
    registry.note("joe")
    store.away = False
    await trio.sleep(2)
    assert store.users == {"old", "ann", "bob", "joe"}
    assert appeared == [{"ann", "bob", "joe"}]
    assert len(store.calls) == 2


async def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, store = make()
    for number in range(KNOWN_MAX + 10):
        registry.note(str(number))
    assert len(registry._known) == KNOWN_MAX
    assert len(registry._new) <= KNOWN_MAX
    store.users.add("0")
    assert await outcome(registry, "0") == "user_taken"
