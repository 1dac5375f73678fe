"""Accounts, and the port of everything that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, TypeVar

from psycopg.types.numeric import Int8

from catfish.rooms.accounts import PASSWORD, Account, AccountStore, Conversation, Found, FriendRequest, Overview
from catfish.store import conversations, friends
from catfish.store.account_rows import ACCOUNT, account_from_row, add_account, fetch, transact
from catfish.store.arrays import text, texts
from catfish.store.connection import Connection
from catfish.store.pool import Pool
from catfish.store.queries import statement

T = TypeVar("T")
FRIENDS_SHOWN: Final = 100
"""Friends of an account in the answer to a search."""

SECRET: Final = b"SELECT value FROM secrets WHERE name = %b"
SET_SECRET: Final = b"INSERT INTO secrets (name, value) VALUES (%b, %b) ON CONFLICT (name) DO NOTHING"

BY_IDS: Final = statement("SELECT {account} FROM accounts a WHERE a.id = ANY (%b)", account=ACCOUNT)
BY_EMAIL: Final = statement("SELECT {account} FROM accounts a WHERE a.email = %b", account=ACCOUNT)
ANY_ACCOUNT: Final = b"SELECT EXISTS (SELECT FROM accounts)"
VOUCH: Final = b"UPDATE accounts SET provider = %b, oauth_id = %b, updated_at = now() WHERE id = %b"
END_PASSWORD: Final = b"DELETE FROM passwords WHERE account = %b"
END_LOGINS: Final = b"DELETE FROM refresh_tokens WHERE account = %b"
SEARCH: Final = statement(
    """
SELECT {account} FROM accounts a
WHERE strpos(lower(a.name COLLATE "default"), lower(%b::text COLLATE "default")) > 0
ORDER BY a.created_at DESC, a.id DESC OFFSET %b LIMIT %b
""",
    account=ACCOUNT,
)
FRIENDS_OF: Final = statement(
    """
SELECT k.id, {account} FROM unnest(%(ids)b::text[]) AS k (id) CROSS JOIN LATERAL (
    SELECT f.friend FROM friendships f WHERE f.account = k.id
    ORDER BY f.friend = %(first)b DESC, f.friend LIMIT %(limit)b
) f JOIN accounts a ON a.id = f.friend
ORDER BY k.id, a.id = %(first)b DESC, a.id
""",
    account=ACCOUNT,
)


class Accounts(AccountStore):
    """Implements `rooms.accounts.AccountStore`. Texts that Postgres cannot hold raise `arrays.Unstorable` or
    `psycopg.DataError`: check them before."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def secret(self, name: str, drawn: str) -> str:
        return await self._write(partial(_secret, name=name, drawn=drawn))

    async def account(self, id: str) -> Account | None:
        return (await self.accounts([id])).get(id)

    async def accounts(self, ids: Collection[str]) -> dict[str, Account]:
        return await self._pool.run(partial(_accounts, ids=ids))

    async def any_account(self) -> bool:
        [(found,)] = await self._pool.run(partial(fetch, query=ANY_ACCOUNT))
        return bool(found)

    async def sign_in(self, account: Account, conversation: str) -> Account:
        return await self._write(partial(_sign_in, account=account, conversation=conversation))

    async def search(self, text: str, of: str, offset: int, limit: int) -> list[Found]:
        return await self._pool.run(partial(_search, wanted=text, of=of, offset=offset, limit=limit))

    # Conversations

    async def talk(self, caller: str, other: str, id: str) -> Conversation | None:
        def work(connection: Connection) -> Conversation | None:
            if len(_accounts(connection, {caller, other})) < len({caller, other}):
                return None
            return conversations.talk(connection, caller, other, id)

        return await self._write(work)

    async def gather(self, caller: str, members: Sequence[str], name: str, id: str) -> Conversation | None:
        def work(connection: Connection) -> Conversation | None:
            if len(_accounts(connection, {caller, *members})) < len({caller, *members}):
                return None
            return conversations.gather(connection, caller, members, name, id)

        return await self._write(work)

    async def conversation(self, *, id: str | None = None, number: int | None = None) -> Overview | None:
        return await self._pool.run(partial(conversations.conversation, id=id, number=number))

    async def conversations(self, account: str, limit: int) -> list[Overview]:
        return await self._pool.run(partial(conversations.conversations, account=account, limit=limit))

    async def may_enter(self, room: str, account: str) -> bool:
        return await self._pool.run(partial(conversations.may_enter, room=room, account=account))

    # Friends

    async def request(self, sender: str, receiver: str) -> tuple[FriendRequest, bool]:
        return await self._pool.run(partial(friends.request, sender=sender, receiver=receiver), abandon=False)

    async def friend_request(self, id: int) -> FriendRequest | None:
        return await self._pool.run(partial(friends.friend_request, id=id))

    async def requests(self, account: str, limit: int) -> list[FriendRequest]:
        return await self._pool.run(partial(friends.requests, account=account, limit=limit))

    async def accept(self, id: int, conversation: str) -> Conversation | None:
        return await self._write(partial(friends.accept, id=id, conversation=conversation))

    async def decline(self, id: int) -> FriendRequest | None:
        return await self._write(partial(friends.answer, id=id, status="declined"))

    async def are_friends(self, one: str, other: str) -> bool:
        return await self._pool.run(partial(friends.are_friends, one=one, other=other))

    async def part(self, one: str, other: str) -> bool:
        return await self._pool.run(partial(friends.part, one=one, other=other), abandon=False)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await transact(self._pool, work)


def _secret(connection: Connection, name: str, drawn: str) -> str:
    connection.execute(SET_SECRET, (name, drawn))
    [(value,)] = fetch(connection, SECRET, (name,))
    return str(value)


def _accounts(connection: Connection, ids: Collection[str]) -> dict[str, Account]:
    found = [account_from_row(row) for row in fetch(connection, BY_IDS, (texts(sorted(ids)),))]
    return {account.id: account for account in found}


def _sign_in(connection: Connection, account: Account, conversation: str) -> Account:
    found = _by_email(connection, account.email)
    if found is None:
        if add_account(connection, account):
            conversations.talk(connection, account.id, account.id, conversation)
    elif found.provider == PASSWORD:
        connection.execute(VOUCH, (text(account.provider), text(account.oauth_id), text(found.id)))
        connection.execute(END_PASSWORD, (text(found.id),))
        connection.execute(END_LOGINS, (text(found.id),))
    else:
        return found
    found = _by_email(connection, account.email)
    assert found is not None
    return found


def _by_email(connection: Connection, email: str) -> Account | None:
    rows = fetch(connection, BY_EMAIL, (text(email),))
    return account_from_row(rows[0]) if rows else None


def _search(connection: Connection, wanted: str, of: str, offset: int, limit: int) -> list[Found]:
    rows = fetch(connection, SEARCH, (text(wanted), Int8(offset), Int8(limit)))
    found = {account.id: Found(account=account, friends=[]) for account in map(account_from_row, rows)}
    parameters = {"ids": texts(list(found)), "first": text(of), "limit": Int8(FRIENDS_SHOWN)}
    for id, *friend in fetch(connection, FRIENDS_OF, parameters):
        found[id].friends.append(account_from_row(tuple(friend)))
    return list(found.values())
