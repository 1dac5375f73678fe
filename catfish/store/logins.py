"""Passwords of accounts, refresh tokens, and users who came with a token."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

from psycopg.types.numeric import Float8

from catfish.rooms.accounts import Account, IdentityStore
from catfish.rooms.logins import Credentials, LoginStore, Renewed
from catfish.store import conversations
from catfish.store.account_rows import ACCOUNT, account_from_row, add_account, fetch, transact
from catfish.store.arrays import text, texts
from catfish.store.connection import Connection
from catfish.store.pool import Pool
from catfish.store.queries import statement

REGISTERED: Final = b"""
SELECT id FROM accounts WHERE id = ANY (%(users)b) UNION SELECT user_id FROM identities WHERE user_id = ANY (%(users)b)
"""
REGISTER: Final = b"""
INSERT INTO identities (user_id) SELECT u.id FROM unnest(%b::text[]) AS u (id)
WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.id = u.id) ORDER BY u.id
ON CONFLICT (user_id) DO NOTHING RETURNING user_id
"""

BY_EMAIL: Final = statement(
    "SELECT p.hash, {account} FROM accounts a LEFT JOIN passwords p ON p.account = a.id WHERE a.email = %b",
    account=ACCOUNT,
)
BY_ID: Final = statement(
    "SELECT p.hash, {account} FROM accounts a LEFT JOIN passwords p ON p.account = a.id WHERE a.id = %b",
    account=ACCOUNT,
)
ADD_PASSWORD: Final = b"INSERT INTO passwords (account, hash) VALUES (%b, %b) ON CONFLICT (account) DO NOTHING"
CHANGE_PASSWORD: Final = b"UPDATE passwords SET hash = %b, changed_at = now() WHERE account = %b AND hash = %b"

PRUNE: Final = b"DELETE FROM refresh_tokens WHERE expires_at < now()"
ADD_TOKEN: Final = b"""
INSERT INTO refresh_tokens (hash, family, account, expires_at) VALUES (%b, %b, %b, now() + make_interval(secs => %b))
"""
# The row is locked: of two who bring the same token at the same time the second finds it used.
TOKEN: Final = statement(
    """
SELECT t.family, t.used_at IS NOT NULL, {account} FROM refresh_tokens t JOIN accounts a ON a.id = t.account
WHERE t.hash = %b AND t.expires_at > now() FOR UPDATE OF t
""",
    account=ACCOUNT,
)
USE: Final = b"UPDATE refresh_tokens SET used_at = now() WHERE hash = %b"
OWNER: Final = b"SELECT family, account FROM refresh_tokens WHERE hash = %b"
END_FAMILY: Final = b"DELETE FROM refresh_tokens WHERE family = %b"
END_ALL: Final = b"DELETE FROM refresh_tokens WHERE account = %b"


class Logins(LoginStore, IdentityStore):
    """Implements `rooms.logins.LoginStore` and `rooms.accounts.IdentityStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def registered(self, users: Collection[str]) -> set[str]:
        found = await self._pool.run(partial(fetch, query=REGISTERED, parameters={"users": texts(sorted(users))}))
        return {id for (id,) in found}

    async def register(self, users: Collection[str]) -> set[str]:
        work = partial(fetch, query=REGISTER, parameters=(texts(sorted(users)),))
        return {id for (id,) in await self._pool.run(work, abandon=False)}

    async def enrol(self, account: Account, hash: str, conversation: str) -> Account | None:
        def work(connection: Connection) -> Account | None:
            if not add_account(connection, account):
                return None
            connection.execute(ADD_PASSWORD, (text(account.id), text(hash)))
            conversations.talk(connection, account.id, account.id, conversation)
            found = _credentials(connection, BY_ID, account.id)
            return None if found is None else found.account

        return await transact(self._pool, work)

    async def credentials(self, *, email: str | None = None, account: str | None = None) -> Credentials | None:
        query, wanted = (BY_EMAIL, email) if account is None else (BY_ID, account)
        assert wanted is not None
        return await self._pool.run(partial(_credentials, query=query, wanted=wanted))

    async def set_password(self, account: str, hash: str, *, former: str | None) -> bool:
        def work(connection: Connection) -> bool:
            if former is None:
                return connection.execute(ADD_PASSWORD, (text(account), text(hash))).rowcount == 1
            return connection.execute(CHANGE_PASSWORD, (text(hash), text(account), text(former))).rowcount == 1

        return await self._pool.run(work, abandon=False)

    async def begin(self, token: str, family: str, account: str, valid_s: float) -> None:
        def work(connection: Connection) -> None:
            connection.execute(PRUNE)
            connection.execute(ADD_TOKEN, (text(token), text(family), text(account), Float8(valid_s)))

        await transact(self._pool, work)

    async def renew(self, token: str, following: str, valid_s: float) -> Renewed:
        def work(connection: Connection) -> Renewed:
            rows = fetch(connection, TOKEN, (text(token),))
            if not rows:
                return Renewed()
            family, used, *about = rows[0]
            account = account_from_row(tuple(about))
            if used and fetch(connection, OWNER, (text(following),)):
                return Renewed(account=account)  # by this very call, whose connection was lost
            if used:
                connection.execute(END_FAMILY, (text(family),))
                return Renewed(reused=True)
            connection.execute(USE, (text(token),))
            connection.execute(ADD_TOKEN, (text(following), text(family), text(account.id), Float8(valid_s)))
            return Renewed(account=account)

        return await transact(self._pool, work)

    async def end(self, token: str, *, everywhere: bool = False) -> str | None:
        def work(connection: Connection) -> str | None:
            rows = fetch(connection, OWNER, (text(token),))
            if not rows:
                return None
            [(family, account)] = rows
            if everywhere:
                connection.execute(END_ALL, (text(account),))
            else:
                connection.execute(END_FAMILY, (text(family),))
            return str(account)

        return await transact(self._pool, work)

    async def end_all(self, account: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(END_ALL, (text(account),))

        await transact(self._pool, work)


def _credentials(connection: Connection, query: bytes, wanted: str) -> Credentials | None:
    rows = fetch(connection, query, (text(wanted),))
    if not rows:
        return None
    hash, *about = rows[0]
    return Credentials(account=account_from_row(tuple(about)), hash=hash)
