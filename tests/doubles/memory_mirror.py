"""Mirrors in memory that keep the promises of `catfish.rooms.ports.Mirror`; the contract tests hold them to these.

Several instances in one process share a `MemoryNetwork`. What they send passes through the real codec and the real
bookkeeping; only Redis is left out. Faults are drawn from seeded generators, so that a run can be repeated, if the
order in which Trio runs its tasks is repeated as well:

    network = MemoryNetwork(seed, Faults(drop=0.1, duplicate=0.1, reorder=0.1, delay_s=0.05))
    mirror = network.mirror(settings, "a", mirrored)
    await nursery.start(mirror.run)

    network.partition({"a"}, {"b", "c"})    a reaches neither b nor c, as if each side had a Redis of its own
    network.away("a")                       a has no Redis; without arguments nobody has
    network.back("a")
    network.heal()                          nothing is cut off and nothing away any more
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

import attrs
import trio

from catfish.config import Settings
from catfish.mirror.incoming import Incoming
from catfish.mirror.outgoing import Entry, Outgoing
from catfish.rooms.events import Event
from catfish.rooms.ports import Mirror, Mirrored

BEAT_S = 1.0


class Faults(NamedTuple):
    """What may happen to an entry on its way to one instance; the first three are probabilities."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """An entry that is reordered comes later than it would, the others do not wait for it."""
    delay_s: float = 0.0
    """The longest; each entry draws its own, and overtakes none that is not reordered."""


@attrs.frozen(kw_only=True)
class MemoryMirrorStatistics:
    connected: bool
    peers: int
    published: int
    received: int
    entries_received: int
    stale: int
    unreadable: int
    dropped_ephemeral: int
    dropped_durable: int
    gaps: int


class MemoryNetwork:
    def __init__(self, seed: int = 0, faults: Faults = Faults()) -> None:  # noqa: B008 - immutable
        self.faults = faults
        self.entries: deque[Entry] = deque(maxlen=1_000)
        """What was sent last, for tests that look into it."""
        self._seed = seed
        self._chances: dict[tuple[str, str], random.Random] = {}
        """One generator for each way, so that what happens on one changes nothing on the others."""
        self._mirrors: dict[str, MemoryMirror] = {}
        self._away: set[str] = set()
        self._all_away = False
        self._sides: list[frozenset[str]] = []
        self._epochs = itertools.count(1)

    def mirror(self, settings: Settings, instance: str, mirrored: Mirrored) -> MemoryMirror:
        mirror = MemoryMirror(self, settings, instance, mirrored, next(self._epochs))
        self._mirrors[instance] = mirror
        return mirror

    # Faults

    def partition(self, *sides: Collection[str]) -> None:
        self._sides = [frozenset(side) for side in sides]

    def away(self, *instances: str) -> None:
        self._away.update(instances)
        self._all_away = self._all_away or not instances
        self._look()

    def back(self, *instances: str) -> None:
        self._away.difference_update(instances or list(self._away))
        self._all_away = self._all_away and bool(instances)
        self._look()

    def heal(self) -> None:
        self._sides = []
        self.back()

    def trim(self, instance: str) -> None:
        """What is on its way to the instance is lost."""
        self._mirrors[instance].lose()

    def is_away(self, instance: str) -> bool:
        return self._all_away or instance in self._away

    def _look(self) -> None:
        for mirror in self._mirrors.values():
            mirror.look()

    # Entries on their way

    def carry(self, sender: str, entries: list[Entry]) -> None:
        self.entries += entries
        for entry in entries:
            for instance, mirror in self._mirrors.items():
                if instance == sender or self._reaches(sender, instance):
                    self._carry_to(mirror, sender, entry, self._chance(sender, instance))

    def _reaches(self, sender: str, instance: str) -> bool:
        if self.is_away(instance):
            return False
        return not any((sender in side) is not (instance in side) for side in self._sides)

    def _chance(self, sender: str, instance: str) -> Callable[[], float]:
        way = sender, instance
        if way not in self._chances:
            self._chances[way] = random.Random(f"{self._seed} {sender} {instance}")
        return self._chances[way].random

    def _carry_to(self, mirror: MemoryMirror, sender: str, entry: Entry, chance: Callable[[], float]) -> None:
        faults = self.faults
        dropped, twice, late = chance() < faults.drop, chance() < faults.duplicate, chance() < faults.reorder
        delay_s = chance() * faults.delay_s
        if dropped:
            return
        mirror.expect(sender, entry, delay_s + (faults.delay_s or BEAT_S) * chance() * late, in_order=not late)
        if twice:
            mirror.expect(sender, entry, delay_s + chance() * (faults.delay_s or BEAT_S), in_order=False)


class MemoryMirror(Mirror):
    """The double; see the module. As the real one it is run by its owner and dropped with the nursery."""

    def __init__(
        self, network: MemoryNetwork, settings: Settings, instance: str, mirrored: Mirrored, epoch: int
    ) -> None:
        self._network = network
        self._instance = instance
        self._mirrored = mirrored
        self._outgoing = Outgoing(settings, instance, epoch, self._now_ms, self._ring)
        self._incoming = Incoming(instance, mirrored, self._now_ms)
        self._expected: list[tuple[float, str, int, Entry]] = []
        """When which entry of whom comes; the number keeps the order of what comes at the same time."""
        self._order = itertools.count()
        self._in_order_at: dict[str, float] = {}
        self._connected: bool | None = None
        self._bell = trio.Event()

    def publish(self, number: int, event: Event, to: str | None = None) -> None:
        self._outgoing.publish(number, event, to)

    def statistics(self) -> MemoryMirrorStatistics:
        outgoing, incoming = self._outgoing, self._incoming
        return MemoryMirrorStatistics(
            connected=bool(self._connected),
            peers=incoming.peers,
            published=outgoing.sent,
            received=incoming.events,
            entries_received=incoming.entries,
            stale=incoming.stale,
            unreadable=incoming.unreadable,
            dropped_ephemeral=outgoing.dropped_ephemeral,
            dropped_durable=outgoing.dropped_durable,
            gaps=incoming.gaps,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mirror, until cancelled; then what waits is sent."""
        self._settle_state()
        task_status.started()
        beat_at = trio.current_time()
        try:
            while True:
                self._bell = trio.Event()
                now = trio.current_time()
                self._settle_state()
                if self._connected:
                    self._send(now, BEAT_S * 0.9)
                    self._receive(now)
                if now >= beat_at:
                    beat_at = now + BEAT_S
                    self._incoming.look_around(now)
                self._incoming.tell_gap(now)
                with trio.move_on_at(min(beat_at, self._expected[0][0] if self._expected else beat_at)):
                    await self._bell.wait()
        finally:
            if self._connected:
                self._send(trio.current_time(), float("inf"))

    # Called by the network

    def look(self) -> None:
        self._bell.set()

    def expect(self, sender: str, entry: Entry, delay_s: float, *, in_order: bool) -> None:
        """The entry arrives after that time, and not before those of its sender that are in order as well."""
        at = trio.current_time() + delay_s
        if in_order:
            at = self._in_order_at[sender] = max(at, self._in_order_at.get(sender, 0.0))
        heapq.heappush(self._expected, (at, sender, next(self._order), entry))
        self._bell.set()

    def lose(self) -> None:
        self._expected.clear()

    # Inside

    def _settle_state(self) -> None:
        connected = not self._network.is_away(self._instance)
        if connected is self._connected:
            return
        self._connected = self._outgoing.open = connected
        now = trio.current_time()
        if connected:
            self._network.carry(self._instance, self._outgoing.beat(now))
            self._incoming.resumed(now)
        else:
            self._outgoing.clear()
            self._expected.clear()
        self._mirrored.mirror_state(connected)
        if connected:
            self._incoming.lost()

    def _send(self, now: float, beat_s: float) -> None:
        entries = self._outgoing.take(now, beat_s)
        self._network.carry(self._instance, entries)
        self._outgoing.confirm(entries)

    def _receive(self, now: float) -> None:
        while self._expected and self._expected[0][0] <= now:
            _, _, _, entry = heapq.heappop(self._expected)
            content = self._incoming.sift(entry.data)
            if content is not None:
                for number, event, to in self._incoming.receive(entry.stream, content, now):
                    self._mirrored.mirrored(number, event, to)

    def _ring(self) -> None:
        self._bell.set()

    def _now_ms(self) -> int:
        return round(trio.current_time() * 1000)
