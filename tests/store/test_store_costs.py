"""What reading costs does not depend on how much there is: pages of the database that are touched, not seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.types.numeric import Int8

from catfish.store import moderation_queries, queries
from catfish.store.arrays import Text, int8s, texts
from catfish.store.connection import Connection, Connector
from catfish.store.pipeline import Pipeline
from catfish.store.postgres import PostgresStore
from tests.postgres import fresh_database
from tests.store.commands import make_room, mute, send

SMALL, LARGE = 1, 2
NAMES = {SMALL: b"small", LARGE: b"large"}
FILL = """
INSERT INTO rooms (id, kind, created_by, last_seq, last_revision) VALUES
    ('small', 'open', 'ada', 100, 110), ('large', 'open', 'ada', 30000, 33000);
INSERT INTO messages (room, seq, revision, created_at, user_id, name, content, client_id)
    SELECT r.number, s, s + (s - 1) / 10, now(), 'u' || s % 50, 'name', 'some words', 'c' || s
    FROM rooms r, generate_series(1, r.last_seq) s;
INSERT INTO message_changes (room, revision, seq, last_seq, at, kind, user_id)
    SELECT r.number, c * 11, c * 10, c * 10, now(), 'edited', 'u1'
    FROM rooms r, generate_series(1, r.last_seq / 10) c;
INSERT INTO reactions (room, seq, revision, emoji, user_id)
    SELECT r.number, c * 3, c, '+', 'u1' FROM rooms r, generate_series(1, r.last_seq / 10) c;
INSERT INTO members (room, position, since, user_id, instance_id, name)
    SELECT r.number, m, now(), 'u' || m, 'i1', 'name' FROM rooms r, generate_series(1, r.last_seq / 10) m;
"""


@pytest.fixture(scope="module", params=["no statistics", "statistics"])
def connection(request: pytest.FixtureRequest, postgres_server: str, postgres_template: str) -> Iterator[Connection]:
    with (
        fresh_database(postgres_server, postgres_template) as (_, url),
        Connector(url, timeout_s=60).connect() as connection,
    ):
        connection.execute(FILL.encode(), prepare=False)
        if request.param == "statistics":
            connection.execute(b"ANALYZE", prepare=False)
        connection.execute(b"SET plan_cache_mode = force_generic_plan")
        yield connection


READS: dict[str, tuple[bytes, Callable[[int, int], Any]]] = {
    "the newest page": (queries.NEWEST, lambda room, last: (Int8(room), Int8(50))),
    "a page below": (queries.BELOW, lambda room, last: (Int8(room), Int8(last // 2 + 10), Int8(50))),
    "a page above": (queries.ABOVE, lambda room, last: (Int8(room), Int8(last // 2 - 10), Int8(50))),
    "the newest page, by the room's id": (
        queries.NEWEST_IN,
        lambda room, last: (Text(NAMES[room]), Int8(50)),
    ),
    "a page below, by the room's id": (
        queries.BELOW_IN,
        lambda room, last: (Text(NAMES[room]), Int8(last // 2 + 10), Int8(50)),
    ),
    "a page above, by the room's id": (
        queries.ABOVE_IN,
        lambda room, last: (Text(NAMES[room]), Int8(last // 2 - 10), Int8(50)),
    ),
    "what changed lately": (
        queries.CHANGED_SINCE,
        lambda room, last: {"room": Int8(room), "seq": Int8(last - 15), "limit": Int8(10)},
    ),
    "the last changes": (
        queries.CHANGED_AFTER,
        lambda room, last: {"room": Int8(room), "after": Int8(last + last // 10 - 5), "limit": Int8(50)},
    ),
    "the last messages": (
        queries.SENT_AFTER,
        lambda room, last: {"room": Int8(room), "after": Int8(last + last // 10 - 5), "limit": Int8(50)},
    ),
    "a message sent before": (
        queries.SENT_BEFORE,
        lambda room, last: (int8s([room]), texts(["u7"]), texts(["c57"])),
    ),
    "a user's presences": (queries.PRESENCES_OF_USERS, lambda room, last: (int8s([room]), texts(["u7"]))),
    "a room's row": (queries.LOCK, lambda room, last: (int8s([room]),)),
    "a room by its id": (queries.ROOM_BY_ID, lambda room, last: ("small" if room == SMALL else "large",)),
}


@pytest.mark.parametrize("read", READS)
def test_reading_touches_as_many_pages_in_a_large_room_as_in_a_small_one(connection: Connection, read: str) -> None:
    query, parameters = READS[read]
    small, large = (pages_touched(connection, query, parameters(room, last)) for room, last in ((1, 100), (2, 30_000)))
    assert large <= small + 30, (small, large)


def pages_touched(connection: Connection, query: bytes, parameters: Any) -> int:
    """Buffers that the statement looks at, once it is planned."""
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query
    connection.execute(explain, parameters)
    row = connection.execute(explain, parameters).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert "Seq Scan" not in repr(plan), plan
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_a_message_costs_nothing_more_until_somebody_is_anything_to_its_room(
    postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[bytes] = []
    add, exchange = Pipeline.add, Pipeline._exchange

    def count(self: Pipeline, query: bytes, *given: Any) -> None:
        statements.append(query)
        add(self, query, *given)

    def count_trip(self: Pipeline, **given: Any) -> Any:
        statements.append(b"TRIP")
        return exchange(self, **given)

    monkeypatch.setattr(Pipeline, "add", count)
    monkeypatch.setattr(Pipeline, "_exchange", count_trip)
    numbers = [await make_room(postgres, room, "ada") for room in ("lobby", "den")]
    await postgres.commit([mute(numbers[1], "ada", "bob")])
    cost = []
    for number in numbers:
        statements.clear()
        await postgres.commit([send(number, "ada"), send(number, "cyd")])
        cost.append(Counter(statements))
    assert cost[0][b"TRIP"] == 2
    assert cost[1] - cost[0] == Counter(
        {moderation_queries.STANDINGS: 1, queries.SENT_BEFORE: 1, queries.NOW: 1, b"TRIP": 1}
    )
