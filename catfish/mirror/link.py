"""The connections of a stretch of time in which Redis works, and the threads that wait on them.

Theory of operation. A link is opened once, serves until the first failure or until it is closed, and is thrown away.
For every server it has one connection that writes and one that reads, since XREAD blocks. One thread sends the batches
that are handed to it, in order; one thread per reading connection follows its streams and hands over what it reads, no
more than one reply at a time, and what says nothing to any room here only now and then: so an instance pays for rooms
that it does not host with the decoding of a batch, in a thread, and its event loop sleeps on. Threads that last, and
report by `run_sync_soon`, cost a fraction of a thread per call. One that waits in Redis when its link is closed is left
behind: its connection is shut down, it ends by itself, and nobody waits for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final, NamedTuple

import trio
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from catfish.config import Settings
from catfish.mirror.addresses import Addresses, Server
from catfish.mirror.incoming import Sifted, is_urgent
from catfish.mirror.line import FIELD, NOTHING, Command, Line, ask_together, parse_id
from catfish.mirror.outgoing import Entry

ENTRIES_PER_READ: Final = 64
"""Of each stream; with `mirror_entry_bytes_max`, what one reply may hold."""
QUIET_S: Final = 0.5
"""For which entries may wait that say nothing to any room here; they tell who is alive, and what is missing."""
QUIET_MAX: Final = 1_000
"""How many may wait."""
BLOCK_S_MAX: Final = 1.0
"""For which a read waits in Redis before it asks anew."""

Positions = dict[int, bytes]
"""The id of the newest entry that was taken in, by stream."""


class Reopen(RedisConnectionError):
    """Nothing is wrong with Redis, but the link must be made anew."""


class Lane:
    """A server, and the streams that are read from it together."""

    def __init__(self, streams: Sequence[int], writer: Line, reader: Line) -> None:
        self.streams = tuple(streams)
        self.writer = writer
        self.reader = reader
        self.at: dict[str, bytes] = {}
        """The id of the newest entry that was read, by the stream's name."""
        self.taken = threading.Semaphore(1)
        """Released when the last reply was taken in; the next one is read meanwhile, and handed over behind it."""


class Arrival(NamedTuple):
    """What was read, until its lane is told that it was taken in."""

    lane: Lane
    streams: list[tuple[int, list[tuple[bytes, Sifted]]]]
    """Streams, each with its new entries: id and content."""


