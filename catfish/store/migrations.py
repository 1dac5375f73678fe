"""The steps that lead to the schema: numbered SQL files, each applied once.

A step runs in a transaction together with the record that it ran, under an advisory lock, so that several servers may
start at the same time. Its checksum is recorded: a file that was changed after it ran is refused, since nobody knows
then what the database looks like. There are no steps back; restore a backup instead.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from catfish.errors import StartError
from catfish.store.queries import MATCHING_LOCK

logger = logging.getLogger(__name__)

LOCK: Final = MATCHING_LOCK + 1
CONNECT_S: Final = 10
NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
PACKAGE: Final = Path(__file__).resolve().parent.parent

CREATE: Final = b"""
CREATE TABLE IF NOT EXISTS catfish_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
EXISTS: Final = b"SELECT to_regclass('catfish_migrations') IS NOT NULL"
APPLIED: Final = b"SELECT number, name, checksum FROM catfish_migrations ORDER BY number"
RECORD: Final = b"INSERT INTO catfish_migrations (number, name, checksum) VALUES (%s, %s, %s)"

Connection = psycopg.Connection[tuple[Any, ...]]


class Migration(NamedTuple):
    number: int
    name: str
    """Of the file, without its number and ending."""
    sql: str
    checksum: str

    @property
    def title(self) -> str:
        return f"{self.number:04} {self.name}"


class Status(NamedTuple):
    applied: list[Migration]
    pending: list[Migration]


def migrations_dir() -> Path:
    """The directory of the steps: inside the package when installed from a wheel, beside it in a checkout."""
    inside = PACKAGE / "migrations"
    return inside if inside.is_dir() else PACKAGE.parent / "migrations"


def load(directory: Path | None = None) -> list[Migration]:
    """The steps, in order.

    Raises:
        StartError: there are none, or their names do not count 0001, 0002, …
    """
    directory = directory or migrations_dir()
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        named = NAME.fullmatch(path.name)
        if named is None or int(named[1]) != len(migrations) + 1:
            raise StartError(f"{path} should be named {len(migrations) + 1:04}_what_it_does.sql")
        text = path.read_bytes()
        migrations.append(Migration(int(named[1]), named[2], text.decode(), hashlib.sha256(text).hexdigest()))
    if not migrations:
        raise StartError(f"there are no migrations in {directory}; Catfish is not installed completely")
    return migrations


def status(url: str, migrations: Sequence[Migration] | None = None) -> Status:
    """What was applied and what was not; changes nothing.

    Raises:
        StartError: the database cannot be reached, or does not fit to the files.
    """
    with _connected(url) as connection:
        return _compare(connection, migrations or load())


def check(url: str) -> None:
    """
    Raises:
        StartError: steps are pending, or as `status`.
    """
    pending = status(url).pending
    if pending:
        steps = ", ".join(migration.title for migration in pending)
        raise StartError(
            f"the database is not up to date, pending: {steps}."
            " Run `catfish migrate`, or start the server with --migrate."
        )


def migrate(url: str, to: int | None = None, migrations: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply the pending steps, up to number `to`; returns those that were applied now.

    Raises:
        StartError: a step failed (it and those behind it are not applied), `to` lies behind us or does not exist, or as
            `status`.
    """
    known = migrations or load()
    if to is not None and to > len(known):
        raise StartError(f"there is no migration {to}; the last one is {known[-1].title}")
    with _connected(url) as connection:
        connection.execute(b"SELECT pg_advisory_lock(%s)", (LOCK,))
        applied, pending = _compare(connection, known)
        if to is not None and to < len(applied):
            raise StartError(
                f"the database is at migration {applied[-1].title} already; migrations only go forward."
                " To go back, restore a backup."
            )
        connection.execute(CREATE)
        todo = [migration for migration in pending if to is None or migration.number <= to]
        for migration in todo:
            _apply(connection, migration)
        return todo


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.sql.encode())
            connection.execute(RECORD, (migration.number, migration.name, migration.checksum))
    except psycopg.Error as error:
        raise StartError(f"migration {migration.title} failed, nothing of it was kept: {str(error).strip()}") from error
    logger.info("applied migration %s", migration.title)


def _compare(connection: Connection, known: Sequence[Migration]) -> Status:
    exists = connection.execute(EXISTS).fetchone()
    rows = connection.execute(APPLIED).fetchall() if exists is not None and exists[0] else []
    for place, (number, name, checksum) in enumerate(rows, 1):
        if number > len(known):
            raise StartError(
                f"the database was made by a newer Catfish: it has migration {number:04} {name}, this one knows"
                f" {len(known):04} at most. Start the newer one."
            )
        if number != place or checksum != known[number - 1].checksum:
            raise StartError(
                f"migration {number:04} {name} is not the one that was applied to this database: its file was changed"
                " afterwards. Restore the file, and write a new migration for what is to change."
            )
    return Status(list(known[: len(rows)]), list(known[len(rows) :]))


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    try:
        connection: Connection = psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="catfish migrate",
            client_encoding="UTF8",
        )
    except psycopg.Error as error:
        raise StartError(f"the database cannot be reached: {str(error).strip()}") from error
    with connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise StartError(f"the migrations cannot be read or written: {str(error).strip()}") from error
