"""Logins by email and password: accounts, access tokens for some minutes, refresh tokens that are used once.

A refresh token is drawn, and only its hash is stored. Whoever brings it gets the next one of its family. One that is
brought a second time was stolen at some time, from or by whoever brings it; nobody can tell, so the family ends.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, NamedTuple, Protocol

from catfish.auth.passwords import Passwords, normalise
from catfish.errors import Rejected
from catfish.rooms.accounts import PASSWORD, Account, IdentityStore
from catfish.rooms.codes import draw_id
from catfish.rooms.colors import color_of
from catfish.rooms.logins import LoginStore
from catfish.rooms.policy import bad_request
from catfish.rooms.uuids import draw_uuid
from catfish.server.accounts import EMAIL_CHARS_MAX, NAME_CHARS_MAX, Accounts
from catfish.server.archive import available
from catfish.server.instance import Instance

TOKEN_CHARS_MAX: Final = 128
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


class Tokens(NamedTuple):
    access: str
    refresh: str
    expires_in_s: int
    """The access token."""


class Logged(NamedTuple):
    account: Account
    tokens: Tokens


class LoginStores(LoginStore, IdentityStore, Protocol):
    """What one object of the store is both of."""


class Logins:
    """Of one instance. Every method may be rejected as `unavailable`, those with a password as `busy`."""

    def __init__(self, instance: Instance, accounts: Accounts, store: LoginStores) -> None:
        self._instance = instance
        self._settings = instance.settings
        self._accounts = accounts
        self._store = store
        self.passwords = Passwords(instance.settings)
        instance.registry.store = store

    @property
    def is_open(self) -> bool:
        """Whether anybody may register."""
        registration = self._settings.registration
        return registration == "open" or (registration == "auto" and self._settings.auth == "open")

    async def register(self, *, email: str, password: str, name: str | None) -> Logged:
        """Make an account. Rejected: bad_request, email_taken."""
        policy = self._instance.policy
        email = policy.label(email.strip(), "email", EMAIL_CHARS_MAX)
        name = email.partition("@")[0][:NAME_CHARS_MAX] if name is None else name.strip()
        email = _email(email)
        account = Account(
            id=draw_id("u"),
            name=policy.label(name, "name", NAME_CHARS_MAX),
            email=email,
            image=None,
            provider=PASSWORD,
            oauth_id="",
            color=color_of(email),
            created_at=0,
            updated_at=0,
        )
        hash = await self.passwords.hash(self.passwords.check_new(password))
        stored = await available(self._store.enrol(account, hash, draw_uuid()))
        if stored is None:
            raise Rejected("email_taken", "email: there is an account with it already")
        self._accounts.there_is_one()
        return Logged(stored, await self._begin(stored))

    async def log_in(self, email: str, password: str) -> Logged:
        """Rejected: bad_credentials."""
        account = await self._check(password, email=email.strip().lower())
        return Logged(account, await self._begin(account))

    async def change_password(self, user: str, former: str, password: str) -> Logged:
        """Put another password in the place of the former one; every other login ends.

        Raises:
            Rejected: bad_credentials, bad_request.
        """
        password = self.passwords.check_new(password, "newPassword")
        account = await self._check(former, id=user)
        hash = await self.passwords.hash(password)
        found = await available(self._store.credentials(account=account.id))
        if found is None or found.hash is None:
            raise _wrong()
        if not await available(self._store.set_password(account.id, hash, former=found.hash)):
            raise Rejected("bad_credentials", "password: was changed by somebody else meanwhile")
        await available(self._store.end_all(account.id))
        return Logged(account, await self._begin(account))

    async def refresh(self, token: str) -> Logged:
        """The next tokens. Rejected: unauthorized."""
        settings = self._settings
        following = secrets.token_urlsafe(32)
        renewed = await available(self._store.renew(_hash(token), _hash(following), settings.refresh_valid_s))
        if renewed.account is None:
            why = "is none, or has ended"
            if renewed.reused:
                why = "was used before, so all that followed from the same login have ended"
            raise Rejected("unauthorized", f"refreshToken: {why}; log in again")
        return Logged(renewed.account, await self._tokens(renewed.account, following))

    async def log_out(self, token: str, *, everywhere: bool = False) -> None:
        """End the login that a refresh token is of, or all of its account, whose sessions are ended as well. Does
        nothing for a token that has ended."""
        account = await available(self._store.end(_hash(token), everywhere=everywhere))
        if account is not None and everywhere:
            self._instance.disconnect(account)

    async def _check(self, password: str, *, email: str | None = None, id: str | None = None) -> Account:
        """The account with that password. An unknown one is refused in the same words, after the same time."""
        password = normalise(password)
        unknown = email is not None and (len(email) > EMAIL_CHARS_MAX or not email.isprintable() or not email)
        found = None if unknown else await available(self._store.credentials(email=email, account=id))
        hash = None if found is None else found.hash
        if not await self.passwords.verify(hash, password) or found is None or hash is None:
            raise _wrong()
        if self.passwords.is_outdated(hash):
            rehashed = await self.passwords.hash(password)
            await available(self._store.set_password(found.account.id, rehashed, former=hash))
        return found.account

    async def _begin(self, account: Account) -> Tokens:
        refresh = secrets.token_urlsafe(32)
        family = secrets.token_urlsafe(12)
        valid_s = self._settings.refresh_valid_s
        await available(self._store.begin(_hash(refresh), family, account.id, valid_s))
        return await self._tokens(account, refresh)

    async def _tokens(self, account: Account, refresh: str) -> Tokens:
        valid_s = self._settings.access_valid_s
        return Tokens(await self._accounts.sign(account, valid_s), refresh, valid_s)


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise bad_request("email", "must be an address such as ann@chat.example")
    return text.lower()


def _wrong() -> Rejected:
    return Rejected("bad_credentials", "email or password: there is no account with both")


def _hash(token: str) -> str:
    """What the database knows of a refresh token. It is drawn from 256 bits, so nobody guesses it from its hash."""
    if len(token) > TOKEN_CHARS_MAX:
        raise Rejected("unauthorized", "refreshToken: is none")
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
