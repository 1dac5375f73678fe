"""Many connections to one server, opened side by side and then driven by the scenarios.

Each connection goes through the states CONNECTING -> UPGRADING -> GREETING -> READY, `WINDOW` of them at a time, so
that a burst neither overruns the server's backlog nor waits for one after the other. Everything is one thread and
non-blocking; every wait has a deadline.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from catfish.load.errors import LoadError
from catfish.load.frames import FrameReader, build_client_frame, server_frame_bytes
from catfish.load.plan import Target
from catfish.load.poller import READ, WRITE, Poller
from catfish.load.protocols import Request, Speech
from catfish.wire.websocket.frames import CLOSE

WINDOW: Final = 64
"""Connections or requests in flight while a scenario is set up."""
READ_BYTES: Final = 1 << 18
SILENCE_S_MAX: Final = 30.0
"""A server that lets us wait longer for anything is given up."""
SETTLE_S_MAX: Final = 30.0
REACH_S_MAX: Final = 10.0
KEEP_ALIVE_S: Final = 8.0
"""Below every usual heartbeat (Engine.IO: 25 s and 20 s for the answer)."""
_HEAD_BYTES_MAX: Final = 16_384
_DESCRIPTORS_SPARE: Final = 64
_NORMAL_CLOSURE: Final = build_client_frame(CLOSE, (1000).to_bytes(2, "big"))


class State(Enum):
    CONNECTING = auto()
    """TCP."""
    UPGRADING = auto()
    """The answer to the WebSocket handshake is awaited."""
    GREETING = auto()
    """The protocol's own handshake."""
    READY = auto()


class Link:
    """One connection."""

    __slots__ = ("began", "fd", "greeted", "head", "index", "reader", "ready_s", "recv", "send", "sock", "state")

    def __init__(self, index: int, sock: socket.socket) -> None:
        self.index = index
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.reader = FrameReader()
        self.state = State.CONNECTING
        self.head = b""
        self.greeted = 0
        """Answers of the greeting that have come."""
        self.began = perf_counter()
        self.ready_s = 0.0
        """Seconds from the start of TCP to READY."""


