"""How much each connection, user and address may do: the buckets of one process, and what sessions ask of them.

What is limited is told by the settings `limit_…`, each for a *kind* of request and a *scope*:

    kind          connection   user   address     where it is asked
    connecting                  x        x        handshakes; `Participant` when it becomes somebody
    events            x         x        x        every event, before it is looked at; requests for polling
    joining           x         x        x        `Participant`
    matching          x         x        x        `Participant`
    sending           x         x        x        `Participant`
    rest                        x        x        HTTP requests
    login                                x        HTTP requests that check passwords
    refused           x                           what was refused here: beyond it the connection is closed

A connection from an address of `limits_exempt` has no meter: then all of this costs the question whether there is one.
Who comes from there through a proxy that the settings do not name is limited by connection and by user, since it could
be anybody; not by address, since that is everybody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal

import attrs
import trio

from catfish.auth.limits import Bucket, Buckets, Tap
from catfish.config import Settings
from catfish.config_fields import Rate, parse_rate
from catfish.errors import RATE_LIMITED, Close, Rejected
from catfish.net.proxies import is_straight
from catfish.wire.addresses import Networks, subscriber_of
from catfish.wire.http import HttpRefusal

Kind = Literal["connecting", "events", "joining", "matching", "sending", "rest", "login", "refused"]
Scope = Literal["connection", "user", "address"]
Own = dict[Kind, Bucket]
"""The buckets of one connection, as far as it has used them. Its sessions share them."""

TOO_MANY: Final[Mapping[Kind, str]] = {
    "connecting": "too many connections in a short time",
    "events": "too many events in a short time",
    "joining": "too many rooms in a short time",
    "matching": "too many matches in a short time",
    "sending": "too many messages in a short time",
    "rest": "too many requests in a short time",
    "login": "too many sign-ins in a short time",
}
SHARE_S: Final = 0.25
"""Seconds between two times that other instances are told what was spent here."""
TOLD_MAX: Final = 500
"""Buckets in one event: it is to be no larger than other entries of the mirror."""
PREFIX: Final = "limit_"


@attrs.frozen
class LimitsStatistics:
    """Since the start, and at this moment."""

    refused: Mapping[str, int]
    """Requests, by kind."""
    cut: int
    """Connections that were closed because too much of them had been refused."""
    told: int
    """Buckets that other instances were told of."""
    heard: int
    """Buckets that other instances told of."""
    kept: int
    """Buckets of users and addresses in memory."""


class Limits:
    """Args:
    clock: seconds; need not be anybody else's.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = trio.current_time) -> None:
        self.clock = clock
        self.rates: dict[tuple[Kind, Scope], Rate] = {}
        """What is limited; what is not here is not."""
        self.refused: Counter[str] = Counter()
        self.cut = 0
        self._told = 0
        self._heard = 0
        self._exempt = Networks(settings.limits_exempt)
        self._shared: dict[tuple[str, str], Buckets] = {}
        for field in attrs.fields(Settings):
            if field.name.startswith(PREFIX):
                rate = parse_rate(getattr(settings, field.name))
                kind, _, scope = field.name.removeprefix(PREFIX).partition("_")
                if rate is None:
                    continue
                self.rates[kind, scope] = rate  # type: ignore[index]
                if scope != "connection":
                    self._shared[kind, scope] = Buckets(rate, settings.limits_kept_max)

    def meter(self, address: str, headers: Mapping[str, str], own: Own | None = None) -> Meter | None:
        """What a new session is measured by; None when nothing limits it.

        Args:
            address: the client's.
            headers: of the request that opened the connection.
            own: the connection's buckets, where it has several sessions.
        """
        return (
            None if self.exempts(address, headers) else Meter(self, self._counted(address), {} if own is None else own)
        )

    def exempts(self, address: str, headers: Mapping[str, str]) -> bool:
        """Whether nothing limits a client."""
        return address in self._exempt and is_straight(headers)

    def take(self, kind: Kind, *, user: str | None = None, address: str | None = None) -> None:
        """A request of somebody who is not exempt.

        Raises:
            Rejected: rate_limited.
        """
        address = None if address is None else self._counted(address)
        now = self.clock()
        keys: tuple[tuple[Scope, str | None], ...] = (("user", user), ("address", address))
        for scope, key in keys:
            buckets = self._shared.get((kind, scope))
            if key is not None and buckets is not None and (wait_s := buckets.take(key, now)):
                raise self.reject(kind, wait_s)

    def reject(self, kind: Kind, wait_s: float) -> Rejected:
        """The refusal of one request; it is counted."""
        self.refused[kind] += 1
        return Rejected("rate_limited", TOO_MANY[kind], math.ceil(wait_s * 1000))

    def refuse_handshake(self, address: str, headers: Mapping[str, str]) -> None:
        """A client wants to open a session.

        Raises:
            HttpRefusal: 429.
        """
        if self.exempts(address, headers):
            return
        try:
            self.take("connecting", address=address)
        except Rejected as refusal:
            raise HttpRefusal(
                429, f"{refusal}.".capitalize(), (("Retry-After", str(retry_after_s(refusal))),)
            ) from None

    def admit_request(self, address: str, headers: Mapping[str, str], opens: bool) -> int:
        """Implements `server.engineio.server.Admission`."""
        if self.exempts(address, headers):
            return 0
        try:
            self.take("connecting" if opens else "events", address=address)
        except Rejected as refusal:
            return retry_after_s(refusal)
        return 0

    def hold(self, kind: Kind, scope: Scope, key: str, now: float) -> tuple[Buckets, Bucket] | None:
        """The bucket of a user or an address, for as long as a session needs it; None where there is no limit."""
        buckets = self._shared.get((kind, scope))
        return None if buckets is None else (buckets, buckets.hold(key, now))

    # Other instances

    def share(self) -> None:
        """From now on others are to be told: `collect` is called now and then."""
        for buckets in self._shared.values():
            buckets.shared = True

    def collect(self) -> dict[str, int]:
        """What was spent here since the last time, for `charge` of the others."""
        now = self.clock()
        spent = {
            f"{kind}:{scope}:{key}": count
            for (kind, scope), buckets in self._shared.items()
            if buckets.changed
            for key, count in buckets.collect(now).items()
        }
        self._told += len(spent)
        return spent

    def charge(self, spent: Mapping[str, int]) -> None:
        """Another instance told what was spent there."""
        now = self.clock()
        self._heard += len(spent)
        for name, count in spent.items():
            kind, _, rest = name.partition(":")
            scope, _, key = rest.partition(":")
            buckets = self._shared.get((kind, scope))
            if buckets is not None:
                buckets.charge({key: count}, now)

    def statistics(self) -> LimitsStatistics:
        """Counts."""
        return LimitsStatistics(
            refused=dict(self.refused),
            cut=self.cut,
            told=self._told,
            heard=self._heard,
            kept=sum(map(len, self._shared.values())),
        )

    def _counted(self, address: str) -> str | None:
        """The address, where it is one client's; of IPv6 its network."""
        return None if address in self._exempt else subscriber_of(address)


