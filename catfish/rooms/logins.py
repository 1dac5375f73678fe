"""Logins by password, and the refresh tokens that prolong them: what the domain needs of their store."""

from __future__ import annotations

from typing import Protocol

import msgspec

from catfish.rooms.accounts import Account


class Credentials(msgspec.Struct, kw_only=True):
    """An account, and the hash of its password; None: it has none, somebody else vouches for it."""

    account: Account
    hash: str | None


class Renewed(msgspec.Struct, kw_only=True):
    """What became of a refresh token that somebody brought.

    One of: it was good, and `account` may go on; it was used before (`reused`), so its family is revoked; neither: it
    never was one, has expired, or was revoked.
    """

    account: Account | None = None
    reused: bool = False


class LoginStore(Protocol):
    """In Postgres. Every method may raise `StoreUnavailable`. Tokens are only ever named by their hashes."""

    async def enrol(self, account: Account, hash: str, conversation: str) -> Account | None:
        """Store an account with a password, and a conversation of that id with itself. None: the email is taken."""
        ...

    async def credentials(self, *, email: str | None = None, account: str | None = None) -> Credentials | None:
        """Of the account with that email, or with that id."""
        ...

    async def set_password(self, account: str, hash: str, *, former: str | None) -> bool:
        """Put a hash in the place of `former` (None: of none); False when another one is there by now."""
        ...

    async def begin(self, token: str, family: str, account: str, valid_s: float) -> None:
        """The first refresh token of a family. Forgets tokens that have expired."""
        ...

    async def renew(self, token: str, following: str, valid_s: float) -> Renewed:
        """Use a refresh token up, and store the one that follows it in its family."""
        ...

    async def end(self, token: str, *, everywhere: bool = False) -> str | None:
        """Revoke the family of a refresh token, or every one of its account, which is returned; None: it is none."""
        ...

    async def end_all(self, account: str) -> None:
        """Revoke every refresh token of an account."""
        ...