class Fleet:
    """Connections to one server.

    Args:
        target: of the server.
        speech: the protocol that they speak.
        beside: a fleet that is driven in the same loop: both share `poller` and `by_fd`, and whoever waits reads what
            comes to either.
        first_index: of their numbers, so that two fleets of one run have different users.
    """

    def __init__(self, target: Target, speech: Speech, *, beside: Fleet | None = None, first_index: int = 0) -> None:
        self.speech = speech
        self.poller: Poller = Poller() if beside is None else beside.poller
        self.links: list[Link] = []
        self.by_fd: dict[int, Link] = {} if beside is None else beside.by_fd
        self._first_index = first_index
        self._kept_alive = perf_counter()
        self._where = target.authority
        self._family, self._address, self.local = reach(target)
        """`local`: the server is on this machine, so its processes can be looked at."""
        self._head = _request_head(target, speech)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for link in self.links:
            if link.state is State.READY and error is None:
                try:
                    link.send(_NORMAL_CLOSURE)
                except OSError:  # it is gone already, or does not read
                    pass
            link.sock.close()
        self.poller.close()

    # Opening

    def open(self, count: int) -> None:
        """Open so many more connections, and make them ready.

        Raises:
            LoadError: the server refuses or does not answer, or this process may not have so many descriptors.
        """
        allow_descriptors(len(self.by_fd) + count + _DESCRIPTORS_SPARE)
        wanted = len(self.links) + count
        opening: set[int] = set()
        heard = perf_counter()
        while opening or len(self.links) < wanted:
            while len(opening) < WINDOW and len(self.links) < wanted:
                opening.add(self._connect())
            ready = self.poller.wait(0.1)
            if ready:
                heard = perf_counter()
            elif perf_counter() - heard > SILENCE_S_MAX:
                raise LoadError(f"{self._where} lets {len(opening)} connections wait for {SILENCE_S_MAX:g} s")
            for fd, _ in ready:
                if fd in opening:
                    link = self.by_fd[fd]
                    self._advance(link)
                    if link.state is State.READY:
                        link.ready_s = perf_counter() - link.began
                        opening.discard(fd)
                else:
                    self.read(self.by_fd[fd])
            self.tend()

    def _connect(self) -> int:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(self._first_index + len(self.links), sock)
        self.links.append(link)
        self.by_fd[link.fd] = link
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            raise LoadError(f"cannot connect to {self._where}: {os.strerror(code)}")
        self.poller.register(link.fd, WRITE)
        return link.fd

    def _advance(self, link: Link) -> None:
        """Do what the state of a connection that is being opened allows now."""
        if link.state is State.CONNECTING:
            code = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise LoadError(f"cannot connect to {self._where}: {os.strerror(code)}")
            self.write(link, self._head)
            self.poller.modify(link.fd, READ)
            link.state = State.UPGRADING
            return
        data = self.receive(link)
        if link.state is State.UPGRADING:
            link.head += data
            head, blank, data = link.head.partition(b"\r\n\r\n")
            if not blank:
                if len(head) > _HEAD_BYTES_MAX:
                    raise LoadError(f"{self._where} answers with an endless head")
                return
            check_upgrade(head.decode("latin-1"), self.speech.subprotocol)
            link.head = b""
            link.state = State.GREETING
            self._greet(link)
        for payload in link.reader.receive(data):
            if link.state is State.GREETING:
                awaited = self.speech.greeting[link.greeted][1]
                if not payload.startswith(awaited):
                    raise LoadError(f"{self._where} greets with {payload[:80]!r}, not {awaited!r}")
                link.greeted += 1
                self._greet(link)

    def _greet(self, link: Link) -> None:
        greeting = self.speech.greeting
        if link.greeted == len(greeting):
            link.state = State.READY
        elif greeting[link.greeted][0]:
            self.write(link, greeting[link.greeted][0])

    # Bytes

    def receive(self, link: Link) -> bytes:
        """Whatever has come, `READ_BYTES` at most; empty when nothing has.

        Raises:
            LoadError: the connection is lost.
        """
        try:
            data = link.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise LoadError(f"{self._where} lost a connection: {error.strerror}") from None
        if not data:
            raise LoadError(f"{self._where} ended a connection{_quote(link.head)}")
        return data

    def read(self, link: Link) -> list[bytes]:
        """The messages that have come."""
        return link.reader.receive(self.receive(link))

    def write(self, link: Link, frame: bytes) -> None:
        """Send all of it. A server that reads takes it at once; for one that does not we wait a little.

        Raises:
            LoadError: it does not read, or the connection is lost.
        """
        try:
            sent = link.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise LoadError(f"{self._where} lost a connection: {error.strerror}") from None
        if sent != len(frame):
            self._write_rest(link, frame[sent:])

    def _write_rest(self, link: Link, rest: bytes) -> None:
        one = select.poll()
        one.register(link.fd, WRITE)
        while rest:
            if not one.poll(SILENCE_S_MAX * 1_000):
                raise LoadError(f"{self._where} has read nothing for {SILENCE_S_MAX:g} s")
            try:
                rest = rest[link.send(rest) :]
            except OSError as error:
                raise LoadError(f"{self._where} lost a connection: {error.strerror}") from None

    def tend(self) -> None:
        """Tell the server that all connections live, if it is time to. Call it at least every few seconds."""
        now = perf_counter()
        if now - self._kept_alive > KEEP_ALIVE_S:
            self._kept_alive = now
            for link in self.links:
                if link.state is State.READY:
                    self.write(link, self.speech.keep_alive)

    # Steps of a scenario

    def ask(self, questions: Iterable[tuple[Link, Request]]) -> list[bytes]:
        """Send requests, `WINDOW` at a time and one per connection; their answers, in the order of the requests.

        What else comes meanwhile is read and forgotten.

        Raises:
            LoadError: one is refused, or the server falls silent.
        """
        answers: list[bytes] = []
        waiting: dict[int, tuple[int, Request]] = {}
        left = deque(questions)
        heard = perf_counter()
        while left or waiting:
            while left and len(waiting) < WINDOW:
                link, request = left.popleft()
                waiting[link.fd] = len(answers), request
                answers.append(b"")
                self.write(link, request.frame)
            ready = self.poller.wait(0.1)
            for fd, _ in ready:
                for payload in self.read(self.by_fd[fd]):
                    if fd in waiting and (place := _answered(payload, *waiting[fd])) is not None:
                        answers[place] = payload
                        del waiting[fd]
                        heard = perf_counter()
            if waiting and perf_counter() - heard > SILENCE_S_MAX:
                raise LoadError(f"{self._where} has answered nothing for {SILENCE_S_MAX:g} s")
            self.tend()
        return answers

    def settle(self, quiet_s: float = 0.3) -> None:
        """Read whatever still comes, until nothing has come for a while."""
        began = quiet_since = perf_counter()
        while perf_counter() - quiet_since < quiet_s:
            for fd, _ in self.poller.wait(quiet_s / 4):
                if self.read(self.by_fd[fd]):
                    quiet_since = perf_counter()
            if perf_counter() - began > SETTLE_S_MAX:
                raise LoadError(f"{self._where} does not stop sending, though nobody asks for anything")
            self.tend()
        if not all(link.reader.empty for link in self.links):
            raise LoadError(f"{self._where} left a frame unfinished")

    def idle(self, seconds: float) -> None:
        """Stay, and read what comes."""
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0:
            for fd, _ in self.poller.wait(min(left, 1.0)):
                self.read(self.by_fd[fd])
            self.tend()

    def measure_delivery(self, sender: Link, frame: bytes, receiver: Link) -> int:
        """Send once; the bytes of the frame that reaches the receiver. Nothing else may be under way."""
        self.write(sender, frame)
        end = perf_counter() + SILENCE_S_MAX
        while perf_counter() < end:
            for fd, _ in self.poller.wait(0.1):
                link = self.by_fd[fd]
                payloads = self.read(link)
                if link is receiver and payloads:
                    self.settle()
                    return server_frame_bytes(len(payloads[-1]))
        raise LoadError(f"{self._where} has delivered nothing for {SILENCE_S_MAX:g} s")