class Meter:
    """Of one session. `hang_up` is set by whoever has it."""

    __slots__ = ("_address", "_events", "_held", "_limits", "_own", "_taps", "_user", "hang_up")

    def __init__(self, limits: Limits, address: str | None, own: Own) -> None:
        self.hang_up: Callable[[Close], None] = lambda close: None
        self._limits = limits
        self._address = address
        self._own = own
        self._user: str | None = None
        self._events: Tap | None = None
        self._taps: dict[Kind, Tap] = {}
        self._held: list[tuple[Buckets, Bucket]] = []

    def event(self) -> Rejected | None:
        """One event came, of any kind. Returns why it is not to be handled."""
        tap = self._events
        if tap is not None and tap.credit:
            tap.credit -= 1
            return None
        if tap is None:
            tap = self._events = self._taps["events"] = self._tap("events")
        wait_s = tap.draw(self._limits.clock())
        return self._reject("events", wait_s) if wait_s else None

    def check(self, kind: Kind) -> None:
        """One request of that kind.

        Raises:
            Rejected: rate_limited.
        """
        tap = self._taps.get(kind)
        if tap is None:
            tap = self._taps[kind] = self._tap(kind)
        if tap.credit:
            tap.credit -= 1
        elif wait_s := tap.draw(self._limits.clock()):
            raise self._reject(kind, wait_s)

    def become(self, user: str) -> None:
        """A session begins, or goes on, as somebody.

        Raises:
            Rejected: rate_limited; it stays who it was.
        """
        if user != self._user:
            self._limits.take("connecting", user=user)
            self.rename(user)

    def rename(self, user: str) -> None:
        """The same, for a session that is no new one."""
        self.end()
        self._user = user

    def end(self) -> None:
        """The session is over, or somebody else's."""
        held, self._held = self._held, []
        for tap in self._taps.values():
            tap.close()
        self._events = None
        self._taps.clear()
        now = self._limits.clock()
        for buckets, bucket in held:
            buckets.release(bucket, now)

    def _tap(self, kind: Kind) -> Tap:
        limits, now = self._limits, self._limits.clock()
        buckets = []
        own = self._bucket(kind, now)
        if own is not None:
            buckets.append(own)
        keys: tuple[tuple[Scope, str | None], ...] = (("user", self._user), ("address", self._address))
        for scope, key in keys:
            if key is not None and (held := limits.hold(kind, scope, key, now)) is not None:
                self._held.append(held)
                buckets.append(held[1])
        return Tap(buckets)

    def _bucket(self, kind: Kind, now: float) -> Bucket | None:
        bucket = self._own.get(kind)
        rate = self._limits.rates.get((kind, "connection"))
        if bucket is None and rate is not None:
            bucket = self._own[kind] = Bucket(rate, now)
        return bucket

    def _reject(self, kind: Kind, wait_s: float) -> Rejected:
        now = self._limits.clock()
        refused = self._bucket("refused", now)
        if refused is not None:
            if refused.level(now) >= 1:
                refused.take(1)
            else:
                self._limits.cut += 1
                self.hang_up(RATE_LIMITED)
        return self._limits.reject(kind, wait_s)


def retry_after_s(refusal: Rejected) -> int:
    """For `Retry-After` (RFC 9110 section 10.2.3): whole seconds, one at least."""
    return max(1, math.ceil((refusal.retry_after_ms or 0) / 1000))
