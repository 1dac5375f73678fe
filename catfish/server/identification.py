"""Who a session is: a guest, under an id of its own choice or none, or the user whom a token names, until it runs out.

A token comes with the connection or later, and may be followed by a fresh one of the same user at any time. When none
has followed by the time it runs out, the connection is closed with `TOKEN_EXPIRED`; that takes one timer in the
instance's heap, and none for a guest.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from catfish.auth.tokens import Identity
from catfish.contracts.common import name_in
from catfish.errors import NORMAL, TOKEN_EXPIRED, Close, Rejected
from catfish.net.timers import Timer
from catfish.rooms.clock import now_ms
from catfish.rooms.codes import draw_id
from catfish.rooms.events import Event
from catfish.rooms.grants import Grants
from catfish.rooms.policy import Policy, bad_request
from catfish.server.instance import Instance
from catfish.server.limits import Meter
from catfish.wire.http import RequestHead

QUERY = ("access_token", "token")
"""Parameters of a query that hold a token (RFC 6750 section 2.3), for pages, which cannot set a WebSocket's headers."""


def bearer_in(header: str | None) -> str | None:
    """The token in a field `Authorization` (RFC 6750 section 2.1)."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def token_in_query(query: str) -> str | None:
    """The token in the query of an address."""
    if "token=" not in query:
        return None
    try:
        found = parse_qs(query, max_num_fields=100)
    except ValueError:
        return None
    return next((found[name][0].strip() for name in QUERY if name in found), None) or None


def token_in(head: RequestHead) -> str | None:
    """The token that comes with a request, in its header or else in its query."""
    return bearer_in(head.headers.get("authorization")) or token_in_query(head.query)


class Identified:
    """What a `Participant` knows of its user."""

    __slots__ = (
        "_expiry",
        "_instance",
        "apart",
        "ended",
        "expires_at",
        "grants",
        "hang_up",
        "hear",
        "identified",
        "meter",
        "name",
        "policy",
        "session",
        "trusted",
        "user",
    )

    def __init__(self, instance: Instance, meter: Meter | None, hang_up: Callable[[Close], None]) -> None:
        self._instance = instance
        self.meter = meter
        if meter is not None:
            meter.hang_up = hang_up
        self.policy: Policy = instance.policy
        self.hang_up = hang_up
        self.session = self.user = self.name = draw_id("s")
        self.trusted = not instance.tokens.required
        """Whether it may do more than say who it is."""
        self.identified = False
        self.grants: Grants | None = None
        """What the token lets it do; None: it restricts nothing, or there was none."""
        self.expires_at: int | None = None
        """When the token runs out, in milliseconds since the epoch; None: never, or there was none."""
        self.apart: frozenset[str] = frozenset()
        """Whom the user has blocked, and who has blocked it; known once it was in a room."""
        self.hear: Callable[[Event], None] = _not_told
        """Tells the client what it is to know wherever it is; only the native vocabulary has words for that."""
        self.ended = False
        self._expiry: Timer | None = None

    @property
    def is_in_rooms(self) -> bool:
        raise NotImplementedError

    # By a token

    async def authenticate(self, token: str | None, user: str | None, name: str | None) -> None:
        if token is not None:
            self.identify(await self._instance.tokens.verify(token), user, name)
        elif not self.trusted:
            raise Rejected("unauthorized", "token: is required")
        elif self.identified and user is not None and user != self.user:
            raise bad_request("user", "is not the one whom the token names")
        else:
            await self.introduce(user=user, name=name)

    async def recognise(self, token: str | None) -> None:
        """As a token says that came with the connection; without one, or one that means nothing here, as a guest.

        Raises:
            Rejected: unauthorized, unavailable.
        """
        identity = await self._instance.tokens.recognise(token)
        if identity is not None:
            self.identify(identity)

    def identify(self, identity: Identity, user: str | None = None, name: str | None = None) -> None:
        """Be the one whom a token names. Rejected: bad_request when that is another than `user`; forbidden, when it is
        another than before while the session is in rooms; rate_limited."""
        if user is not None and user != identity.user:
            raise bad_request("user", "is not the one whom the token names")
        is_fresh = not (self.identified and self.user == identity.user)
        self._check_change(identity.user)
        if self.meter is not None:
            self.meter.become(identity.user)
        if name is not None:
            self.name = self.policy.name(name)
        elif is_fresh:
            self.name = name_in(identity.name) or identity.user
        self._move_to(identity.user)
        self.trusted = self.identified = True
        self.grants = identity.grants
        self._expire_at(identity.expires_at)
        self._instance.recognised(identity.user)

    async def refresh(self, token: str) -> None:
        """Go on with a fresh token of the same user.

        Raises:
            Rejected: unauthorized, unavailable; forbidden for somebody else's.
        """
        identity = await self._instance.tokens.verify(token)
        if identity.user != self.user and (self.identified or self.is_in_rooms):
            raise Rejected("forbidden", "token: is another user's than this session's")
        self.identify(identity)

    def _expire_at(self, expires_at: int | None) -> None:
        self.expires_at = expires_at
        self._forget_expiry()
        if expires_at is not None and not self.ended:
            left_s = max(0.0, (expires_at - now_ms()) / 1000)
            self._expiry = self._instance.timers.call_later(left_s, self._expire)

    def _forget_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self) -> None:
        self._expiry = None
        self.hang_up(TOKEN_EXPIRED)

    # By its own word

    async def introduce(self, *, user: str | None = None, name: str | None = None) -> None:
        if self.identified:
            user = None
        if user is not None and user != self.user:
            self._check_change(self.policy.user(user))
            await self._instance.registry.check(user)
        if name is not None:
            name = self.policy.name(name)
        if user is not None:
            self._check_change(user)
            if self.meter is not None:
                self.meter.become(user)
            self.name = name or user
            self._move_to(user)
        elif name is not None:
            self.name = name

    def may_be_author(self, user: str) -> bool:
        return user == self.user or self._instance.registry.is_vouched(user)

    async def check_author(self, user: str, *, vouched: bool = False) -> None:
        if user == self.user:
            return
        registry, is_vouched = self._instance.registry, self._instance.is_vouched
        try:
            await registry.check(user)
        except Rejected as refusal:
            if refusal.code != "user_taken" or not vouched or is_vouched is None or not await is_vouched(user):
                raise
            registry.note_vouched(user)

    def resume(
        self,
        user: str,
        name: str,
        *,
        identified: bool,
        grants: Grants | None = None,
        expires_at: int | None = None,
    ) -> None:
        """Be again who one was on an earlier connection. Not while the session is in rooms."""
        if self.meter is not None:
            self.meter.rename(user)
        self._move_to(user)
        self.name, self.identified, self.grants = name, identified, grants
        self._expire_at(expires_at)

    def _check_change(self, user: str) -> None:
        if user != self.user and self.is_in_rooms:
            raise Rejected("forbidden", "user: cannot change while the session is in rooms")

    def _move_to(self, user: str) -> None:
        self._instance.users.remove(self, self.user)
        self.user = user
        if not self.ended:
            self._instance.users.add(self)

    def disconnect(self) -> None:
        self.hang_up(NORMAL)


def _not_told(event: Event) -> None:
    """Clients of the other vocabularies would not know what to do with it."""
