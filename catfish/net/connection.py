"""One WebSocket connection, whatever moves its bytes.

Theory of operation
-------------------
A connection is a parser, an outbox and a state. It does no I/O of its own: a *driver* (`hub.HubConnection` for plain
sockets, `stream_driver.StreamConnection` for any other Trio stream) feeds it what was read and writes what waits in its
outbox. What must happen at both is here, so that both behave alike.

Everything that the application calls (`send`, `close`, `pause_reading`, `resume_reading`) only changes fields and asks
the driver to *attend* to the connection soon; it neither blocks, nor raises, nor calls back. The driver attends once
per pass to every connection that asked, however often it did. So a room can loop over its members and send to each, and
no member disappears from the loop's feet: `Receiver.closed` is called when the driver attends, never from inside `send`
or `close`.

Its life is the table in `states`: OPEN, then a close handshake, a failure or a loss. From leaving OPEN until CLOSED
takes at most `Settings.close_timeout_s`; then the connection's task cuts it.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from catfish.config import Settings
from catfish.errors import (
    HEARTBEAT_TIMEOUT,
    INTERNAL_ERROR,
    SLOW_CONSUMER_BYTES,
    SLOW_CONSUMER_TIME,
    Close,
    PeerError,
)
from catfish.log import connection_id
from catfish.net.endpoint import CONNECTION_LOST, NO_STATUS, Endpoint, Receiver
from catfish.net.outbox import FRAME_COST, Outbox
from catfish.net.states import MOVES, READING, Event, State
from catfish.wire.http import RequestHead
from catfish.wire.websocket.frames import BINARY, CLOSE, PING, PONG, FrameParser, build_close, build_frame

if TYPE_CHECKING:
    from catfish.net.flusher import Flusher
    from catfish.net.watch import Watch

log = logging.getLogger(__name__)

__all__ = ["CONNECTION_LOST", "NO_STATUS", "Connection", "Endpoint", "Receiver"]

OPEN: Final = State.OPEN  # read for every message; a global is cheaper than an enum's attribute
CLOSED: Final = State.CLOSED

_ids = itertools.count(1)


class Connection(ABC):
    """One WebSocket connection. Made by the listener; the application gets it in `Endpoint.open`."""

    __slots__ = (
        "_announced",
        "_blocked_at",
        "_close",
        "_deadline",
        "_flusher",
        "_held",
        "_outbox",
        "_parser",
        "_paused",
        "_pinged_at",
        "_pong",
        "_receiver",
        "_settings",
        "_special",
        "_state",
        "_waiter",
        "_watching",
        "address",
        "compresses",
        "head",
        "heard_at",
        "id",
        "nursery",
        "peer",
        "subprotocol",
    )

    def __init__(
        self,
        *,
        settings: Settings,
        parser: FrameParser,
        head: RequestHead,
        peer: str,
        address: str,
        subprotocol: str | None,
        compresses: bool,
        flusher: Flusher,
        watch: Watch,
    ) -> None:
        self.id: int = next(_ids)
        """Unique in this process."""
        self.peer = peer
        """As the socket or a PROXY header says: `203.0.113.9:1234`, `[2001:db8::1]:1234` or `unix`."""
        self.address = address
        """The client's, without a port: behind trusted proxies the one that they speak for. `203.0.113.9`,
        `2001:db8::1` or `unix`."""
        self.head = head
        self.subprotocol = subprotocol
        self.compresses = compresses
        """Whether permessage-deflate was negotiated, so that compressed frames may be sent."""
        self.heard_at: float = trio.current_time()
        """When bytes last came (Trio's time, seconds)."""
        self.nursery: trio.Nursery | None = None
        """The connection's own; set while `Receiver.run` runs."""
        self._settings = settings
        self._flusher = flusher
        self._watching = watch
        self._parser = parser
        self._outbox = Outbox(settings.outbox_bytes_max)
        self._receiver: Receiver | None = None
        self._state = State.OPEN
        self._close: Close | None = None  # why it left OPEN
        self._announced = False  # whether the receiver knows
        self._deadline = float("inf")  # when it is cut
        self._paused = False
        self._held: Sequence[tuple[int, Any]] = ()  # parsed, but reading was paused
        self._special = False  # whether to attend means more than to write
        self._pong: bytes | None = None  # payload of the latest ping that came while the outbox was blocked
        self._pinged_at = 0.0  # when the ping went out that was not answered yet; 0: there is none
        self._blocked_at: float | None = None  # since when the peer takes nothing of what waits
        self._waiter: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.peer} {self.head.path} {self._state.name}>"

    # For the application

    @property
    def is_open(self) -> bool:
        """Whether messages still flow; once false it stays so."""
        return self._state is OPEN

    @property
    def closed_with(self) -> Close | None:
        """Why it ended or is ending; None while it is open."""
        return self._close

    @property
    def bytes_waiting(self) -> int:
        """Bytes of frames that the kernel has not taken yet."""
        return self._outbox.bytes_waiting

    def send(self, frame: bytes) -> None:
        """Queue one complete frame (see `Outgoing`); it is written with everything else of this pass.

        Never blocks, raises or calls back. Over `outbox_bytes_max` the connection ends with `SLOW_CONSUMER_BYTES`; when
        it is ending already, the frame is dropped.
        """
        # Once per delivery: this is `Outbox.put`, in place.
        if self._state is OPEN:
            outbox = self._outbox
            frames = outbox.frames
            if not frames:
                self._ask()
            frames.append(frame)
            outbox.cost += len(frame) + FRAME_COST
            if outbox.cost > outbox.cost_max:
                self._relieve()

    def close(self, close: Close) -> None:
        """End the connection: what waits is written, then a close frame; the peer's is awaited, the socket closed.

        Returns at once and does nothing when the connection is ending already.
        """
        if self._state is OPEN:
            self._leave(Event.CLOSE, close)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`; the peer is slowed down by TCP. Closing still works."""
        if not self._paused and self._state is OPEN:
            self._paused = True
            self._special = True
            self._update_interest()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`; messages that were parsed already come first, from the driver's next pass."""
        if self._paused:
            self._paused = False
            self.heard_at = trio.current_time()  # its silence was ours
            if self._held:
                self._ask()
            else:
                self._update_interest()

    def cut(self) -> None:
        """End the connection now, without a close frame and whatever else waits. Its task is cancelled."""
        self._cut()
        if self.nursery is not None:
            self.nursery.cancel_scope.cancel()

    # For the listener

    def respond(self, response: bytes) -> None:
        """Put the answer to the handshake into the outbox; what `Endpoint.open` sends follows it, `run` writes it."""
        self._outbox.put(response)

    def disown(self) -> None:
        """`Endpoint.open` refused: the stream is not ours any more, and nothing was written."""
        self._state = CLOSED
        self._announced = True
        self._outbox.clear()

    async def run(self, receiver: Receiver, early: bytes) -> None:
        """The life of the connection after its handshake: one task, one nursery, one crash boundary.

        `early` is what the peer sent without waiting for the answer. Returns once the socket is closed and
        `Receiver.closed` was called.
        """
        self._receiver = receiver
        connection_id.set(self.id)  # of this task and those in the connection's nursery
        try:
            try:
                async with trio.open_nursery(strict_exception_groups=True) as nursery:
                    nursery.cancel_scope.deadline = self._deadline
                    self.nursery = nursery
                    if self._state is not CLOSED:
                        self._start()
                        if early:
                            traffic = self._flusher.traffic
                            traffic.bytes_received += len(early)
                            traffic.frames_received += self._received(early, trio.current_time())
                            del early
                    self._attend()  # writes the response
                    await receiver.run()
                    await self._finished()
            except BaseExceptionGroup as group:
                faults, rest = group.split(Exception)
                if faults is not None:
                    self._end_by_faults(faults)
                if rest is not None:
                    raise rest from None
            with trio.CancelScope(deadline=self._deadline):
                await self._finished()
        finally:
            self.nursery = None
            self._cut()

    def _end_by_faults(self, faults: BaseExceptionGroup[Exception]) -> None:
        """The connection's task, or one in its nursery, raised."""
        peer_errors, bugs = faults.split(PeerError)
        if bugs is not None:
            log.error("a connection's task failed", exc_info=bugs, extra=self._log_fields())
            self.close(INTERNAL_ERROR)
        first: BaseException | None = peer_errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, PeerError):
            self._fail(first.close)

    def _log_fields(self) -> dict[str, object]:
        return {"connection": self.id, "peer": self.peer, "path": self.head.path, "waiting_bytes": self.bytes_waiting}

    # For the driver

    def _ask(self) -> None:
        """Have `_attend` called soon, at the end of this pass or of the next."""
        flusher = self._flusher
        if not flusher.asking:
            flusher.wake()
        flusher.asking.append(self)

    @abstractmethod
    def _start(self) -> None:
        """The handshake is accepted; reading may begin."""

    @abstractmethod
    def _attend(self) -> None:
        """Write what waits, or have it written, and do what `_special` asks for."""

    @abstractmethod
    def _update_interest(self) -> None:
        """What is to be awaited may have changed: `_wants_reading`, whether writing is blocked."""

    @abstractmethod
    def _try_writing(self) -> None:
        """Write at once if that is possible without waiting; used when the outbox runs over."""

    def _is_flushed(self) -> bool:
        """Whether nothing waits to be written, nor is being written."""
        return not self._outbox.frames

    @abstractmethod
    def _shut_down_writing(self) -> None:
        """Everything is written: end our half."""

    @abstractmethod
    def _release(self) -> None:
        """Give the socket back. Called once, on reaching CLOSED."""

    @property
    def _wants_reading(self) -> bool:
        if self._state is OPEN:
            return not self._paused and not self._held
        return self._state in READING

    def _received(self, data: bytes, now: float) -> int:
        """Bytes came. Returns how many frames they completed."""
        self.heard_at = now
        messages = self._parser.receive(data)
        if self._special and self._state is OPEN and (self._paused or self._held):
            self._held = [*self._held, *messages]
        else:
            self._deliver(messages)
        return len(messages)

    def _deliver(self, messages: Iterable[tuple[int, Any]]) -> None:
        receiver = self._receiver
        rest = iter(messages)
        try:
            for kind, payload in rest:
                if kind > BINARY:
                    self._control(kind, payload)
                elif self._state is OPEN:
                    assert receiver is not None
                    receiver.receive(payload)
                    if self._paused:
                        self._held = tuple(rest)
        except PeerError as error:
            self._fail(error.close)
        except Exception:  # the crash boundary: a receiver's fault ends its connection only
            log.exception("a receiver failed", extra=self._log_fields())
            self.close(INTERNAL_ERROR)
            self._deliver(rest)  # the peer's close frame may be among them
        if self._parser.failure is not None and not self._held:
            self._fail(self._parser.failure.close)

    def _control(self, kind: int, payload: Any) -> None:
        if kind == CLOSE:
            code, reason = payload
            self._leave(Event.PEER_CLOSE, NO_STATUS if code == NO_STATUS.code else Close(code, reason, reconnect=False))
        elif kind == PING and self._state is OPEN:
            # RFC 6455 section 5.5.3: answering the latest ping suffices. While the peer reads, each gets its answer.
            if self._blocked_at is None or not self._outbox.frames:
                self.send(build_frame(PONG, payload))
            else:
                self._pong = payload

    def _peer_ended(self) -> None:
        """End of file was read."""
        self._leave(Event.PEER_EOF, CONNECTION_LOST)

    def _lost(self) -> None:
        """Reading or writing failed."""
        self._leave(Event.LOST, CONNECTION_LOST)

    def _fail(self, close: Close) -> None:
        self._leave(Event.FAIL, close)

    def _relieve(self) -> None:
        """More waits than may. The reader is slow only if that is still so after the kernel was offered everything."""
        if self._blocked_at is None:
            self._try_writing()
        outbox = self._outbox
        if self._receiver is None:
            return  # still in `Endpoint.open`; nothing can be written before that has succeeded
        if self._state is OPEN and outbox.cost > outbox.cost_max and len(outbox.frames) > 1:
            self._fail_slow(SLOW_CONSUMER_BYTES)

    def _fail_slow(self, close: Close) -> None:
        log.info(close.reason, extra=self._log_fields())
        self._outbox.drop_unbegun()
        self._fail(close)

    def _leave(self, event: Event, close: Close) -> None:
        """Apply `event`; when that leaves OPEN, `close` is why."""
        before = self._state
        after = MOVES[before, event]
        if before is OPEN and after is not OPEN:
            if event is not Event.PEER_EOF and event is not Event.LOST:
                self._outbox.put(build_close(close))  # the peer's is answered with its own code (section 5.5.1)
            self._close = close
            self._deadline = trio.current_time() + self._settings.close_timeout_s
            if self.nursery is not None:
                self.nursery.cancel_scope.deadline = min(self.nursery.cancel_scope.deadline, self._deadline)
            self._pong = None
        if after is before:
            return
        self._state = after
        self._special = True
        if after is CLOSED:
            self._outbox.clear()
            self._release()
        else:
            self._update_interest()
        self._ask()

    def _attend_special(self) -> None:
        """What `_attend` does besides writing, when `_special` is set."""
        if self._state is not OPEN:
            if self._held:  # nothing of it is received any more, but the peer's close frame may be among it
                held, self._held = self._held, ()
                self._deliver(held)
            if not self._announced:
                self._announce()
            if self._state is not CLOSED and self._is_flushed():
                before = self._state
                self._leave(Event.FLUSHED, CONNECTION_LOST)
                if self._state is State.LINGERING and before is not State.LINGERING:
                    self._shut_down_writing()
            if self._state is CLOSED and self._waiter is not None:
                task, self._waiter = self._waiter, None
                trio.lowlevel.reschedule(task)
        elif not self._paused:
            self._special = False
            if self._held:
                held, self._held = self._held, ()
                self._deliver(held)
                self._update_interest()

    def _announce(self) -> None:
        self._announced = True
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        assert self._close is not None
        try:
            receiver.closed(self._close)
        except Exception:
            log.exception("a receiver failed while its connection closed", extra=self._log_fields())

    def _cut(self) -> None:
        """End the connection now, without a close frame or whatever else waits; its receiver hears of it at once."""
        self._leave(Event.LOST, CONNECTION_LOST)
        self._attend_special()

    def _emptied(self) -> None:
        """The peer took everything after it had been slow."""
        self._blocked_at = None
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self.send(build_frame(PONG, payload))

    # Heartbeat and age

    def _watch(self, now: float) -> float:
        """Look after a quiet connection; returns when to look again.

        Any byte counts as a sign of life, a pong among them. While reading is paused the silence is ours, and while the
        peer does not take what waits a ping would only wait behind it: then the outbox's age decides.
        """
        settings = self._settings
        if self._state is not OPEN or self._paused or self._blocked_at is not None:
            return now + settings.heartbeat_s
        if self._pinged_at > self.heard_at:
            if now >= self._pinged_at + settings.heartbeat_timeout_s:
                self._fail(HEARTBEAT_TIMEOUT)
            return self._pinged_at + settings.heartbeat_timeout_s
        if now >= self.heard_at + settings.heartbeat_s:
            self.send(build_frame(PING, b""))
            self._pinged_at = now
            return now + settings.heartbeat_timeout_s
        return self.heard_at + settings.heartbeat_s

    def _watch_age(self, now: float) -> None:
        """End a peer that has taken nothing for too long."""
        if self._blocked_at is not None and now >= self._blocked_at + self._settings.outbox_age_s_max and self.is_open:
            self._fail_slow(SLOW_CONSUMER_TIME)

    # The connection's task

    async def _finished(self) -> None:
        """Wait until the connection is CLOSED."""
        if self._state is CLOSED:
            await trio.lowlevel.checkpoint()
            return
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_waiting)

    def _abort_waiting(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
