"""What waits to be written to one peer: whole frames in order, bounded in bytes.

Pure: it neither reads clocks nor touches sockets. The driver asks for `head()`, writes as much of it as the peer takes,
and says how much that was with `sent()`. Frames stay the objects they were put in as, so a broadcast that waits for
five hundred slow readers is in memory once.

    frames:   [ f0 ][ f1 ][ f2 ] …         f0 may be gone in part: `_offset` bytes of it were taken
"""

from __future__ import annotations

from itertools import islice
from typing import Final

FRAME_COST: Final = 48
"""Bytes that a waiting frame counts for besides its own length: a `bytes` object and its place in the list. Without it
a million tiny frames would take fifty times the memory that the limit allows."""

SEND_BYTES: Final = 262_144
"""About as many bytes are handed to the kernel at once: more than a socket buffer usually takes, and little to join."""


class Outbox:
    """Frames that wait for one peer.

    `frames` and `cost` are public for `Connection.send`, which runs once per delivery and appends in place.

    Args:
        cost_max: bytes that may wait, each frame counted with `FRAME_COST` more.
    """

    __slots__ = ("_offset", "cost", "cost_max", "frames")

    def __init__(self, cost_max: float) -> None:
        self.frames: list[bytes] = []
        self.cost = 0
        self.cost_max = cost_max
        self._offset = 0

    def put(self, frame: bytes) -> bool:
        """Append one frame. Returns whether everything that waits is still within the limit.

        One frame alone always is: otherwise a message as long as the limit could reach nobody.
        """
        self.frames.append(frame)
        self.cost += len(frame) + FRAME_COST
        return self.cost <= self.cost_max or len(self.frames) == 1

    @property
    def bytes_waiting(self) -> int:
        """Bytes of frames that the kernel has not taken."""
        return self.cost - FRAME_COST * len(self.frames)

    def head(self, bytes_max: int = SEND_BYTES) -> bytes | memoryview:
        """The next bytes to write, `bytes_max` of them at most. Only while something waits.

        Joining copies, so it is done with what one write can take and not with everything that waits, and a part of a
        frame is a view: a reader that takes its megabyte in small bites costs no more than one that takes it at once.
        """
        frames = self.frames
        first = frames[0]
        if self._offset or len(first) > bytes_max:
            return memoryview(first)[self._offset : self._offset + bytes_max]
        if len(frames) == 1:
            return first
        if self.cost <= bytes_max:
            return b"".join(frames)
        count = size = 0
        for frame in frames:
            size += len(frame)
            if size > bytes_max:
                break
            count += 1
        return first if count == 1 else b"".join(islice(frames, count))

    def sent(self, count: int) -> bool:
        """The first `count` bytes were taken by the kernel. Returns whether nothing waits any more."""
        frames = self.frames
        if count + FRAME_COST * len(frames) == self.cost:
            frames.clear()
            self.cost = self._offset = 0
            return True
        count += self._offset
        self.cost += self._offset
        done = 0
        for frame in frames:
            size = len(frame)
            if count < size:
                break
            count -= size
            self.cost -= size + FRAME_COST
            done += 1
        del frames[:done]
        self.cost -= count
        self._offset = count
        return False

    def clear(self) -> None:
        """Forget everything."""
        self.frames.clear()
        self.cost = self._offset = 0

    def drop_unbegun(self) -> None:
        """Forget every frame of which no byte was taken; the rest of one that was begun stays, so that what follows is
        still read as frames."""
        if self._offset:
            begun = self.frames[0]
            self.frames = [begun]
            self.cost = len(begun) + FRAME_COST - self._offset
        else:
            self.clear()
