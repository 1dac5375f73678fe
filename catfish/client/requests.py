"""Requests that wait for their replies: in order, bounded, and kept over a lost connection where that is safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import trio

from catfish.errors import Rejected
from catfish.wire.native import Codec, Refusal, Reply

REPEATABLE: Final = frozenset(
    {
        "ping",
        "room:join",
        "room:leave",
        "room:members",
        "chat:history",
        "chat:edit",
        "chat:delete",
        "chat:react",
        "chat:read",
        "chat:typing",
        "media:toggle",
        "media:started",
    }
)
"""Requests that have the same effect when the server gets them twice. `chat:send` is one when it has a `clientId`."""


@attrs.define(eq=False)
class Pending:
    """A request whose reply has not come."""

    id: int
    event: str
    data: Any
    payload: bytes
    repeatable: bool
    internal: bool = False
    """Made by the client itself on one connection; ends with it."""
    on_reply: Callable[[Any, Any], None] | None = None
    """Called with (data, reply) as soon as the reply is read, before the next event is; so nothing comes between."""
    sent: bool = False
    outcome: Any = None
    error: Exception | None = None
    done: trio.Event = attrs.field(factory=trio.Event)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


def is_repeatable(event: str, data: Any) -> bool:
    """Whether the server may get the request twice."""
    return event in REPEATABLE or (event == "chat:send" and isinstance(data, dict) and bool(data.get("clientId")))


class Waiting:
    """All requests that wait, by id; ids increase, so the order of the ids is the order of the calls."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._by_id: dict[int, Pending] = {}
        self._last_id = 0
        self.late = 0
        """Replies to requests that nobody waits for any more."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Pending]:
        """Oldest first."""
        return iter(sorted(self._by_id.values(), key=lambda pending: pending.id))

    def encode(self, event: str, data: Any) -> tuple[int, bytes]:
        """An id and the envelope of a request that may be added."""
        self._last_id += 1
        return self._last_id, self._codec.encode_request(event, data, self._last_id)

    def add(self, pending: Pending) -> None:
        self._by_id[pending.id] = pending

    def remove(self, pending: Pending) -> None:
        """Nobody waits for it any more; its reply is dropped when it comes."""
        self._by_id.pop(pending.id, None)

    def answer(self, answer: Reply | Refusal) -> None:
        """A reply or a refusal that names its request has come."""
        pending = self._by_id.get(answer.id) if answer.id is not None else None
        if pending is None or not pending.sent:
            self.late += 1
            return
        if isinstance(answer, Refusal):
            if answer.code == "draining" and not pending.internal:
                pending.sent = False  # not carried out: the next connection gets it
                return
            self.remove(pending)
            pending.fail(answer.as_rejected())
            return
        if pending.on_reply is not None:
            pending.on_reply(pending.data, answer.data)
        self.remove(pending)
        pending.outcome = answer.data
        pending.done.set()

    def lost(self, error: Exception) -> None:
        """The connection broke: those that must not be sent twice fail, the others wait for the next one."""
        for pending in self:
            if pending.sent and not pending.repeatable:
                self.remove(pending)
                pending.fail(error)
            pending.sent = False

    def fail_all(self, error: Exception) -> None:
        """The client is closed. Its own requests end together with their connection."""
        for pending in self:
            if not pending.internal:
                self.remove(pending)
                pending.fail(error)


class Gate:
    """Lets requests in as long as they are few and small together; the others wait, first come first served."""

    def __init__(self, items_max: int, bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._items = 0
        self._bytes = 0
        self._queue: deque[tuple[int, trio.Event]] = deque()

    def _fits(self, size: int) -> bool:
        return self._items == 0 or (self._items < self._items_max and self._bytes + size <= self._bytes_max)

    async def enter(self, size: int) -> None:
        """Wait for a place for `size` bytes; one that is larger than all places together is let in alone."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._queue and self._fits(size):
            self._take(size)
            return
        place = (size, trio.Event())
        self._queue.append(place)
        try:
            await place[1].wait()
        finally:
            if not place[1].is_set():  # cancelled
                self._queue.remove(place)
                self._admit()

    def leave(self, size: int) -> None:
        self._items -= 1
        self._bytes -= size
        self._admit()

    def _take(self, size: int) -> None:
        self._items += 1
        self._bytes += size

    def _admit(self) -> None:
        while self._queue and self._fits(self._queue[0][0]):
            size, admitted = self._queue.popleft()
            self._take(size)
            admitted.set()


def wait_before_repeating(rejected: Rejected) -> float | None:
    """Seconds after which a refused request may be sent again by itself, or None when it may not."""
    if rejected.code not in ("busy", "unavailable", "draining", "rate_limited"):
        return None
    return (rejected.retry_after_ms or 1_000) / 1_000