def reach(target: Target) -> tuple[int, Any, bool]:
    """The first of the host's addresses that accepts a connection: its family, itself, whether it is this machine's.

    Raises:
        LoadError: none does.
    """
    problem = ""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LoadError(f"cannot connect to {target.authority}: {error.strerror}") from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(REACH_S_MAX)
            try:
                probe.connect(address)
            except OSError as error:
                problem = problem or error.strerror or str(error)
                continue
            return family, address, probe.getsockname()[0] == address[0]
    raise LoadError(f"cannot connect to {target.authority}: {problem}")


def _answered(payload: bytes, place: int, request: Request) -> int | None:
    """The place of the request when this is its answer."""
    if payload.startswith(request.refused):
        raise LoadError(f"the server refuses: {payload[:200].decode(errors='replace')}")
    return place if payload.startswith(request.awaited) else None


def _request_head(target: Target, speech: Speech) -> bytes:
    """The opening handshake (RFC 6455 section 4.1). Compression is not offered: bytes are to be counted."""
    path = (target.path or speech.path) + (f"?{speech.query}" if speech.query else "")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {target.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    if speech.subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {speech.subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


def check_upgrade(head: str, subprotocol: str | None) -> None:
    """Whether this answer opens a WebSocket with that subprotocol (RFC 6455 section 4.2.2).

    Raises:
        LoadError: it does not; the text has the answer's first line, or the subprotocol.
    """
    status, _, block = head.partition("\r\n")
    if status.split(" ")[1:2] != ["101"]:
        raise LoadError(f"the server refuses a WebSocket: {status[:200]}")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in block.split("\r\n"))
    }
    if fields.get("sec-websocket-protocol") != subprotocol:
        raise LoadError(f"the server chose the subprotocol {fields.get('sec-websocket-protocol')}, not {subprotocol}")


def _quote(head: bytes) -> str:
    return f" after {head[:80]!r}" if head else ""


def allow_descriptors(count: int) -> None:
    """Raise the soft limit of open descriptors as far as is needed.

    Raises:
        LoadError: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise LoadError(f"{count} descriptors are needed and {hard} allowed (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
