"""The messages of all rooms in one sequence: nothing is passed over, however transactions end."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import trio

from catfish.config import Settings
from catfish.rooms.commands import Delete, Edit, React, RoomRecord, SendMessage, Sent
from catfish.rooms.ports import StoreUnavailable
from catfish.store.outlet import LOCK, PostgresTail
from catfish.store.postgres import PostgresStore
from tests.store.commands import create, send
from tests.store.proxy import Proxy

SETTINGS = Settings(database_timeout_s=5.0)
INSERT = """
INSERT INTO messages (room, seq, revision, created_at, user_id, name, content)
VALUES (%(room)s, %(seq)s, %(seq)s, now(), 'ann', 'Ann', %(content)s)
"""


@pytest.fixture
async def tail(database_url: str) -> AsyncIterator[PostgresTail]:
    tail = PostgresTail(database_url, SETTINGS)
    assert await tail.lead()
    yield tail
    tail.resign()


@pytest.fixture
async def room(postgres: PostgresStore) -> RoomRecord:
    (record,) = await postgres.commit([create("lobby")])
    assert isinstance(record, RoomRecord)
    return record


class Writer:
    """A transaction of some other instance, step by step."""

    def __init__(self, url: str, room: RoomRecord) -> None:
        self.connection = psycopg.connect(url)
        self.connection.execute("INSERT INTO journals (id, batch) VALUES (gen_random_uuid()::text, 1)")
        self.room = room.number

    def insert(self, content: str, seq: int) -> None:
        self.connection.execute(INSERT, {"room": self.room, "seq": seq, "content": content})

    def end(self, *, commit: bool) -> None:
        with self.connection:
            if not commit:
                self.connection.rollback()


async def read_all(tail: PostgresTail, position: int = 0, limit: int = 100) -> tuple[list[str], int]:
    """The contents behind a position, as long as there are any that may be read now."""
    texts: list[str] = []
    while True:
        chunk = await tail.read(position, limit)
        texts += [message.content for message in chunk.messages]
        if chunk.position == position:
            return texts, position
        position = chunk.position


async def test_messages_of_all_rooms_come_by_their_ids(postgres: PostgresStore, tail: PostgresTail) -> None:
    rooms = [await postgres.commit([create(name)]) for name in ("a", "b")]
    numbers = [record.number for (record,) in rooms if isinstance(record, RoomRecord)]
    for i in range(10):
        await postgres.commit([send(numbers[i % 2], "ann", content=str(i))])
    assert (await read_all(tail, limit=3))[0] == [str(i) for i in range(10)]
    texts, position = await read_all(tail)
    assert texts == [str(i) for i in range(10)]
    chunk = await tail.read(position, 100)
    assert (chunk.messages, chunk.position, chunk.more) == ([], position, False)
    assert await tail.newest() == position


async def test_a_message_comes_whole_as_it_stands_and_without_reactions(
    postgres: PostgresStore, tail: PostgresTail, room: RoomRecord
) -> None:
    command = SendMessage(
        number=room.number, room="lobby", user="ann", name="Ann", content="hi", client_id="c1", reply_to=None,
        data={"a": [1]}, created_at=1_700_000_000_123,
    )  # fmt: skip
    (sent,) = await postgres.commit([command])
    assert isinstance(sent, Sent)
    await postgres.commit([React(number=room.number, seq=1, user="ann", emoji="👍", on=True, at=1)])
    assert (await tail.read(0, 10)).messages == [sent.message]
    await postgres.commit([Edit(number=room.number, seq=1, user="ann", content="ho", at=1_700_000_000_456)])
    (message,) = (await tail.read(0, 10)).messages
    assert (message.content, message.edited_at) == ("ho", 1_700_000_000_456)
    await postgres.commit([Delete(number=room.number, seq=1, user="ann", at=1_700_000_000_789)])
    (message,) = (await tail.read(0, 10)).messages
    assert (message.content, message.deleted_at) == ("", 1_700_000_000_789)


@pytest.mark.parametrize("commit", [True, False])
async def test_a_smaller_id_that_is_committed_later_is_waited_for(
    database_url: str, tail: PostgresTail, room: RoomRecord, commit: bool
) -> None:
    slow, fast = Writer(database_url, room), Writer(database_url, room)
    slow.insert("first", 1)
    fast.insert("second", 2)
    fast.end(commit=True)
    chunk = await tail.read(0, 10)
    assert (chunk.messages, chunk.position, chunk.more) == ([], 0, True)
    slow.end(commit=commit)
    assert (await read_all(tail))[0] == (["first", "second"] if commit else ["second"])


async def test_one_that_begins_early_and_inserts_late_is_not_passed_over(
    database_url: str, tail: PostgresTail, room: RoomRecord
) -> None:
    early, late = Writer(database_url, room), Writer(database_url, room)
    late.insert("1", 1)
    late.end(commit=True)
    assert (await read_all(tail))[0] == []
    early.insert("2", 2)
    early.insert("3", 3)
    early.end(commit=True)
    assert (await read_all(tail))[0] == ["1", "2", "3"]


async def test_with_writers_that_overlap_at_all_times_everything_comes_once_and_in_order(
    database_url: str, tail: PostgresTail, room: RoomRecord
) -> None:
    writers: list[Writer] = []
    texts: list[str] = []
    position = 0
    for i in range(1, 41):
        writer = Writer(database_url, room)
        writer.insert(str(i), i)
        writers.append(writer)
        if i % 3 == 0:
            writers.pop(i % len(writers)).end(commit=i % 4 != 0)
        more, position = await read_all(tail, position)
        texts += more
    for writer in reversed(writers):
        writer.end(commit=True)
    more, _ = await read_all(tail, position)
    with psycopg.connect(database_url) as connection:
        stored = [row[0] for row in connection.execute("SELECT content FROM messages ORDER BY id")]
    assert texts + more == stored


async def test_looking_for_nothing_uses_up_no_transaction_numbers(database_url: str, tail: PostgresTail) -> None:
    def number() -> int:
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
            assert row is not None
            return int(row[0])

    before = number()
    for _ in range(20):
        await tail.read(0, 10)
    # Others use the server too; what counts is that it is not one a look.
    assert number() - before < 20


async def test_one_leads_until_it_resigns(database_url: str, tail: PostgresTail) -> None:
    other = PostgresTail(database_url, SETTINGS)
    assert not await other.lead()
    assert not await other.lead()
    tail.resign()
    with trio.fail_after(10):
        while not await other.lead():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.01)
    with pytest.raises(StoreUnavailable):
        await tail.read(0, 10)
    assert not await tail.lead()
    other.resign()


async def test_one_that_lost_its_connection_leads_no_longer_and_says_so(database_url: str, tail: PostgresTail) -> None:
    other = PostgresTail(database_url, SETTINGS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32 | objid::bigint) = %s",
            (LOCK,),
        )
    with trio.fail_after(10):
        while not await other.lead():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.01)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await tail.note(1)
    assert not await tail.lead()
    other.resign()


async def test_who_resigns_while_postgres_is_silent_waits_for_nobody_and_keeps_no_lock(
    database_url: str, tail: PostgresTail
) -> None:
    tail.resign()
    with tempfile.TemporaryDirectory(prefix="catfish-") as directory, Proxy(Path(directory), database_url) as proxy:
        stuck = PostgresTail(proxy.url, SETTINGS)
        with trio.fail_after(10):
            while not await stuck.lead():  # noqa: ASYNC110 - of another process
                await trio.sleep(0.01)
        proxy.silent = True
        with trio.fail_after(SETTINGS.database_timeout_s / 2):
            with trio.move_on_after(0.1) as moved:
                await stuck.read(0, 10)
            stuck.resign()
        assert moved.cancelled_caught
        proxy.silent = False
        with trio.fail_after(10):
            while not await tail.lead():  # noqa: ASYNC110 - of a thread and another process
                await trio.sleep(0.01)


async def test_a_leader_that_stands_still_loses_its_session(database_url: str, tail: PostgresTail) -> None:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT current_setting('server_version_num')::int").fetchone()
    assert row is not None
    if row[0] < 140_000:
        pytest.skip("Postgres ends idle sessions from version 14 on")
    told = await tail._run(lambda connection: connection.execute("SHOW idle_session_timeout").fetchone())
    assert told == ("15s",)


async def test_positions_are_noted_for_whoever_leads_next(database_url: str, tail: PostgresTail) -> None:
    assert await tail.position() is None
    await tail.note(17)
    await tail.note(12)
    assert await tail.position() == 12


async def test_how_far_back_a_number_of_messages_reaches(
    postgres: PostgresStore, tail: PostgresTail, room: RoomRecord
) -> None:
    assert await tail.before(0, 10) == 0
    answers = await postgres.commit([send(room.number, "ann", content=str(i)) for i in range(10)])
    ids = [answer.message.id for answer in answers if isinstance(answer, Sent)]
    assert await tail.before(ids[-1], 3) == ids[-4]
    assert await tail.before(ids[-1] + 100, 3) == ids[-4]
    assert await tail.before(ids[5], 3) == ids[2]
    assert await tail.before(ids[-1], 10) == 0
    assert len((await tail.read(ids[-4], 100)).messages) == 3


async def test_the_cost_of_a_read_does_not_grow_with_the_table(database_url: str, tail: PostgresTail) -> None:
    def plan(connection: psycopg.Connection[tuple[str]]) -> str:
        connection.execute(
            "INSERT INTO rooms (id, kind, created_by) SELECT 'r' || g, 'open', 'u' FROM generate_series(1, 50) g"
        )
        connection.execute(
            "INSERT INTO messages (room, seq, revision, created_at, user_id, name, content)"
            " SELECT g % 50 + 1, g, g, now(), 'u', 'n', 'c' FROM generate_series(1, 20000) g"
        )
        rows = connection.execute(
            "EXPLAIN SELECT r.id FROM messages m JOIN rooms r ON r.number = m.room"
            " WHERE m.id > 10000 AND m.id <= 20000 ORDER BY m.id LIMIT 200"
        )
        return "\n".join(row[0] for row in rows)

    told = await tail._run(plan)
    assert "messages_id" in told
    assert "Sort" not in told
    assert "Seq Scan" not in told
