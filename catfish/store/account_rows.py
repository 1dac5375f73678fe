"""What rows of accounts look like everywhere."""

from __future__ import annotations

from typing import Any, Final

from catfish.rooms.accounts import Account
from catfish.store.connection import Connection

Row = tuple[Any, ...]

ACCOUNT: Final = "a.id, a.name, a.email, a.image, a.provider, a.oauth_id, a.color, a.created_at, a.updated_at"
ACCOUNT_COLUMNS: Final = 9


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


def fetch(connection: Connection, query: bytes, parameters: Any = ()) -> list[Row]:
    return connection.cursor(binary=True).execute(query, parameters).fetchall()
