"""What an instance sends: events become items, items wait, what waits becomes numbered entries. No I/O.

Every stream has its own numbers: 1, 2, 3 … A number is never used twice, and one is left out wherever something was
dropped, so that whoever reads the stream notices at the next entry. That is why an entry without events, a beat,
follows soon when there is nothing else to say.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple

from catfish.config import Settings
from catfish.mirror import codec
from catfish.rooms.events import DurableEvent, Event

log = logging.getLogger(__name__)

ITEM_BYTES: Final = 64
"""What an event that waits costs besides its encoded form, towards `mirror_waiting_bytes_max`."""


class Entry(NamedTuple):
    stream: int
    data: bytes
    events: int
    durable: int
    """Of these events."""


class _Stream:
    """What waits for one stream."""

    __slots__ = ("beaten_at", "durable", "items", "lost", "sequence")

    def __init__(self) -> None:
        self.items: list[tuple[int, bytes]] = []
        self.durable: list[int] = []
        """Places in `items` of the durable events."""
        self.sequence = 0
        self.lost = False
        """Something was dropped since the last entry."""
        self.beaten_at = float("-inf")


class Outgoing:
    """
    Args:
        epoch: as `codec.Batch.epoch`.
        clock: milliseconds since the epoch.
        wake: called when something waits that did not before.
    """

    def __init__(
        self, settings: Settings, instance: str, epoch: int, clock: Callable[[], int], wake: Callable[[], None]
    ) -> None:
        self.open = False
        """Whether events are taken; while they are not, they are dropped and counted."""
        self.sent = 0
        self.dropped_durable = 0
        self.dropped_ephemeral = 0
        self.waiting_items = 0
        self.waiting_bytes = 0
        self._settings = settings
        self._instance = instance
        self._epoch = epoch
        self._clock = clock
        self._wake = wake
        self._streams = [_Stream() for _ in range(settings.mirror_streams)]
        self._count = settings.mirror_streams
        self._full = False

    def publish(self, number: int, event: Event, to: str | None) -> None:
        """As `rooms.ports.Mirror.publish`. The event is encoded now: what it holds may change before it is sent."""
        stream = self._streams[number % self._count]
        durable = isinstance(event, DurableEvent)
        if not self.open:
            self._drop(stream, durable)
            return
        try:
            item = codec.encode_item(event, to)
        except Exception:  # whatever an application may have put into `data`
            log.exception("an event cannot be mirrored", extra={"event": event.name})
            self._drop(stream, durable)
            return
        size = len(item) + ITEM_BYTES
        settings = self._settings
        if (
            self.waiting_items >= settings.mirror_waiting_items_max
            or self.waiting_bytes + size > settings.mirror_waiting_bytes_max
        ):
            if not self._full:
                self._full = True
                log.warning("Redis is too slow; events do not cross", extra={"waiting": self.waiting_items})
            self._drop(stream, durable)
            return
        if durable:
            stream.durable.append(len(stream.items))
        stream.items.append((number, item))
        self.waiting_bytes += size
        self.waiting_items += 1
        if self.waiting_items == 1:
            self._wake()

    def take(self, now: float, beat_s: float) -> list[Entry]:
        """Everything that waits, and a beat for every stream that nothing was sent to for `beat_s`."""
        entries: list[Entry] = []
        for place, stream in enumerate(self._streams):
            if stream.items or now - stream.beaten_at >= beat_s:
                stream.beaten_at = now
                self._seal(place, stream, entries)
        self.waiting_items = self.waiting_bytes = 0
        return entries

    def beat(self, now: float) -> list[Entry]:
        """An entry for every stream, without what waits: it tells whether Redis takes entries at all."""
        entries = []
        for place, stream in enumerate(self._streams):
            stream.beaten_at = now
            entries.append(Entry(place, self._entry(stream, []), 0, 0))
        return entries

    def confirm(self, entries: list[Entry]) -> None:
        """They are in their streams."""
        self.sent += sum(entry.events for entry in entries)
        self._full = self._full and self.waiting_items > 0

    def give_up(self, entries: list[Entry]) -> None:
        """Nobody knows whether they are in their streams, and they will not be sent again."""
        for entry in entries:
            self.dropped_durable += entry.durable
            self.dropped_ephemeral += entry.events - entry.durable

    def clear(self) -> None:
        """Drop what waits."""
        for stream in self._streams:
            if stream.items:
                stream.lost = True
                self.dropped_durable += len(stream.durable)
                self.dropped_ephemeral += len(stream.items) - len(stream.durable)
                stream.items, stream.durable = [], []
        self.waiting_items = self.waiting_bytes = 0

    def _drop(self, stream: _Stream, durable: bool) -> None:
        stream.lost = True
        if durable:
            self.dropped_durable += 1
        else:
            self.dropped_ephemeral += 1

    def _seal(self, place: int, stream: _Stream, entries: list[Entry]) -> None:
        """Entries for everything that waits for one stream, each within the limit; one without events if nothing does.

        An item that is larger than the limit by itself has an entry of its own.
        """
        items, durable = stream.items, stream.durable
        stream.items, stream.durable = [], []
        limit = self._settings.mirror_entry_bytes_max
        start = size = 0
        for end, (_, item) in enumerate(items):
            if size and size + len(item) > limit:
                of_these = bisect_left(durable, end) - bisect_left(durable, start)
                entries.append(Entry(place, self._entry(stream, items[start:end]), end - start, of_these))
                start, size = end, 0
            size += len(item)
        of_these = len(durable) - bisect_left(durable, start)
        entries.append(Entry(place, self._entry(stream, items[start:]), len(items) - start, of_these))

    def _entry(self, stream: _Stream, items: list[tuple[int, bytes]]) -> bytes:
        stream.sequence += 1 + stream.lost
        stream.lost = False
        batch = codec.Batch(codec.FORMAT, self._instance, self._epoch, stream.sequence, self._count, self._clock())
        return codec.encode_batch(batch, items)
