"""Which users are somebody: who has an account, and who has ever come with a token. No guest takes their ids.

Who comes with a token is noted here at once, and in the database soon after, with all others of that moment. The id
that a guest asks for is looked up; those who ask while a query is under way share the next one. So however many come at
the same time, there are two statements under way at most, and a guest without such a wish costs none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from catfish.errors import Rejected
from catfish.rooms.accounts import IdentityStore
from catfish.rooms.ports import StoreUnavailable
from catfish.server.journal import UNAVAILABLE_RETRY_MS

log = logging.getLogger(__name__)

KNOWN_MAX: Final = 65_536
"""Users who came with a token that are remembered here; the oldest is looked up again, and noted again."""
RETRY_S: Final = 1.0


class _Query:
    """One statement, for everybody who asks until it begins."""

    __slots__ = ("failed", "found", "users")

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.found: set[str] | None = None
        self.failed = False


class Registry:
    """
    Attributes:
        store: set by the one who has one; without it only those are known who came here.
        appeared: called with users of whom nobody had heard anywhere.
    """

    def __init__(self) -> None:
        self.store: IdentityStore | None = None
        self.appeared: Callable[[set[str]], None] = lambda _: None
        self._known: dict[str, None] = {}
        self._vouched: dict[str, None] = {}
        self._new: set[str] = set()
        self._work = trio.Event()
        self._query: _Query | None = None
        self._asking = trio.Lock()
        self.queries = 0

    def note(self, user: str) -> bool:
        """The user came with a token; whether that is news here."""
        if user in self._known:
            return False
        self._known[user] = None
        if len(self._known) > KNOWN_MAX:
            self._new.discard(oldest := next(iter(self._known)))
            del self._known[oldest]
        self._new.add(user)
        self._work.set()
        return True

    def note_vouched(self, user: str) -> None:
        """The user is an account for which a provider vouches: PulseChat's front end writes in its name by itself."""
        self._vouched[user] = None
        if len(self._vouched) > KNOWN_MAX:
            del self._vouched[next(iter(self._vouched))]

    def is_vouched(self, user: str) -> bool:
        """Whether that was noted."""
        return user in self._vouched

    async def check(self, user: str) -> None:
        """Whether a guest may take that id. Rejected: user_taken, unavailable."""
        if await self._is_somebody(user) or user in self._known:
            raise Rejected("user_taken", f"user: {user[:128]!r} signs in with a token; without one take another id")

    async def _is_somebody(self, user: str) -> bool:
        if user in self._known:
            return True
        store = self.store
        if store is None:
            return False
        query = self._query
        if query is None:
            query = self._query = _Query()
        query.users.add(user)
        async with self._asking:
            if query.found is None and not query.failed:
                self._query = None
                self.queries += 1
                try:
                    query.found = await store.registered(query.users)
                except StoreUnavailable:
                    query.failed = True  # also for those who wait for the same answer
        if query.found is None:
            raise Rejected("unavailable", "the database does not answer", UNAVAILABLE_RETRY_MS)
        return user in query.found

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bring what was noted into the database, until cancelled."""
        task_status.started()
        while True:
            await self._work.wait()
            self._work = trio.Event()
            store, users = self.store, self._new
            self._new = set()
            if store is None or not users:
                continue
            try:
                appeared = await store.register(users)
            except StoreUnavailable as error:
                log.debug("users who came with tokens are noted later", extra={"error": str(error)})
                self._new |= users
                await trio.sleep(RETRY_S)
                self._work.set()
            else:
                if appeared:
                    self.appeared(appeared)
