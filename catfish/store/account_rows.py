"""What rows of accounts look like everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from catfish.rooms.accounts import Account
from catfish.store.arrays import text
from catfish.store.connection import Connection
from catfish.store.pool import Pool

T = TypeVar("T")
Row = tuple[Any, ...]

ACCOUNT: Final = "a.id, a.name, a.email, a.image, a.provider, a.oauth_id, a.color, a.created_at, a.updated_at"
ACCOUNT_COLUMNS: Final = 9
ADD: Final = b"""
INSERT INTO accounts (id, name, email, image, provider, oauth_id, color) VALUES (%b, %b, %b, %b, %b, %b, %b)
ON CONFLICT (email) DO NOTHING RETURNING id
"""


def account_from_row(row: Row) -> Account:
    """From the columns of `ACCOUNT`."""
    id, name, email, image, provider, oauth_id, color, created_at, updated_at = row
    return Account(
        id=id,
        name=name,
        email=email,
        image=image,
        provider=provider,
        oauth_id=oauth_id,
        color=color,
        created_at=created_at,
        updated_at=updated_at,
    )


def add_account(connection: Connection, account: Account) -> bool:
    """Store a new account; False when its email is taken."""
    about = account.id, account.name, account.email, account.image
    origin = account.provider, account.oauth_id, account.color
    return bool(fetch(connection, ADD, tuple(None if value is None else text(value) for value in (*about, *origin))))


async def transact(pool: Pool, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction, which the caller's cancellation does not interrupt."""

    def within(connection: Connection) -> T:
        with connection.transaction():
            return work(connection)

    return await pool.run(within, abandon=False)


def fetch(connection: Connection, query: bytes, parameters: Any = ()) -> list[Row]:
    return connection.cursor(binary=True).execute(query, parameters).fetchall()


def find(connection: Connection, query: bytes, parameters: Any) -> list[Row]:
    """As `fetch`, for texts of somebody's choice: those that Postgres cannot hold name nothing."""
    try:
        return fetch(connection, query, parameters)
    except (psycopg.DataError, UnicodeEncodeError):
        return []
