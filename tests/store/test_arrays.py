"""Columns of values arrive in Postgres as they were, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catfish.store import arrays
from catfish.store.arrays import Parameter, Unstorable, encode_json, instants, int8, int8s, jsons, text, texts
from catfish.store.connection import Connection, Connector
from catfish.store.pipeline import Pipeline

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
INT8S = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-60_000_000_000_000, 250_000_000_000_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def connection(postgres_server: str) -> Iterator[Connection]:
    with Connector(postgres_server, timeout_s=10).connect() as connection:
        yield connection


def round_trip(connection: Connection, parameter: Parameter) -> list[Any]:
    """Through a pipeline, and through psycopg."""
    rows: list[tuple[Any, ...]] = []
    query = f"SELECT x FROM unnest(%b::{type(parameter).__name__}) x"  # a statement has parameters of one type
    query = query.replace("Int8s", "bigint[]").replace("Texts", "text[]").replace("Instants", "timestamptz[]")
    query = query.replace("Jsons", "json[]")
    with Pipeline(connection) as pipeline:
        pipeline.add(query.encode(), (parameter,), rows.append)
    cursor = connection.cursor(binary=True)
    assert cursor.execute(query.encode(), (parameter,)).fetchall() == rows
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("build", "items"),
    [(int8s, INT8S), (texts, TEXTS), (instants, TIMES)],
    ids=["int8s", "texts", "instants"],
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_columns_make_the_round_trip(
    connection: Connection,
    build: Callable[[Sequence[Any]], Parameter],
    items: st.SearchStrategy[Any],
    data: st.DataObject,
) -> None:
    values = data.draw(st.lists(items | st.none(), max_size=20) | st.lists(items, max_size=20))
    assert round_trip(connection, build(values)) == values


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, max_size=5))
def test_json_makes_the_round_trip(connection: Connection, values: list[Any]) -> None:
    assert round_trip(connection, jsons([encode_json(value) for value in values])) == values


def test_json_is_kept_verbatim(connection: Connection) -> None:
    written = b'{"b":1,"a":1.0,"b":"\\u00e9"}'
    row = connection.execute("SELECT x::text FROM unnest(%b) x", (jsons([written]),)).fetchone()
    assert row is not None
    told = row[0]
    assert told.encode() == written
    assert msgspec.json.decode(told) == {"b": "é", "a": 1.0}


def test_single_values_are_parameters_too(connection: Connection) -> None:
    rows: list[tuple[Any, ...]] = []
    with Pipeline(connection) as pipeline:
        pipeline.add(b"SELECT %b, %b", (int8(-5), text("ü")), rows.append)
    assert rows == [(-5, "ü")]


@pytest.mark.parametrize(
    "build",
    [
        lambda: int8s([2**63]),
        lambda: int8s([None, -(2**63) - 1]),
        lambda: int8(2**63),
        lambda: texts(["half \ud800"]),
        lambda: text("half \ud800"),
        lambda: instants([2**62]),
        lambda: encode_json({"x": object()}),
        lambda: encode_json("half \ud800"),
    ],
)
def test_what_no_column_can_hold_is_said_so(build: Callable[[], object]) -> None:
    with pytest.raises(Unstorable):
        build()


# The pipeline


def test_rows_come_in_the_order_of_the_statements(connection: Connection) -> None:
    rows: list[tuple[Any, ...]] = []
    with Pipeline(connection) as pipeline:
        for place in range(3):
            pipeline.add(b"SELECT %b + x FROM generate_series(1, 2) x", (int8(place * 10),), rows.append)
        pipeline.fetch()
        assert rows == [(1,), (2,), (11,), (12,), (21,), (22,)]
        pipeline.fetch()
        pipeline.add(b"SELECT 5::bigint", (), rows.append)
        assert len(rows) == 6
    assert rows[6:] == [(5,)]


def test_the_first_failure_is_told_and_the_connection_stays_usable(connection: Connection) -> None:
    rows: list[tuple[Any, ...]] = []

    def fail(fetch: bool) -> None:
        with Pipeline(connection) as pipeline:
            pipeline.add(b"SELECT 1", (), rows.append)
            pipeline.add(b"SELECT 1 / (%b - 1)", (int8(1),), rows.append)
            pipeline.add(b"SELECT 'never prepared', %b", (int8(1 + fetch),), rows.append)
            pipeline.add(b"SELECT nonsense", (), rows.append)
            if fetch:
                pipeline.fetch()

    for fetch in (True, False):
        with pytest.raises(psycopg.errors.DivisionByZero):
            fail(fetch)
    assert rows == [(1,), (1,)]
    with Pipeline(connection) as pipeline:
        pipeline.add(b"SELECT 'never prepared', %b", (int8(1),), rows.append)
        pipeline.add(b"SELECT 1 / (%b - 1)", (int8(3),), rows.append)
    assert rows[2:] == [("never prepared", 1), (0,)]


def test_a_fault_of_ours_sends_nothing_more(connection: Connection) -> None:
    def fail() -> None:
        with Pipeline(connection) as pipeline:
            pipeline.add(b"CREATE TEMPORARY TABLE never ()")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert connection.execute("SELECT to_regclass('never')").fetchone() == (None,)


def test_what_is_larger_than_the_socket_holds_goes_both_ways(connection: Connection) -> None:
    rows: list[tuple[Any, ...]] = []
    large = "x" * 3_000_000
    with Pipeline(connection) as pipeline:
        for _ in range(5):
            pipeline.add(b"SELECT %b", (text(large),), rows.append)
    assert [len(row[0]) for row in rows] == [3_000_000] * 5


def test_statements_forgotten_by_the_server_are_prepared_again(connection: Connection) -> None:
    rows: list[tuple[Any, ...]] = []
    with Pipeline(connection) as pipeline:
        pipeline.add(b"SELECT 'kept'", (), rows.append)
    connection.execute("DEALLOCATE ALL", prepare=False)
    with pytest.raises(psycopg.errors.InvalidSqlStatementName), Pipeline(connection) as pipeline:
        pipeline.add(b"SELECT 'kept'", (), rows.append)
    with Pipeline(connection) as pipeline:
        pipeline.add(b"SELECT 'kept'", (), rows.append)
    assert rows == [("kept",), ("kept",)]


def test_arrays_have_the_types_of_their_columns() -> None:
    kinds = {kind.__name__: kind.oid for kind in arrays.Parameter.__subclasses__()}
    assert kinds == {"Int8": 20, "Text": 25, "Int8s": 1016, "Texts": 1009, "Instants": 1185, "Jsons": 199}
