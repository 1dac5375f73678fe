"""The long-polling half of a session: what waits for the client's next poll, and the poll that waits for it."""

from __future__ import annotations

from collections import deque

import trio

from catfish.net.outbox import FRAME_COST
from catfish.server.engineio.packets import Packets


class Poll:
    """A poll that is open: the client waits for an answer.

    `answer` is called by whoever has something for it; what it is answered with is decided by its own task, one turn
    later, so that everything that is sent in one pass goes into one payload.
    """

    __slots__ = ("_answered", "body")

    def __init__(self) -> None:
        self._answered = trio.Event()
        self.body: bytes | None = None
        """What to answer with; None: whatever waits by then."""

    def answer(self, body: bytes | None = None) -> None:
        if not self._answered.is_set():
            self.body = body
            self._answered.set()
        elif body is not None:
            self.body = body

    async def answered(self) -> None:
        await self._answered.wait()


class Buffer:
    """Packets that wait for a poll, bounded as the outbox of a connection is.

    Args:
        cost_max: bytes, each packet counted with `FRAME_COST` more.
    """

    __slots__ = ("_cost", "_cost_max", "_queue", "_taken")

    def __init__(self, cost_max: int) -> None:
        self._queue: deque[Packets] = deque()
        self._taken = 0  # of the first: packets of it that went out with an earlier poll
        self._cost = 0
        self._cost_max = cost_max

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, packets: Packets) -> bool:
        """Append. Returns whether everything that waits is still within the limit; one alone always is."""
        self._queue.append(packets)
        self._cost += packets.size + FRAME_COST
        return self._cost <= self._cost_max or len(self._queue) == 1

    def take(self, packets_max: int) -> list[bytes]:
        """Remove the next packets, at most so many, as entries of a payload."""
        entries: list[bytes] = []
        queue = self._queue
        while queue and len(entries) < packets_max:
            first = queue[0].polling
            room = packets_max - len(entries)
            entries += first[self._taken : self._taken + room]
            if len(first) - self._taken > room:
                self._taken += room
            else:
                self._taken = 0
                self._cost -= queue.popleft().size + FRAME_COST
        return entries

    def drain(self, compresses: bool) -> list[bytes]:
        """Remove everything, as WebSocket frames."""
        queue, taken = self._queue, self._taken
        frames = [packets.frames(compresses) for packets in queue]
        if taken:
            frames[0] = queue[0].frames_from(taken, compresses)
        self.clear()
        return frames

    def clear(self) -> None:
        self._queue.clear()
        self._taken = self._cost = 0