class Link:
    """
    Args:
        streams: how many are read; ours are the first `mirror_streams` of them.
        client_name: what Redis's CLIENT LIST shows.
        sift: called with every entry, in the reader's thread; entries of which it makes None are passed over there.
    """

    def __init__(
        self,
        addresses: Addresses,
        settings: Settings,
        streams: int,
        client_name: str,
        sift: Callable[[bytes], Sifted | None],
    ) -> None:
        self.lanes: list[Lane] = []
        self.arrivals: deque[Arrival] = deque()
        self.has_arrivals = trio.Event()
        self.in_flight: deque[list[Entry]] = deque()
        """Batches that Redis has not confirmed, oldest first."""
        self.confirmed: deque[list[Entry]] = deque()
        self._addresses = addresses
        self._settings = settings
        self._names = [stream_name(settings, stream) for stream in range(streams)]
        self._index = {name.encode(): stream for stream, name in enumerate(self._names)}
        self._client_name = client_name
        self._sift = sift
        self._token = trio.lowlevel.current_trio_token()
        self._lane_of: dict[int, Lane] = {}
        self._to_send: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._closed = threading.Event()

    # Called from Trio

    def submit(self, entries: list[Entry]) -> None:
        """Send a batch."""
        self.in_flight.append(entries)
        self._to_send.put(entries)

    def close(self) -> None:
        """Threads that wait come to their end."""
        self._closed.set()
        self._to_send.put(None)
        for lane in list(self.lanes):
            lane.writer.close()
            lane.reader.close()
            lane.taken.release()

    def _ring(self) -> None:
        self.has_arrivals.set()

    # Called in threads

    def open(self, entries: list[Entry]) -> Positions:
        """Connect, send these entries, and tell where every stream ended before them.

        Raises:
            RedisError: Redis is away, or takes no entries.
        """
        for server in self._addresses.locate(self._names, self._settings.mirror_timeout_s):
            self._add_lane(server)
        positions: Positions = {}
        for lane in self.lanes:
            positions.update(zip(lane.streams, lane.writer.ends(self._of(lane)), strict=True))
        self._add(entries)
        return positions

    def send(self) -> None:
        """Send what is submitted, until the link is closed: at once, and then all that came meanwhile.

        Raises:
            RedisError: the batches in flight may have arrived, or not.
        """
        while (first := self._to_send.get()) is not None:
            batches = [first]
            while not self._to_send.empty() and (another := self._to_send.get()) is not None:
                batches.append(another)
            self._add([entry for batch in batches for entry in batch])
            for _ in batches:
                self.confirmed.append(self.in_flight.popleft())

    def follow(self, lane: Lane, positions: Positions) -> None:
        """Read from these positions on, until the link is closed.

        Raises:
            RedisError: the connection was lost.
        """
        # Half of what is between two batches of one instance: where only one sends, none waits here.
        pause_s = self._settings.mirror_interval_ms / 1000 / 2
        block_ms = round(self._block_s() * 1000)
        lane.at = {name: positions[stream] for stream, name in zip(lane.streams, self._of(lane), strict=True)}
        arrived: list[tuple[int, list[tuple[bytes, Sifted]]]] = []
        count, urgent = 0, False
        handed_over_at = time.monotonic()
        while not self._closed.is_set():
            reply = lane.reader.follow(lane.at, count=ENTRIES_PER_READ, block_ms=block_ms)
            for name, entries in reply:
                lane.at[name.decode()] = entries[-1][0]
                sifted = [(id, content) for id, data in entries if (content := self._sift(data)) is not None]
                if sifted:
                    arrived.append((self._index[name], sifted))
                    count += len(sifted)
                    urgent = urgent or any(is_urgent(content) for _, content in sifted)
            now = time.monotonic()
            if arrived and (urgent or count >= QUIET_MAX or now - handed_over_at >= QUIET_S):
                lane.taken.acquire()
                self.arrivals.append(Arrival(lane, arrived))
                self._token.run_sync_soon(self._ring, idempotent=True)
                arrived, count, urgent, handed_over_at = [], 0, False, now
            if reply:
                # What comes soon is read with what comes behind it; and the event loop's thread, which was woken just
                # now, need not fight with this one for the interpreter.
                time.sleep(pause_s)

    def _add_lane(self, server: Server) -> None:
        settings = self._settings
        timeout_s = settings.mirror_timeout_s
        reader = self._connection(server, self._block_s() + timeout_s)
        streams = [self._index[name.encode()] for name in server.streams]
        lane = Lane(streams, Line(self._connection(server, timeout_s)), Line(reader))
        self.lanes.append(lane)
        self._lane_of.update(dict.fromkeys(streams, lane))
        if self._closed.is_set():
            self.close()
        lane.writer.open()
        lane.reader.open()

    def _connection(self, server: Server, timeout_s: float) -> AbstractConnection:
        return server.connection(
            client_name=self._client_name, timeout_s=timeout_s, connect_s=self._settings.mirror_timeout_s
        )

    def _of(self, lane: Lane) -> list[str]:
        return [self._names[stream] for stream in lane.streams]

    def _block_s(self) -> float:
        return min(BLOCK_S_MAX, self._settings.mirror_timeout_s / 2)

    def _add(self, entries: list[Entry]) -> None:
        """
        Raises:
            Reopen: a stream gave out an id that is not above what was read before: it was made anew meanwhile.
            RedisError: as `send`.
        """
        entries_max = self._settings.mirror_entries_max
        commands: dict[Lane, list[Command]] = {}
        known: dict[Lane, list[bytes]] = {}
        for entry in entries:
            lane, name = self._lane_of[entry.stream], self._names[entry.stream]
            commands.setdefault(lane, []).append(("XADD", name, "MAXLEN", "~", entries_max, "*", FIELD, entry.data))
            known.setdefault(lane, []).append(lane.at.get(name, NOTHING))
        replies = ask_together([(lane.writer, asked) for lane, asked in commands.items()])
        for before, ids in zip(known.values(), replies, strict=True):
            for old, new in zip(before, ids, strict=True):
                if parse_id(new) <= parse_id(old):
                    raise Reopen("a mirror stream was made anew")


def stream_name(settings: Settings, stream: int) -> str:
    """The braces let a Redis Cluster place every stream by its number (Redis Cluster specification, "Hash tags")."""
    return f"{settings.redis_prefix}:mirror:{{{stream}}}"
