"""Connections on any Trio stream: TLS, memory and lockstep streams, platforms without epoll.

Two tasks beside the connection's own: one reads, one writes. They stand where the hub stands for a plain socket, and
everything else is `Connection`. At most one slice of `SLICE_BYTES` is on its way at a time, so that progress is
noticed.

A slice that was not written to its end (cancelled, failed) leaves half a frame behind. Nothing may follow it: the
writer ends, and the stream is closed without another byte.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from catfish.net.connection import Connection, Receiver

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 65_536
"""Bytes written at once. A reader that takes fewer in `outbox_age_s_max` is as good as one that takes none."""

LINGER_S: Final = 1.0
"""Seconds that a failed peer has to read our close frame where its half cannot be awaited (TLS has no half-close)."""

BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when its peer has gone, or when it was closed here."""


class StreamConnection(Connection):
    """A connection on a Trio stream.

    Args:
        stream: owned by the connection from now on.
    """

    __slots__ = ("_broken", "_reader", "_scope", "_sending", "_shut_down", "_stream", "_writer")

    def __init__(self, stream: trio.abc.Stream, **common: Any) -> None:
        super().__init__(**common)
        self._stream = stream
        self._scope = trio.CancelScope()
        self._reader: trio.lowlevel.Task | None = None  # while it is parked
        self._writer: trio.lowlevel.Task | None = None  # while it is parked
        self._sending = False  # whether a slice is on its way
        self._broken = False  # whether one was not finished
        self._shut_down = False  # whether our half is to be ended

    async def run(self, receiver: Receiver, early: bytes) -> None:
        """As every connection's, with the two tasks that move its bytes around it."""
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(self._move_bytes)
            await super().run(receiver, early)

    # What the hub does for plain sockets

    def _start(self) -> None:
        pass

    def _attend(self) -> None:
        if self._special:
            self._attend_special()
        if self._outbox.frames or self._shut_down:
            self._unpark_writer()

    def _is_flushed(self) -> bool:
        return not self._sending and not self._outbox.frames

    def _try_writing(self) -> None:
        pass  # a stream cannot be asked how much it would take

    def _update_interest(self) -> None:
        if self._reader is not None and self._wants_reading:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    def _shut_down_writing(self) -> None:
        self._shut_down = True
        self._unpark_writer()

    def _release(self) -> None:
        self._watching.remove(self)
        self._blocked_at = None
        self._scope.cancel()

    # Its tasks

    async def _move_bytes(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
        finally:
            if self._broken:
                await trio.aclose_forcefully(self._stream)
            else:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER_S):
                    try:
                        await self._stream.aclose()
                    except BROKEN:
                        pass  # TLS says goodbye to a peer that has gone

    async def _read(self) -> None:
        read_bytes = self._settings.read_bytes_per_turn
        traffic = self._flusher.traffic
        while True:
            while not self._wants_reading:
                self._reader = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_reader)
            try:
                data = await self._stream.receive_some(read_bytes)
            except BROKEN:
                self._lost()
                return
            if not data:
                self._peer_ended()
                return
            try:
                traffic.bytes_received += len(data)
                traffic.frames_received += self._received(bytes(data), trio.current_time())
            except Exception:  # the crash boundary between connections
                log.exception("serving a connection failed", extra=self._log_fields())
                self._cut()

    async def _write(self) -> None:
        outbox = self._outbox
        traffic = self._flusher.traffic
        while True:
            if outbox.frames:
                self._blocked_at = trio.current_time()
                self._watching.block(self)
                data = outbox.head(SLICE_BYTES)
                waiting = len(outbox.frames)
                outbox.sent(len(data))
                completed = waiting - len(outbox.frames)
                self._sending = self._broken = True
                try:
                    await self._stream.send_all(data)
                except BROKEN:
                    self._lost()
                    return
                self._sending = self._broken = False
                traffic.bytes_sent += len(data)
                traffic.frames_sent += completed
                if outbox.frames:
                    continue
                self._watching.blocked.discard(self)
                self._emptied()
                if self._special:
                    self._ask()
            elif self._shut_down:
                await self._end_our_half()
                return
            else:
                self._writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_writer)

    async def _end_our_half(self) -> None:
        stream = self._stream
        if isinstance(stream, trio.abc.HalfCloseableStream):
            try:
                await stream.send_eof()
            except BROKEN:
                self._lost()
        else:
            await trio.sleep(LINGER_S)
            self._peer_ended()

    def _unpark_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    def _abort_reader(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_writer(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED
