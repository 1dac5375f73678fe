"""Token buckets: how much of something there may be. Pure; the time is given, in seconds of any clock.

Theory of operation
-------------------
A bucket holds up to `burst` tokens and gets `per_s` of them back each second; what happens takes one. Nothing runs
for that: a bucket knows when it was looked at last, and what it has got since then is worked out at the next look.

There are buckets of connections, which belong to their connection, and such of users and addresses, which many share
and which must be found by a key. `Buckets` keeps these, for one limit. A bucket that is full says nothing that a new
one does not say: it may be forgotten. One that some connection holds is not, or two would count for the same user.

`Tap` is what costs nearly nothing: it takes from several buckets at once, all or nothing, and takes more than one token
as soon as there were several requests, so that most of them only count down a number. That is never more than was used
before, and never more than `BATCH_MAX`.

Other processes see the same users. What was taken here is told to them now and then (`Buckets.collect`), and they take
it from their own buckets as well (`Buckets.charge`), which may leave these with a debt of up to `burst`. So everyone
decides at once and alone, and together they let through what the rate says, after a moment in which each of them may
have spent its burst. Whoever uses less than a quarter of a bucket is not worth telling about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from catfish.config_fields import Rate

BATCH_MAX: Final = 16
"""Tokens that a tap takes at once."""
WORTH_TELLING: Final = 0.25
"""The part of a bucket that must be gone before others are told."""
COLLECTED_MAX: Final = 2_000
"""Buckets of one limit that are looked at at once."""
LOOKED_AT: Final = 16
"""Buckets that are looked at for one to be forgotten."""


class Bucket:
    """Made full."""

    __slots__ = ("_at", "_keeper", "_level", "holders", "key", "rate", "spent")

    def __init__(self, rate: Rate, now: float, keeper: Buckets | None = None, key: str = "") -> None:
        self.rate = rate
        self.key = key
        self.holders = 0
        self.spent = 0
        """Taken here, and not told to others yet."""
        self._level = float(rate.burst)
        self._at = now
        self._keeper = keeper

    def level(self, now: float) -> float:
        """Tokens; below 0 it is in debt."""
        per_s, burst = self.rate
        if now > self._at:
            self._level = min(float(burst), self._level + (now - self._at) * per_s)
            self._at = now
        return self._level

    def wait_s(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        return max(0.0, (1.0 - self.level(now)) / self.rate.per_s)

    def take(self, count: int) -> None:
        """Take so many tokens, which were there at the time of the last look."""
        self._level -= count
        keeper = self._keeper
        if keeper is not None:
            self.spent += count
            if keeper.shared:
                keeper.changed[self] = None

    def give_back(self, count: int) -> None:
        """So many were taken for nothing."""
        self._level += count
        self.spent = max(0, self.spent - count)

    def charge(self, count: int, now: float) -> None:
        """So many were taken elsewhere."""
        self._level = max(-float(self.rate.burst), self.level(now) - count)


class Buckets:
    """The buckets of one limit, by the user or the address.

    Args:
        kept_max: how many are kept that nobody holds.
    """

    def __init__(self, rate: Rate, kept_max: int) -> None:
        self.rate = rate
        self.shared = False
        """Whether others are to be told."""
        self.changed: dict[Bucket, None] = {}
        """Those that something was taken from since `collect`."""
        self._kept_max = kept_max
        self._held: dict[str, Bucket] = {}
        self._loose: dict[str, Bucket] = {}  # the longest untouched first

    def __len__(self) -> int:
        return len(self._held) + len(self._loose)

    def get(self, key: str, now: float) -> Bucket:
        """The bucket; a full one when there was none."""
        bucket = self._held.get(key)
        if bucket is None:
            bucket = self._loose.pop(key, None)
            if bucket is None:
                bucket = Bucket(self.rate, now, self, key)
            self._keep(bucket, now)
        return bucket

    def hold(self, key: str, now: float) -> Bucket:
        """The same, and it is kept until it was released as often."""
        bucket = self._held.get(key)
        if bucket is None:
            bucket = self._loose.pop(key) if key in self._loose else Bucket(self.rate, now, self, key)
            self._held[key] = bucket
        bucket.holders += 1
        return bucket

    def release(self, bucket: Bucket, now: float) -> None:
        bucket.holders -= 1
        if not bucket.holders:
            del self._held[bucket.key]
            if bucket.level(now) < bucket.rate.burst:
                self._keep(bucket, now)

    def take(self, key: str, now: float) -> float:
        """Take a token. Returns seconds to wait instead, when there is none."""
        bucket = self.get(key, now)
        if bucket.level(now) < 1.0:
            return bucket.wait_s(now)
        bucket.take(1)
        return 0.0

    def collect(self, now: float) -> dict[str, int]:
        """What was taken here and is worth telling, by key; it counts as told. Of more than `COLLECTED_MAX` buckets the
        rest is for the next time."""
        told: dict[str, int] = {}
        for bucket in tuple(islice(self.changed, COLLECTED_MAX)):
            del self.changed[bucket]
            missing = bucket.rate.burst - bucket.level(now)
            # What has come back meanwhile has come back everywhere.
            bucket.spent = min(bucket.spent, round(missing))
            if bucket.spent and missing >= bucket.rate.burst * WORTH_TELLING:
                told[bucket.key], bucket.spent = bucket.spent, 0
        return told

    def charge(self, spent: Mapping[str, int], now: float) -> None:
        """Take what others told of."""
        for key, count in spent.items():
            if count > 0:
                self.get(key, now).charge(min(count, 2 * self.rate.burst), now)

    def _keep(self, bucket: Bucket, now: float) -> None:
        """Keep one that nobody holds. For it one is forgotten that is full, else the longest untouched."""
        loose = self._loose
        if len(loose) >= self._kept_max:
            oldest = list(islice(loose.values(), LOOKED_AT))
            forgotten = next((each for each in oldest if each.level(now) >= each.rate.burst), oldest[0])
            del loose[forgotten.key]
            self.changed.pop(forgotten, None)
        loose[bucket.key] = bucket


class Tap:
    """Takes from several buckets, one token of each for each request.

    Args:
        buckets: in the order in which one is blamed.
        batch_max: tokens taken in advance, at most.
    """

    __slots__ = ("_batch", "_batch_max", "_promised_at", "buckets", "credit")

    def __init__(self, buckets: Sequence[Bucket], batch_max: int = BATCH_MAX) -> None:
        self.buckets = tuple(buckets)
        self.credit = 0
        """Requests that may come before `draw` is needed: whoever takes one counts it down."""
        self._batch = 1
        self._batch_max = batch_max
        self._promised_at = float("-inf")

    def _promise(self, now: float) -> float:
        """Seconds after which there will be a token for one more request, behind those that were told to come again
        before: each of many gets a time of its own, and finds a token then."""
        slowest = max(self.buckets, key=lambda bucket: bucket.wait_s(now))
        wait_s, interval_s = slowest.wait_s(now), 1 / slowest.rate.per_s
        # Whoever does not wait must not be told to wait for ever.
        latest = now + wait_s + slowest.rate.burst * interval_s
        self._promised_at = min(latest, max(now + wait_s, self._promised_at + interval_s))
        return self._promised_at - now

    def close(self) -> None:
        """Give back what was taken in advance."""
        for bucket in self.buckets:
            bucket.give_back(self.credit)
        self.credit = 0

    def draw(self, now: float) -> float:
        """One request, when there is no credit. Returns seconds to wait instead, when a bucket is empty."""
        got = self._batch
        for bucket in self.buckets:
            level = bucket.level(now)
            if level < 1.0:
                self._batch = 1
                return self._promise(now)
            if level < got:
                got = int(level)
        for bucket in self.buckets:
            bucket.take(got)
        self.credit = got - 1
        if self._batch < self._batch_max:
            self._batch *= 2
        return 0.0
