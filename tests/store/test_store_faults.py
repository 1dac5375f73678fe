"""The store when Postgres fails: what was confirmed is there once, what was not is told as such."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

from catfish.rooms.commands import Command, Joined, Left, Matched, SendMessage, Sent
from catfish.rooms.ports import StoreUnavailable
from catfish.store import migrations
from catfish.store.embedded import EmbeddedPostgres
from catfish.store.postgres import PostgresStore
from tests.store.commands import join, leave, make_room, match, perform, send
from tests.store.conftest import SETTINGS
from tests.store.proxy import COMMITTED, Proxy

QUICK = attrs.evolve(SETTINGS, database_timeout_s=0.3)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="catfish-") as directory, Proxy(Path(directory), database_url) as proxy:
        yield proxy


@contextmanager
def locking(url: str, statement: str) -> Iterator[None]:
    """Another transaction that holds a lock."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())
        yield
        connection.rollback()


def terminate(url: str, application: str) -> int:
    """Cut the connections of that application; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND datname = %s"
        return connection.execute(query, (application, connection.info.dbname)).rowcount


async def contents(store: PostgresStore, number: int) -> list[str]:
    return [message.content for message in (await store.history(number, limit=1000)).messages]


# The journal's connection


async def test_a_connection_lost_between_commits_is_not_noticed(postgres: PostgresStore, database_url: str) -> None:
    number = await make_room(postgres)
    assert await trio.to_thread.run_sync(terminate, database_url, "catfish journal") == 1
    sent = await perform(postgres, send(number), Sent)
    assert (sent.message.seq, sent.repeated) == (1, False)


async def test_a_connection_lost_in_a_transaction_is_not_noticed(postgres: PostgresStore, database_url: str) -> None:
    number = await make_room(postgres)
    answers: list[Sent] = []

    async def commit() -> None:
        answers.append(await perform(postgres, send(number), Sent))

    async with trio.open_nursery() as nursery:
        with locking(database_url, "SELECT FROM rooms FOR UPDATE"):
            nursery.start_soon(commit)
            await waits_for_lock(database_url)
            await trio.to_thread.run_sync(terminate, database_url, "catfish journal")
    assert [(sent.message.seq, sent.repeated) for sent in answers] == [(1, False)]
    assert await contents(postgres, number) == ["hello"]


async def waits_for_lock(url: str) -> None:
    """Return when somebody waits for a lock in that database."""
    query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def waiting() -> bool:
        with psycopg.connect(url, autocommit=True) as connection:
            return bool(connection.execute(query).rowcount)

    with trio.fail_after(30):
        while not await trio.to_thread.run_sync(waiting):  # noqa: ASYNC110 - it happens in the server
            await trio.sleep(0.01)


async def test_a_commit_whose_answer_is_lost_is_found_out_about(proxy: Proxy) -> None:
    async with PostgresStore(proxy.url, SETTINGS) as store:
        number = await make_room(store)
        batch: list[Command] = [
            send(number, content="one"),
            join("lobby", "bob"),
            send(number, content="two", client_id=None),
            match("eve", room="m-1"),
            leave(number, "ada"),
        ]
        proxy.cut_after_server(COMMITTED)
        answers = await store.commit(batch)
        assert proxy.cuts == 1
        one, bob, two, eve, left = answers
        assert isinstance(one, Sent)
        assert isinstance(two, Sent)
        assert isinstance(bob, Joined)
        assert isinstance(left, Left)
        assert isinstance(eve, Matched)
        assert (one.repeated, two.repeated, bob.first, left.last) == (False, False, True, True)
        assert (await store.history(number, limit=5)).messages == [one.message, two.message]
        assert eve.record.number > number
        assert store.statistics().commits.unconfirmed == 1


async def test_a_commit_that_did_not_reach_the_server_is_repeated(proxy: Proxy) -> None:
    async with PostgresStore(proxy.url, SETTINGS) as store:
        number = await make_room(store)
        proxy.cut_before_server(b"content")  # sent together with the statement that commits
        answers = await store.commit([send(number, content="content", client_id=None), join("lobby", "bob")])
        assert proxy.cuts == 1
        assert [isinstance(answer, Sent | Joined) for answer in answers] == [True, True]
        assert await contents(store, number) == ["content"]


@pytest.mark.parametrize("reached", [True, False])
async def test_an_unconfirmed_batch_may_be_handed_in_again_in_parts_and_with_more(proxy: Proxy, reached: bool) -> None:
    async with PostgresStore(proxy.url, SETTINGS) as store:
        number = await make_room(store)
        one, two = send(number, content="one", client_id=None), send(number, content="two", client_id=None)
        bob = join("lobby", "bob")
        if reached:
            proxy.cut_after_server(COMMITTED)
        else:
            proxy.cut_before_server(b"two")
        await lose_reconnection(proxy, store, [one, two, bob])
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.commit([one, two, bob])
        proxy.refuse = False
        answers = await until_available(store, [two, bob, send(number, content="three")])
        assert isinstance(answers[0], Sent)
        assert isinstance(answers[1], Joined)
        assert answers[1].first
        assert await contents(store, number) == (["one", "two", "three"] if reached else ["two", "three"])
        assert (await store.history(number, limit=10)).messages[1 if reached else 0] == answers[0].message


async def lose_reconnection(proxy: Proxy, store: PostgresStore, batch: list[Command]) -> None:
    """Commit while the connection is about to be cut and no other one will be let in."""
    proxy.refuse = True
    with pytest.raises(StoreUnavailable):
        await store.commit(batch)
    assert proxy.cuts == 1


async def until_available(store: PostgresStore, batch: list[Command]) -> list[object]:
    """As the journal does: the same batch again, until it is answered."""
    with trio.fail_after(60):
        while True:
            try:
                return list(await store.commit(batch))
            except StoreUnavailable:
                await trio.sleep(0.02)


async def test_members_that_were_taken_over_unheard_are_reported_by_the_next_call(proxy: Proxy) -> None:
    async with PostgresStore(proxy.url, SETTINGS) as store:
        await store.renew_lease("i1", 60)
        await make_room(store, "lobby", "ada", "bob")
        await store.end_lease("i1")
        proxy.cut_after_server(COMMITTED)
        taken = await store.take_over("i2", 10)
        assert proxy.cuts == 1
        assert [each.member.user for each in taken] == ["ada", "bob"]
        assert await store.take_over("i2", 10) == []


async def test_a_server_that_falls_silent_is_given_up(proxy: Proxy) -> None:
    async with PostgresStore(proxy.url, QUICK) as store:
        number = await make_room(store)
        await store.members(number, 5)
        proxy.silent = True
        message = send(number, content="one")
        given_up: list[str] = []

        async def give_up(what: str, call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(StoreUnavailable):
                await call()
            given_up.append(what)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(give_up, "commit", partial(store.commit, [message]))
                nursery.start_soon(give_up, "read", partial(store.members, number, 5))
        assert sorted(given_up) == ["commit", "read"]
        proxy.silent = False
        await until_available(store, [message])
    async with PostgresStore(proxy.url, SETTINGS) as store:
        assert await contents(store, number) == ["one"]


async def test_a_statement_that_takes_too_long_is_given_up_and_may_be_repeated(database_url: str) -> None:
    async with PostgresStore(database_url, QUICK) as store:
        number = await make_room(store)
        message = send(number, content="one")
        with locking(database_url, "SELECT FROM rooms FOR UPDATE"), pytest.raises(StoreUnavailable):
            await store.commit([message])
        assert isinstance((await store.commit([message]))[0], Sent)
        assert await contents(store, number) == ["one"]


async def test_a_deadlock_with_somebody_else_is_repeated(postgres: PostgresStore, database_url: str) -> None:
    first, second = await make_room(postgres, "first"), await make_room(postgres, "second")
    with psycopg.connect(database_url) as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that it is the store's transaction that gives way
        other.execute("SELECT FROM rooms WHERE number = %s FOR UPDATE", (second,))
        answers: list[object] = []

        async def commit() -> None:
            answers.extend(await postgres.commit([send(first), send(second)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            await waits_for_lock(database_url)
            await trio.to_thread.run_sync(other.execute, "SELECT FROM rooms WHERE number = %s FOR UPDATE", (first,))
            other.rollback()
    assert all(isinstance(answer, Sent) for answer in answers)
    assert postgres.statistics().commits.conflicts >= 1


# Reads


async def test_reads_survive_the_loss_of_idle_connections(postgres: PostgresStore, database_url: str) -> None:
    number = await make_room(postgres)

    async def read() -> None:
        assert len(await postgres.members(number, 5)) == 1

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(read)
        assert 1 <= postgres.statistics().pool.idle <= SETTINGS.database_pool_max - 1
        await trio.to_thread.run_sync(terminate, database_url, "catfish")
        await read()


async def test_a_store_without_a_server_says_so_at_once_and_works_when_it_comes(proxy: Proxy) -> None:
    proxy.refuse = True
    async with PostgresStore(proxy.url, SETTINGS) as store:
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await store.room(id="lobby")
            with pytest.raises(StoreUnavailable):
                await store.commit([join("lobby", "ada")])
        proxy.refuse = False
        await until_available(store, [join("lobby", "ada")])
        assert (await store.room(id="lobby")) is not None


async def test_a_cancelled_read_ends_at_once_and_gives_its_connection_back(
    postgres: PostgresStore, database_url: str
) -> None:
    number = await make_room(postgres)
    async with trio.open_nursery() as nursery:
        with locking(database_url, "LOCK TABLE members IN ACCESS EXCLUSIVE MODE"):
            for _ in range(SETTINGS.database_pool_max + 3):
                nursery.start_soon(postgres.members, number, 5)
            await waits_for_lock(database_url)
            nursery.cancel_scope.cancel()
            # The threads are still at it; nobody waits for them.
            assert postgres.statistics().pool.busy == postgres.statistics().pool.size_max
    assert len(await postgres.members(number, 5)) == 1
    assert postgres.statistics().pool.waiting == 0


async def test_a_cancelled_read_of_messages_ends_at_once_and_its_answer_is_nobodys(
    postgres: PostgresStore, database_url: str
) -> None:
    number = await make_room(postgres)
    await postgres.room(id="lobby")
    async with trio.open_nursery() as nursery:
        with locking(database_url, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"):
            for _ in range(SETTINGS.database_pool_max + 3):
                nursery.start_soon(contents, postgres, number)
            await waits_for_lock(database_url)
            reads = postgres.statistics().reads
            assert (reads.busy, reads.waiting) == (reads.size_max, SETTINGS.database_pool_max + 3 - reads.size_max)
            nursery.cancel_scope.cancel()
    assert postgres.statistics().reads[1:] == (0, 0, 0)
    assert await contents(postgres, number) == []


async def test_messages_are_read_again_after_the_loss_of_idle_connections(
    postgres: PostgresStore, database_url: str
) -> None:
    number = await make_room(postgres)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(contents, postgres, number)
        assert postgres.statistics().reads.idle >= 1
        await trio.to_thread.run_sync(terminate, database_url, "catfish")
        assert await contents(postgres, number) == []


async def test_a_server_that_falls_silent_in_the_middle_of_a_read_counts_as_away(proxy: Proxy) -> None:
    settings = attrs.evolve(SETTINGS, database_timeout_s=0.2)
    async with PostgresStore(proxy.url, settings) as store:
        number = await make_room(store)
        assert await contents(store, number) == []
        proxy.silent = True
        with pytest.raises(StoreUnavailable):
            await store.history(number, limit=5)
        proxy.silent = False
        while True:
            try:
                assert await contents(store, number) == []
                break
            except StoreUnavailable:
                await trio.sleep(0.05)


async def test_a_statement_that_fails_leaves_its_connection_as_it_was(postgres: PostgresStore) -> None:
    number = await make_room(postgres)
    assert await contents(postgres, number) == []
    reads = postgres.statistics().reads
    assert await postgres.room(id="a\0b") is None  # no text for Postgres
    assert postgres.statistics().reads == reads


# The server itself


async def test_what_was_confirmed_survives_kill_9_of_postgres() -> None:
    with tempfile.TemporaryDirectory(prefix="catfish-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory))
        async with trio.open_nursery() as nursery:
            url = await nursery.start(server.run)
            await trio.to_thread.run_sync(migrations.migrate, url)
            async with PostgresStore(url, SETTINGS) as store:
                await send_through_kills(server, store)
            nursery.cancel_scope.cancel()


async def send_through_kills(server: EmbeddedPostgres, store: PostgresStore) -> None:
    numbers = [await make_room(store, f"room{place}") for place in range(3)]
    confirmed: dict[int, list[tuple[int, str]]] = {number: [] for number in numbers}
    kills = 0
    for batch_number in range(60):
        batch: list[Command] = [
            send(number, content=f"{batch_number}.{place}", client_id=None) for place in range(10) for number in numbers
        ]
        if batch_number % 30 == 15:
            pid = server.statistics().pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                kills += 1
        for command, answer in zip(batch, await until_available(store, batch), strict=True):
            assert isinstance(command, SendMessage)
            assert isinstance(answer, Sent)
            assert not answer.repeated
            confirmed[command.number].append((answer.message.seq, command.content))
    assert kills == 2
    for number in numbers:
        stored, after = [], 0
        while page := (await store.history(number, after=after, limit=1000)).messages:
            stored += [(message.seq, message.content) for message in page]
            after = page[-1].seq
        assert stored == confirmed[number]
        assert [seq for seq, _ in stored] == [*range(1, 601)]
