"""A Postgres for tests: a private one for the whole run, or the one that the environment names.

`CATFISH_TEST_DATABASE_URL`, or else `CATFISH_DATABASE_URL`, names a server on which the tests may create databases.
Every test gets a database of its own, made from a template to which the migrations were applied once.
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from catfish.errors import StartError
from catfish.store import migrations
from catfish.store.embedded import EmbeddedPostgres

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
"""For servers whose crash no test is about."""


@contextmanager
def running(server: EmbeddedPostgres) -> Iterator[str]:
    """Run a private server in a thread of its own; yields its URL."""
    started: list[str] = []
    failed: list[BaseException] = []
    ready = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.append(await nursery.start(server.run))
            ready.set()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="private Postgres")
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        if not failed:
            token, scope = stop[0]
            token.run_sync_soon(scope.cancel)
        thread.join()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server on which databases can be made."""
    given = os.environ.get("CATFISH_TEST_DATABASE_URL") or os.environ.get("CATFISH_DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="catfish-", ignore_cleanup_errors=True) as directory:
        try:
            with running(EmbeddedPostgres(Path(directory), settings=FAST)) as url:
                yield url
        except StartError as error:
            pytest.skip(f"there is no Postgres: {error}")


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """Name of a database with the schema and nothing in it."""
    with fresh_database(postgres_server, None) as (name, url):
        migrations.migrate(url)
        yield name


@pytest.fixture
def database_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """URL of a fresh database with the schema."""
    with fresh_database(postgres_server, postgres_template) as (_, url):
        yield url


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh database with nothing in it."""
    with fresh_database(postgres_server, None) as (_, url):
        yield url


@contextmanager
def fresh_database(server: str, template: str | None) -> Iterator[tuple[str, str]]:
    """A database that is dropped afterwards; its name and its URL."""
    name = f"catfish_test_{uuid.uuid4().hex[:12]}"
    parts: Mapping[str, sql.Composable] = {"name": sql.Identifier(name), "template": sql.Identifier(template or "")}
    create = "CREATE DATABASE {name} TEMPLATE {template}" if template else "CREATE DATABASE {name}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL(create).format(**parts))
        try:
            yield name, make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**parts))
