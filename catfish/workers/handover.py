"""Handing a request to the process that has its session, over that process's Unix socket.

    the one who has it                              the one whose it is
    connects, sends length and `Handed`,
    with the descriptor as ancillary data     ->    reads it
                                              <-    one byte, `TAKEN`; serves the descriptor from then on
    closes its copy of the descriptor

Both have the descriptor for a moment, and only one may write to it. So the taker serves only what it could say `TAKEN`
for; and whoever gives up waiting first makes that impossible (`shutdown`), and then looks whether it was said before.
A process that dies before it has said `TAKEN` has not served, and the request is served where it is; so it is when the
other one does not listen, or is too slow.

Without a descriptor (`relayed`) the Unix connection itself carries the request's bytes from then on; see `relay`.

Source: unix(7), SCM_RIGHTS.
"""

from __future__ import annotations

import array
import logging
import os
import socket
from pathlib import Path
from typing import Final

import msgspec
import trio
from trio.lowlevel import wait_readable, wait_writable

log = logging.getLogger(__name__)

TAKEN: Final = b"\x06"
LENGTH_BYTES: Final = 4
DESCRIPTORS_MAX: Final = 4
"""One is expected; more are taken to be closed."""
CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Handed(msgspec.Struct, frozen=True):
    """A request on its way."""

    peer: str
    """The name of the client."""
    data: bytes
    """What was read from it: a whole request head at least."""
    relayed: bool = False
    """What follows comes over this connection, not over a descriptor."""
    question: str = ""
    """It is no request, but a worker wants to know something; the reply follows, to the end of the connection."""


class BadHandover(Exception):
    """What came is no request: the other side is broken, or died."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Handed)


async def offer(path: Path, handed: Handed, descriptor: int | None, *, timeout_s: float) -> socket.socket | None:
    """Offer a request to the process that listens at `path`.

    Args:
        descriptor: of the client's connection; None with `Handed.relayed`. The caller keeps its copy.

    Returns:
        The connection to the other process, once it has taken the request; None: it has not, and never will.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    keeps = False
    try:
        sock.setblocking(False)
        taken = False
        try:
            sock.connect(os.fspath(path))  # at once, or not at all (EAGAIN: too many wait there already)
            with trio.move_on_after(timeout_s):
                await _send(sock, handed, descriptor)
                taken = await _receive_some(sock, 1) == TAKEN
        except OSError as error:
            log.debug("a worker does not take a request", extra={"path": str(path), "error": str(error)})
        finally:
            if not taken:
                taken = _withdraw(sock) and descriptor is not None
        keeps = taken
        return sock if taken else None
    finally:
        if not keeps:
            sock.close()


async def take(sock: socket.socket, *, bytes_max: int) -> tuple[Handed, socket.socket | None]:
    """Read what is handed over on a new connection.

    Returns:
        the request, and the client's connection unless it is relayed. Nothing may be done with them before `confirm`.

    Raises:
        BadHandover: it is not what it should be, or the other side gave up.
        OSError: it is gone.
    """
    given: list[int] = []
    try:
        length = await _receive_exactly(sock, LENGTH_BYTES, given)
        size = int.from_bytes(length, "big")
        if size > bytes_max:
            raise BadHandover(f"{size} bytes are more than {bytes_max}")
        try:
            handed = _decoder.decode(await _receive_exactly(sock, size, given))
        except msgspec.DecodeError as error:
            raise BadHandover(str(error)) from None
        if len(given) != (0 if handed.relayed else 1):
            raise BadHandover(f"there are {len(given)} descriptors")
        return handed, _adopt(given.pop()) if given else None
    finally:
        for descriptor in given:
            os.close(descriptor)


def confirm(sock: socket.socket) -> bool:
    """Say that the request is served here. Returns False when the other side gave up: then it must not be."""
    try:
        return sock.send(TAKEN) == len(TAKEN)
    except OSError:
        return False


async def _send(sock: socket.socket, handed: Handed, descriptor: int | None) -> None:
    body = _encoder.encode(handed)
    data = memoryview(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    ancillary = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    while data:
        try:
            sent = sock.sendmsg([data], ancillary)
        except BlockingIOError:
            await wait_writable(sock)
            continue
        ancillary = []  # it goes with the first byte
        data = data[sent:]


async def _receive_some(sock: socket.socket, bytes_max: int) -> bytes:
    while True:
        try:
            return sock.recv(bytes_max)
        except BlockingIOError:
            await wait_readable(sock)


async def _receive_exactly(sock: socket.socket, size: int, given: list[int]) -> bytes:
    """So many bytes; descriptors that come with them are added to `given`."""
    data = b""
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
    while len(data) < size:
        try:
            piece, ancillary, flags, _ = sock.recvmsg(size - len(data), space, CLOEXEC)
        except BlockingIOError:
            await wait_readable(sock)
            continue
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                given.extend(numbers)
        if flags & socket.MSG_CTRUNC:
            raise BadHandover("there are too many descriptors")
        if not piece:
            raise BadHandover(f"it ends after {len(data)} of {size} bytes")
        data += piece
    return data


def _adopt(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        os.close(descriptor)
        raise BadHandover("the descriptor is no socket") from error
    sock.setblocking(False)
    return sock


def _withdraw(sock: socket.socket) -> bool:
    """From now on the other side cannot say `TAKEN` any more. Returns whether it had before."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
        return sock.recv(1) == TAKEN
    except OSError:
        return False
