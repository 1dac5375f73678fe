"""The readiness hub: all plain sockets in one epoll object, one task that serves whichever are ready.

Theory of operation
-------------------
A task switch per message is what makes Python servers slow. Here the only thing that Trio waits for is the epoll object
itself, which is readable while any socket in it is ready. One *pass* then serves each ready socket once, without
waiting for anything: read at most `read_bytes_per_turn`, parse every complete frame, dispatch. What the receivers send
meanwhile, to whomever, is queued, and written at the end of the pass with one `send` per connection. Then Trio has its
turn (`wait_readable` is a checkpoint even when the epoll object is ready), and so have all other tasks.

Fairness comes from the kernel: readiness is level-triggered, so a socket with more to read is simply ready again,
behind the others. A peer that sends without pause gets its turn once per pass, like everyone.

Traps, and where each is dealt with:
* A descriptor is taken out of the epoll object before it is closed, and closed only in `_release`; numbers are reused
  at once. An event for a connection that another one's message ended earlier in the same pass finds nobody and is
  dropped.
* A fault while serving one socket ends that connection only (`Hub._serve`, `Flusher.flush`).
* After end of file a socket stays readable for ever, so it is no longer asked (`Connection._wants_reading`).
* EPOLLHUP and EPOLLERR come unasked. When nothing is to be read they are the end; else reading finds out what there was
  before it.
"""

from __future__ import annotations

import logging
import select
import socket
from typing import Any, Final

import attrs
import trio

from catfish.net.connection import Connection
from catfish.net.flusher import Flusher
from catfish.net.outbox import FRAME_COST

log = logging.getLogger(__name__)

AVAILABLE: Final = hasattr(select, "epoll")
"""Whether this platform has epoll; elsewhere every connection is driven as a stream."""

EVENTS_PER_PASS: Final = 512
"""Sockets served before Trio has its turn; the kernel keeps the others for the next pass, in order."""

_IN: Final = getattr(select, "EPOLLIN", 1)
_OUT: Final = getattr(select, "EPOLLOUT", 4)


@attrs.frozen
class HubStatistics:
    """The hub since its start, and at this moment."""

    connections: int
    passes: int
    reads: int


class Hub:
    """One epoll object and the connections whose sockets are in it.

    Args:
        flusher: flushes at the end of each pass what was sent in it.
        read_bytes_per_turn: bytes read from one socket in one pass.
    """

    def __init__(self, flusher: Flusher, read_bytes_per_turn: int) -> None:
        self._flusher = flusher
        self._read_bytes = read_bytes_per_turn
        self._epoll = select.epoll()
        self._connections: dict[int, HubConnection] = {}
        self._passes = 0
        self._reads = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve ready sockets, until cancelled."""
        task_status.started()
        fd = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            self._serve()

    def close(self) -> None:
        """Close the epoll object, after the last connection was released."""
        self._epoll.close()

    def statistics(self) -> HubStatistics:
        """Counts."""
        return HubStatistics(len(self._connections), self._passes, self._reads)

    def _serve(self) -> None:
        """One pass."""
        flusher = self._flusher
        connections = self._connections
        read_bytes = self._read_bytes
        now = trio.current_time()
        bytes_received = frames_received = 0
        flusher.in_pass = True
        try:
            events = self._epoll.poll(0, EVENTS_PER_PASS)
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is None:
                    continue
                try:
                    if mask & _IN:
                        try:
                            data = connection._sock.recv(read_bytes)
                        except BlockingIOError:
                            continue
                        except OSError:
                            connection._lost()
                            continue
                        if data:
                            bytes_received += len(data)
                            frames_received += connection._received(data, now)
                        else:
                            connection._peer_ended()
                    elif mask & ~_OUT:
                        connection._lost()
                    if mask & _OUT:
                        connection._writable(now)
                except Exception:  # the crash boundary between connections
                    log.exception("serving a connection failed", extra=connection._log_fields())
                    connection._cut()
            flusher.flush()
        finally:
            flusher.in_pass = False
        flusher.traffic.bytes_received += bytes_received
        flusher.traffic.frames_received += frames_received
        self._passes += 1
        self._reads += len(events)


class HubConnection(Connection):
    """A connection on a plain non-blocking socket that the hub serves.

    Args:
        hub: its hub.
        sock: the socket; the connection owns it from now on.
    """

    __slots__ = ("_hub", "_mask", "_sock")

    def __init__(self, hub: Hub, sock: socket.socket, **common: Any) -> None:
        super().__init__(**common)
        self._hub = hub
        self._sock = sock
        self._mask = -1  # not in the epoll object yet

    def _start(self) -> None:
        self._mask = _IN if self._wants_reading else 0
        self._hub._epoll.register(self._sock, self._mask)
        self._hub._connections[self._sock.fileno()] = self

    def _attend(self) -> None:
        if self._outbox.frames and self._blocked_at is None:
            self._write()
        if self._special:
            self._attend_special()

    def _write(self) -> None:
        # Once per delivery: of `Outbox` only what is needed while nothing of it was refused.
        outbox = self._outbox
        frames = outbox.frames
        try:
            count = self._sock.send(frames[0] if len(frames) == 1 else outbox.head())
        except BlockingIOError:
            count = 0
        except OSError:
            self._lost()
            return
        traffic = self._flusher.traffic
        traffic.bytes_sent += count
        waiting = len(frames)
        if count + FRAME_COST * waiting == outbox.cost:
            traffic.frames_sent += waiting
            frames.clear()
            outbox.cost = 0
            return
        emptied = outbox.sent(count)
        traffic.frames_sent += waiting - len(outbox.frames)
        if not emptied:
            self._blocked_at = trio.current_time()
            self._watching.block(self)
            self._update_interest()

    def _try_writing(self) -> None:
        if self._mask >= 0:
            self._write()

    def _writable(self, now: float) -> None:
        """The kernel takes more."""
        outbox = self._outbox
        if self._blocked_at is None:
            return
        try:
            count = self._sock.send(outbox.head())
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        traffic, waiting = self._flusher.traffic, len(outbox.frames)
        emptied = outbox.sent(count)
        traffic.bytes_sent += count
        traffic.frames_sent += waiting - len(outbox.frames)
        if emptied:
            self._watching.blocked.discard(self)
            self._emptied()
            self._update_interest()
            if self._special:
                self._ask()
        elif count:
            self._blocked_at = now

    def _update_interest(self) -> None:
        mask = (_IN if self._wants_reading else 0) | (_OUT if self._blocked_at is not None else 0)
        if mask != self._mask and self._mask >= 0:
            self._mask = mask
            self._hub._epoll.modify(self._sock, mask)

    def _shut_down_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lost()

    def _release(self) -> None:
        if self._mask >= 0:
            self._mask = -1
            self._hub._epoll.unregister(self._sock)
            del self._hub._connections[self._sock.fileno()]
        self._watching.remove(self)
        self._blocked_at = None
        self._sock.close()
