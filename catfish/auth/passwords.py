"""Passwords: Argon2id (RFC 9106), in worker threads, few at a time.

A hash takes tens of megabytes on purpose, so a flood of logins must not have many at once: `password_hashes_max` are
under way, `password_waiting_max` wait, and whoever comes then is told to come back later.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.policy import bad_request

T = TypeVar("T")
CHARS_MAX: Final = 1_024
BUSY_RETRY_MS: Final = 1_000


def normalise(password: str, field: str = "password") -> str:
    """A password as it is hashed: the same whichever way a keyboard composes its letters (NIST SP 800-63B, section
    5.1.1.2). Rejected: bad_request."""
    if len(password) > CHARS_MAX:
        raise bad_request(field, f"has more than {CHARS_MAX} characters")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise bad_request(field, "has half a surrogate pair") from None
    return unicodedata.normalize("NFKC", password)


class PasswordStatistics(NamedTuple):
    """Passwords that were hashed or are being hashed, logins that were told to come back, and those that wait."""

    hashed: int
    busy: int
    waiting: int


class Passwords:
    """Hashes and checks passwords. Its methods may be rejected as `busy`."""

    def __init__(self, settings: Settings) -> None:
        self._chars_min = settings.password_chars_min
        self._waiting_max = settings.password_waiting_max
        self._limiter = trio.CapacityLimiter(settings.password_hashes_max)
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_passes,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
        )
        self._nobody: str | None = None
        self.hashed = 0
        self.busy = 0

    def statistics(self) -> PasswordStatistics:
        return PasswordStatistics(self.hashed, self.busy, self._limiter.statistics().tasks_waiting)

    def check_new(self, password: str, field: str = "password") -> str:
        """A password that somebody chooses, as it is hashed. Rejected: bad_request."""
        password = normalise(password, field)
        if len(password) < self._chars_min:
            raise bad_request(field, f"has {len(password)} characters, {self._chars_min} are the least")
        return password

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, hash: str | None, password: str) -> bool:
        """Whether it is the password with that hash. None: there is none, which takes as long to find out."""
        return await self._run(lambda: self._verify(hash, password))

    def is_outdated(self, hash: str) -> bool:
        """Whether it was made with other parameters than those of the settings."""
        return self._hasher.check_needs_rehash(hash)

    def _verify(self, hash: str | None, password: str) -> bool:
        """In a thread."""
        if self._nobody is None:
            self._nobody = self._hasher.hash("nobody's")
        try:
            self._hasher.verify(self._nobody if hash is None else hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return hash is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._limiter.statistics().tasks_waiting >= self._waiting_max:
            self.busy += 1
            raise Rejected("busy", "too many passwords are being checked at the moment", BUSY_RETRY_MS)
        self.hashed += 1
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
