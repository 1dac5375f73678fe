"""Handing a request over a Unix socket: what arrives, who serves it, that nobody serves twice or keeps a descriptor."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catfish.workers.handover import LENGTH_BYTES, TAKEN, BadHandover, Handed, _withdraw, confirm, offer, take
from tests.net.harness import descriptors

BYTES_MAX = 4_000_000
HANDED = Handed("203.0.113.9:1", b"GET / HTTP/1.1\r\n\r\n")


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


class Door:
    """A worker that listens."""

    def __init__(self, path: Path, backlog: int = 10) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.bind(str(path))
        self.sock.listen(backlog)

    async def accept(self) -> socket.socket:
        await trio.lowlevel.wait_readable(self.sock)
        connection, _ = self.sock.accept()
        connection.setblocking(False)
        return connection


@pytest.fixture
def door(tmp_path: Path, no_descriptor_is_left: None) -> Iterator[Door]:
    door = Door(tmp_path / "abcd")
    yield door
    door.sock.close()


@pytest.fixture
def client(no_descriptor_is_left: None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end of a client's connection, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_the_other_worker_gets_the_connection_and_what_was_read(
    door: Door, client: tuple[socket.socket, socket.socket]
) -> None:
    async def serve() -> None:
        connection = await door.accept()
        with connection:
            handed, sock = await take(connection, bytes_max=BYTES_MAX)
            assert handed == HANDED
            assert sock is not None
            with sock:
                assert not sock.getblocking()
                assert not os.get_inheritable(sock.fileno())
                assert confirm(connection)
                sock.send(b"hello")

    ours, theirs = client
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            given = await offer(door.path, HANDED, ours.fileno(), timeout_s=5)
        assert given is not None
        given.close()
        ours.close()
    assert theirs.recv(10) == b"hello"
    assert theirs.recv(10) == b""


async def test_without_a_descriptor_the_connection_itself_goes_on(door: Door) -> None:
    async def serve() -> None:
        with await door.accept() as connection:
            handed, sock = await take(connection, bytes_max=BYTES_MAX)
            assert (handed.relayed, sock) == (True, None)
            assert confirm(connection)
            connection.send(b"answer")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            connection = await offer(door.path, Handed("unix", b"x", relayed=True), None, timeout_s=5)
        assert connection is not None
        with connection:
            assert connection.recv(10) == b"answer"


async def test_much_may_have_been_read_before(door: Door, client: tuple[socket.socket, socket.socket]) -> None:
    handed = Handed("unix", os.urandom(3_000_000))

    async def serve() -> None:
        with await door.accept() as connection:
            got, sock = await take(connection, bytes_max=BYTES_MAX)
            assert got == handed
            assert sock is not None
            sock.close()
            confirm(connection)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            given = await offer(door.path, handed, client[0].fileno(), timeout_s=5)
        assert given is not None
        given.close()


async def test_nobody_takes_it_where_nobody_listens(
    tmp_path: Path, client: tuple[socket.socket, socket.socket]
) -> None:
    assert await offer(tmp_path / "none", HANDED, client[0].fileno(), timeout_s=5) is None
    dead = Door(tmp_path / "dead")
    dead.sock.close()
    assert await offer(dead.path, HANDED, client[0].fileno(), timeout_s=5) is None
    assert await offer(tmp_path / ("long" * 40), HANDED, client[0].fileno(), timeout_s=5) is None


async def test_nobody_takes_it_where_too_many_wait(
    tmp_path: Path, client: tuple[socket.socket, socket.socket], autojump_clock: trio.testing.MockClock
) -> None:
    door = Door(tmp_path / "full", backlog=0)
    with door.sock, socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(door.path))
        assert await offer(door.path, HANDED, client[0].fileno(), timeout_s=5) is None


async def test_a_worker_that_ends_before_it_took_it_has_not(
    door: Door, client: tuple[socket.socket, socket.socket]
) -> None:
    async def die() -> None:
        with await door.accept() as connection:
            _, sock = await take(connection, bytes_max=BYTES_MAX)
            assert sock is not None
            sock.close()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            assert await offer(door.path, HANDED, client[0].fileno(), timeout_s=5) is None


async def test_a_worker_that_is_too_slow_cannot_take_it_any_more(
    door: Door, client: tuple[socket.socket, socket.socket], autojump_clock: trio.testing.MockClock
) -> None:
    assert await offer(door.path, HANDED, client[0].fileno(), timeout_s=5) is None
    with await door.accept() as connection:
        handed, sock = await take(connection, bytes_max=BYTES_MAX)
        assert handed == HANDED
        assert sock is not None
        with sock:
            assert not confirm(connection)


def test_what_was_taken_before_we_gave_up_is_taken() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert confirm(theirs)
        assert _withdraw(ours)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert not _withdraw(ours)
        assert not confirm(theirs)


async def test_an_offer_that_is_cancelled_leaves_nothing(
    door: Door, client: tuple[socket.socket, socket.socket]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: offer(door.path, HANDED, client[0].fileno(), timeout_s=1_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with await door.accept() as connection:
        _, sock = await take(connection, bytes_max=BYTES_MAX)
        assert sock is not None
        sock.close()
        assert not confirm(connection)


def message(handed: bytes) -> bytes:
    return len(handed).to_bytes(LENGTH_BYTES, "big") + handed


GOOD = msgspec.msgpack.encode(HANDED)


async def taken_of(data: bytes, given: list[int]) -> Handed:
    """What `take` makes of bytes that come with descriptors, before the end of the stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))] if given else []
        ours.sendmsg([data], ancillary)
        ours.close()
        handed, sock = await take(theirs, bytes_max=1_000)
        if sock is not None:
            sock.close()
        return handed


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"\0", 1),
        (message(GOOD)[:-1], 1),
        (message(b"junk"), 1),
        (message(GOOD), 0),
        (message(GOOD), 2),
        (message(GOOD), 3),
        (message(msgspec.msgpack.encode(Handed("x", b"", relayed=True))), 1),
        ((1_001).to_bytes(4, "big"), 1),
    ],
)
async def test_what_is_no_request_is_refused_and_its_descriptors_are_closed(data: bytes, count: int) -> None:
    socks = [socket.socket() for _ in range(count)]
    with pytest.raises(BadHandover):
        await taken_of(data, [sock.fileno() for sock in socks])
    for sock in socks:
        sock.close()


async def test_a_crowd_of_descriptors_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(BadHandover):
        await taken_of(message(GOOD), [sock.fileno()] * 40)


async def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    reading, writing = os.pipe()
    with pytest.raises(BadHandover, match="no socket"):
        await taken_of(message(GOOD), [reading])
    os.close(reading)
    os.close(writing)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200) | st.binary(max_size=100).map(message))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            try:
                await taken_of(data, [sock.fileno()])
            except BadHandover:
                pass

    trio.run(main)


def test_the_byte_that_says_taken_is_one() -> None:
    assert len(TAKEN) == 1
