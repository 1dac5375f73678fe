"""A Trio stream over a raw socket, as thin as can be.

`trio.SocketStream` costs two wrappers, two system calls and a task switch per call that are not needed here: most of
these streams only carry a request head, and then their socket goes to the hub.
"""

from __future__ import annotations

import socket
from operator import index

import trio
from trio.lowlevel import wait_readable, wait_writable


class PlainStream(trio.abc.HalfCloseableStream):
    """A connected non-blocking stream socket (TCP or Unix).

    Args:
        sock: owned by the stream from now on; it is `.socket` for those who need the raw one (Hypercorn asks it for its
            addresses).
    """

    __slots__ = ("_ended", "_receiving", "_sending", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._ended = False  # whether our half is
        self._sending = False
        self._receiving = False

    def receive_nowait(self, max_bytes: int) -> bytes:
        """What has come already; `b""` at the end of file.

        Raises:
            BlockingIOError: nothing has.
        """
        self._check_open()
        try:
            return self.socket.recv(max_bytes)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._translate(error) from error

    async def peek_some(self, max_bytes: int) -> bytes:
        """Wait for bytes and leave them where they are; `b""` at the end of file."""
        while True:
            self._check_open()
            await wait_readable(self.socket)
            try:
                return self.socket.recv(max_bytes, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._translate(error) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes; `b""` at the end of file. Raises as every Trio stream does."""
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        try:
            while True:
                self._check_open()
                await wait_readable(self.socket)
                try:
                    return self.receive_nowait(max_bytes or 65_536)
                except BlockingIOError:
                    continue
        finally:
            self._receiving = False

    def send_nowait(self, data: bytes) -> int:
        """Write what the kernel takes at once. Returns how many bytes that were. Raises as every Trio stream does."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._check_not_ended()
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._translate(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything. Raises as every Trio stream does."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            self._check_not_ended()
            await trio.lowlevel.checkpoint()
            with memoryview(data) as view:
                sent = 0
                while sent < len(view):
                    self._check_open()
                    try:
                        sent += self.socket.send(view[sent:])
                    except BlockingIOError:
                        await wait_writable(self.socket)
                    except OSError as error:
                        raise self._translate(error) from error
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes at least a byte."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            self._check_not_ended()
            await wait_writable(self.socket)
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """End our half."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint()
        self._check_open()
        self._ended = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._translate(error) from error

    async def aclose(self) -> None:
        """Close the socket."""
        self.cut()
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Close the socket at once. Who sends or receives gets `trio.ClosedResourceError`, shielded or not."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def _check_open(self) -> None:
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed")

    def _check_not_ended(self) -> None:
        self._check_open()
        if self._ended:
            raise trio.ClosedResourceError("this half of the stream was ended")

    def _translate(self, error: OSError) -> Exception:
        if self.socket.fileno() < 0:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError(f"socket connection broken: {error}")
