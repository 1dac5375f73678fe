"""The stream in which other services read every message that was stored: `docs/streams.md` describes it for them.

Theory of operation. One instance at a time, the one that holds a lock in Postgres, reads the messages from Postgres in
the order of their ids and adds them to the stream. What is in the stream is therefore what is committed, whichever
instance stored it, and whether or not that instance, or Redis, was alive a moment later.

An entry's id in the stream is the message's id. So Redis itself refuses what it has already, the newest entry tells how
far the stream is complete, and whoever wrote it: a leader that lost its lock unnoticed can only add what its successor
is about to add. After any failure the next attempt begins behind the newest entry.

The stream keeps about the newest `outlet_entries_max` messages. When it is found to be empty (Redis lost its data) it
is filled again with as many as it should hold, and all behind these; that is what the position noted in Postgres is
for. When it is ahead of Postgres, it belongs to a database that is no more, and begins anew.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import attrs
import msgspec
import trio
from redis.exceptions import RedisError, ResponseError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.line import NOTHING, Line, parse_id
from catfish.rooms.model import Message
from catfish.rooms.ports import StoreUnavailable, Tail

T = TypeVar("T")
log = logging.getLogger(__name__)

EVENT: Final = "chat:message"
CHUNK: Final = 200
"""Messages that are read from Postgres and added to the stream at a time."""
POLL_S: Final = 0.2
"""Between two looks for new messages."""
SOON_S: Final = 0.02
"""The same while transactions are under way."""
LOOK_S: Final = 5.0
"""Between two looks at whether the stream is still the one that was written to."""
CLAIM_S: Final = 2.0
"""Between two attempts to become the leader."""
KNOWN_ALREADY: Final = "equal or smaller"
"""In Redis's refusal of an entry whose id is not above the newest one."""

_encoder: Final = msgspec.json.Encoder()


@attrs.frozen(kw_only=True)
class OutletStatistics:
    leading: bool
    sent: int
    """Messages that this instance added to the stream."""
    refills: int
    """How often the stream was found to be incomplete, and filled again."""
    position: int
    """Message id up to which the stream is complete, when this instance last knew."""


class Outlet:
    """Run it as a service on every instance that has a Redis; at most one of them works at a time.

    Args:
        tail: of this instance alone.
        url: in the place of `redis_url`.

    Raises:
        StartError: the URL has none of the forms that `addresses` tells.
    """

    def __init__(self, settings: Settings, tail: Tail, *, url: str | None = None) -> None:
        try:
            self._addresses = Addresses(url or settings.redis_url or "")
        except ValueError as error:
            raise StartError(f"redis_url: {error}") from None
        self._settings = settings
        self._tail = tail
        self._name = f"{settings.redis_prefix}:messages"
        self._leading = False
        self._away = False
        self._sent = 0
        self._refills = 0
        self._position = 0
        self._newest_entry = 0
        """As it must be found in the stream."""

    def statistics(self) -> OutletStatistics:
        return OutletStatistics(leading=self._leading, sent=self._sent, refills=self._refills, position=self._position)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pass messages on, until cancelled."""
        task_status.started()
        try:
            while True:
                try:
                    if await self._tail.lead():
                        self._leading = True
                        await self._pass_on()
                except StoreUnavailable as error:
                    log.debug("messages are passed on later", extra={"error": str(error)})
                except RedisError as error:
                    if not self._away:
                        log.warning("messages do not reach other services", extra={"error": str(error)})
                    self._away = True
                    # Another instance may reach what this one does not.
                    self._tail.resign()
                finally:
                    self._leading = False
                await trio.sleep(CLAIM_S * random.uniform(0.5, 1.0))
        finally:
            self._tail.resign()

    # While leading

    async def _pass_on(self) -> None:
        """
        Raises:
            StoreUnavailable, RedisError: start again.
        """
        timeout_s = self._settings.mirror_timeout_s
        (server,) = await _in_thread(self._addresses.locate, [self._name], timeout_s)
        line = Line(server.connection(client_name="catfish:outlet", timeout_s=timeout_s, connect_s=timeout_s))
        try:
            await _in_thread(line.open)
            position = await self._begin(line)
            look_at = trio.current_time() + LOOK_S
            while True:
                position, pause_s = await self._pass_on_chunk(line, position)
                if trio.current_time() >= look_at:
                    look_at = trio.current_time() + LOOK_S
                    if await self._newest_in(line) < self._newest_entry:
                        log.warning("the stream for other services has lost its end")
                        position = await self._begin(line)
                await trio.sleep(pause_s)
        finally:
            line.close()

    async def _begin(self, line: Line) -> int:
        """The position from which on the stream must be filled."""
        # In this order: whoever led before us may still be adding entries, none of which is above the newest message.
        there = await self._newest_in(line)
        newest, noted = await self._tail.newest(), await self._tail.position()
        oldest = await self._tail.before(newest if noted is None else noted, self._settings.outlet_entries_max)
        if there > newest or (there and noted is None):
            log.warning(
                "the stream for other services is of another database; it begins anew",
                extra={"stream": self._name, "newest_entry": there, "newest_message": newest},
            )
            await _in_thread(line.ask, [("DEL", self._name)])
            there = 0
        if noted is None:
            await self._tail.note(oldest)
        elif there < noted:
            self._refills += 1
        self._newest_entry = there
        self._position = position = max(there, oldest)
        if self._away:
            log.warning("messages reach other services again")
            self._away = False
        return position

    async def _newest_in(self, line: Line) -> int:
        """Id of the newest message in the stream; 0 when there is none."""
        (end,) = await _in_thread(line.ends, [self._name])
        return 0 if end == NOTHING else parse_id(end)[0]

    async def _pass_on_chunk(self, line: Line, position: int) -> tuple[int, float]:
        """Pass on what is there behind `position`; the new one, and for how long to wait before the next chunk."""
        began = trio.current_time()
        chunk = await self._tail.read(position, CHUNK)
        if chunk.messages:
            self._sent += await _in_thread(self._add, line, chunk.messages)
            self._newest_entry = chunk.messages[-1].id
        if chunk.position != position:
            await self._tail.note(chunk.position)
            self._position = chunk.position
        if not chunk.more:
            return chunk.position, POLL_S
        # However much there is to catch up with, half of the time is for others.
        return chunk.position, trio.current_time() - began if chunk.messages else SOON_S

    def _add(self, line: Line, messages: Sequence[Message]) -> int:
        """Add messages to the stream; how many were not in it. In a thread.

        Raises:
            RedisError: some of them were not added.
        """
        head = ("XADD", self._name, "MAXLEN", "~", self._settings.outlet_entries_max)
        replies = line.try_all(
            [
                (
                    *head,
                    f"{each.id}-0",
                    "event",
                    EVENT,
                    "room",
                    each.room,
                    "seq",
                    each.seq,
                    "message",
                    _encoder.encode(each),
                )
                for each in messages
            ]
        )
        refusals = [reply for reply in replies if isinstance(reply, ResponseError)]
        for refusal in refusals:
            if KNOWN_ALREADY not in str(refusal):
                raise refusal
        return len(replies) - len(refusals)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Call something that waits for Redis; when we are cancelled it is left behind, and its line is closed."""
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)
