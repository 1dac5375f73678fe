"""What an instance receives: entries of the others become events, and what is missing is noticed. No I/O.

Theory of operation. For every stream and publisher the newest sequence number is known. The next entry has the next
number; one beyond that says that entries were lost (trimmed, dropped by the publisher, or gone with a Redis that lost
its data), and one at or below it was here before, or comes too late, and is dropped. A publisher that is heard for the
first time, or again after a long silence, starts at 1 if nothing is missing. One that falls silent may have died with
something that it committed and did not send any more. In each of these cases, and when an entry cannot be read, the
instance is told that there may be a gap: at once, but no more than once in `GAP_PAUSE_S`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from catfish.mirror import codec
from catfish.rooms.events import Event
from catfish.rooms.ports import Mirrored

log = logging.getLogger(__name__)

GAP_PAUSE_S: Final = 1.5
"""Between two comparisons of all rooms that are asked for."""
SILENCE_S: Final = 5.0
"""Without any entry, not even a beat; then a publisher counts as dead."""
STREAMS_MAX: Final = 1_024
"""Of one deployment; what says that it has more is not believed."""


Sifted = codec.Batch | codec.CodecError
"""The content of an entry of another instance, with the rooms that are hosted here."""


def is_urgent(content: Sifted) -> bool:
    """Whether somebody waits for it; what says nothing to any room here only counts."""
    return isinstance(content, codec.CodecError) or bool(content.rooms)


class Delivery(NamedTuple):
    number: int
    event: Event
    to: str | None


class _Publisher:
    """An instance, as heard in one stream."""

    __slots__ = ("epoch", "heard_at", "sequence")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.sequence = 0
        self.heard_at = 0.0


class Incoming:
    """
    Args:
        instance: our own id; entries that carry it are not delivered.
        clock: milliseconds since the epoch.
    """

    def __init__(self, instance: str, mirrored: Mirrored, clock: Callable[[], int]) -> None:
        self.entries = 0
        """Of other instances, delivered or not."""
        self.events = 0
        """Of other instances, for rooms that are hosted here."""
        self.stale = 0
        """Entries that were here before, or came too late."""
        self.unreadable = 0
        self.gaps = 0
        self.streams = 0
        """The most streams that any publisher spreads its rooms over."""
        self.lag_ms: int | None = None
        """How long our own newest entry took from here to here."""
        self._instance = instance
        self._mirrored = mirrored
        self._clock = clock
        self._publishers: dict[tuple[int, str], _Publisher] = {}
        self._lost = False
        self._next_gap_at = float("-inf")

    @property
    def peers(self) -> int:
        """Other instances that are heard."""
        return len({instance for _, instance in self._publishers})

    def sift(self, entry: bytes) -> Sifted | None:
        """What is in an entry; None when it is our own. In any thread.

        A room that comes into memory while the entry is on its way from here to `receive` was not told of it; like
        every room that has just come, it is compared with the store.
        """
        try:
            batch = codec.decode_batch(entry)
        except codec.CodecError as error:
            return error
        if batch.instance != self._instance:
            hosts = self._mirrored.hosts
            batch.rooms = [room for room in batch.rooms if hosts(room[0])]
            return batch
        self.lag_ms = max(0, self._clock() - batch.sent_at)
        return None

    def receive(self, stream: int, batch: Sifted, now: float) -> list[Delivery]:
        """The events in an entry for rooms that are hosted here, in order; the caller hands them on."""
        if isinstance(batch, codec.CodecError):
            self._unreadable(batch)
            return []
        self.streams = max(self.streams, min(batch.streams, STREAMS_MAX))
        self.entries += 1
        if not self._in_order(stream, batch, now):
            self.stale += 1
            return []
        deliveries: list[Delivery] = []
        hosts = self._mirrored.hosts
        for number, items in batch.rooms:
            if hosts(number):
                try:
                    deliveries += [Delivery(number, event, to) for event, to in codec.decode_items(items)]
                except codec.CodecError as error:
                    self._unreadable(error)
        self.events += len(deliveries)
        return deliveries

    def lost(self) -> None:
        """Something may be missing, for a reason that cannot be seen here."""
        self._lost = True

    def resumed(self, now: float) -> None:
        """Reading goes on after a pause: silence meanwhile says nothing of anybody."""
        for publisher in self._publishers.values():
            publisher.heard_at = now

    def look_around(self, now: float) -> None:
        """Forget who is silent; tell the instance of a gap when that is due."""
        silent = [key for key, publisher in self._publishers.items() if now - publisher.heard_at > SILENCE_S]
        for key in silent:
            del self._publishers[key]
            self._lost = True
        self.tell_gap(now)

    def tell_gap(self, now: float) -> None:
        """Tell the instance of a gap, if there is one and the last one was told long enough ago."""
        if self._lost and now >= self._next_gap_at:
            self._lost = False
            self._next_gap_at = now + GAP_PAUSE_S
            self.gaps += 1
            self._mirrored.mirror_gap()

    def _in_order(self, stream: int, batch: codec.Batch, now: float) -> bool:
        """Whether the entry is new; notes what is missing before it."""
        key = stream, batch.instance
        publisher = self._publishers.get(key)
        if publisher is None:
            publisher = self._publishers[key] = _Publisher(batch.epoch)
        elif batch.epoch > publisher.epoch:
            publisher.epoch, publisher.sequence = batch.epoch, 0
        publisher.heard_at = now
        if batch.epoch < publisher.epoch or batch.sequence <= publisher.sequence:
            return False
        if batch.sequence != publisher.sequence + 1:
            self._lost = True
        publisher.sequence = batch.sequence
        return True

    def _unreadable(self, error: codec.CodecError) -> None:
        self._lost = True
        self.unreadable += 1
        if self.unreadable == 1:
            log.error(
                "an entry of the mirror cannot be read; more of them are only counted", extra={"error": str(error)}
            )
