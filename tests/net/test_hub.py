"""The hub's own promises: fairness, one write per pass, and its traps."""

from __future__ import annotations

import gc
import os
import socket
import sys
import weakref
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import NORMAL
from catfish.net.connection import Connection
from catfish.net.endpoint import CONNECTION_LOST
from catfish.net.hub import AVAILABLE, HubConnection
from catfish.wire.websocket.frames import BINARY, CLOSE, TEXT, build_text
from tests.net.harness import EACH_DRIVER, HANDSHAKE, Recording, RecordingEndpoint, StartSite, descriptors
from tests.net.test_connection import close_payload, echo
from tests.wire.peer import client_frame

needs_epoll = pytest.mark.skipif(not AVAILABLE, reason="there is no epoll on this platform")


class CountingSocket:
    """Counts what is written to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.writes: list[bytes] = []

    def send(self, data: bytes) -> int:
        count = self._sock.send(data)
        self.writes.append(bytes(data[:count]))
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def count_writes(connection: Connection) -> list[bytes]:
    assert isinstance(connection, HubConnection)
    counting = CountingSocket(connection._sock)
    connection._sock = counting  # type: ignore[assignment]
    return counting.writes


@needs_epoll
async def test_everything_that_is_sent_in_one_pass_is_one_write(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    endpoint = RecordingEndpoint()
    site = await start_site("hub", endpoint)
    peers = [await site.connect() for _ in range(3)]
    writes = [count_writes(recording.connection) for recording in endpoint.recordings]

    def broadcast(message: str | bytes) -> None:
        for recording in endpoint.recordings:
            recording.connection.send(build_text(str(message).encode()))

    for recording in endpoint.recordings:
        recording.on_message = broadcast
    # Three senders with two messages each are ready in the same pass.
    for peer in peers:
        await_nothing = peer.stream.socket.send(client_frame(TEXT, b"x") * 2)  # type: ignore[attr-defined]
        assert await_nothing
    await wait_all_tasks_blocked()
    assert writes == [[build_text(b"x") * 6]] * 3


@needs_epoll
async def test_everything_that_is_sent_between_passes_is_one_write(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site("hub")
    await site.connect()
    connection = site.endpoint.recording.connection
    writes = count_writes(connection)
    for _ in range(10):
        connection.send(build_text(b"x"))
    assert writes == []
    await wait_all_tasks_blocked()
    assert writes == [build_text(b"x") * 10]


@needs_epoll
async def test_a_peer_that_sends_without_pause_does_not_keep_the_others_waiting(start_site: StartSite) -> None:
    endpoint = RecordingEndpoint()
    site = await start_site("hub", endpoint, read_bytes_per_turn=4_096)
    flood = await site.connect()
    flooded = endpoint.recording
    quiet = await site.connect()
    echo(endpoint.recording)
    stop = trio.Event()

    async def keep_sending() -> None:
        data = client_frame(BINARY, bytes(1_000)) * 50
        while not stop.is_set():
            await flood.send(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_sending)
        for _ in range(20):
            before = len(flooded.messages)
            await quiet.send(client_frame(TEXT, b"me too"))
            with trio.fail_after(10):
                assert await quiet.frame() == (TEXT, b"me too")
            # A few passes' worth at most came between question and answer.
            assert len(flooded.messages) - before < 200
        stop.set()
    assert len(flooded.messages) > 20


@needs_epoll
async def test_a_connection_that_another_ends_in_the_same_pass_is_not_served_any_more(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    endpoint = RecordingEndpoint()
    site = await start_site("hub", endpoint)
    peers = [await site.connect() for _ in range(5)]

    def end_the_others(message: str | bytes) -> None:
        for recording in endpoint.recordings:
            if str(message) != str(endpoint.recordings.index(recording)):
                recording.connection.cut()

    for recording in endpoint.recordings:
        recording.on_message = end_the_others
    for number, peer in enumerate(peers):
        peer.stream.socket.send(client_frame(TEXT, b"%d" % number))  # type: ignore[attr-defined]
    await wait_all_tasks_blocked()
    received = [recording.messages for recording in endpoint.recordings]
    assert sum(map(len, received)) == 1
    assert sum(recording.closes == [CONNECTION_LOST] for recording in endpoint.recordings) == 4


@needs_epoll
async def test_a_number_that_is_used_again_belongs_to_the_new_connection(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    endpoint = RecordingEndpoint(echo)
    site = await start_site("hub", endpoint)
    numbers = []
    for _ in range(3):
        peer = await site.connect()
        connection = endpoint.recording.connection
        assert isinstance(connection, HubConnection)
        numbers.append(connection._sock.fileno())
        await peer.send(client_frame(TEXT, b"hello"))
        assert await peer.frame() == (TEXT, b"hello")
        connection.cut()
        await wait_all_tasks_blocked()
        await peer.leave()
    assert len(set(numbers)) == 1
    assert site.hub is not None
    assert site.hub.statistics().connections == 0


@needs_epoll
async def test_a_fault_of_ours_while_serving_one_connection_ends_that_one_only(
    start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        failure = None

        def receive(self, data: bytes) -> list[Any]:
            raise ZeroDivisionError("a bug")

    site = await start_site("hub", RecordingEndpoint(echo))
    healthy, broken = await site.connect(), await site.connect()
    recording = site.endpoint.recording
    recording.connection._parser = Broken()  # type: ignore[assignment]
    await broken.send(client_frame(TEXT, b"x"))
    await healthy.send(client_frame(TEXT, b"x"))
    assert await healthy.frame() == (TEXT, b"x")
    assert await broken.rest() == b""
    assert recording.closes == [CONNECTION_LOST]
    assert "a bug" in caplog.text


@needs_epoll
async def test_a_hang_up_while_reading_is_paused_is_noticed_and_does_not_spin(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site("hub")
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.pause_reading()
    await peer.leave()
    await wait_all_tasks_blocked()
    assert recording.closes == [CONNECTION_LOST]
    assert site.hub is not None
    passes = site.hub.statistics().passes
    await trio.sleep(10)
    assert site.hub.statistics().passes == passes


@needs_epoll
async def test_an_end_of_file_behind_a_full_outbox_does_not_spin(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site("hub", close_timeout_s=5)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.send(build_text(bytes(500_000)))
    await peer.end()
    await wait_all_tasks_blocked()
    assert recording.closes == [CONNECTION_LOST]
    assert site.hub is not None
    passes = site.hub.statistics().passes
    await trio.sleep(4)
    assert site.hub.statistics().passes == passes
    assert (await peer.rest()).endswith(bytes(1_000))


@EACH_DRIVER
async def test_a_storm_of_connects_and_disconnects_leaves_nothing_behind(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    watched: list[weakref.ref[Any]] = []

    connections: dict[str, Connection] = {}

    def prepare(recording: Recording) -> None:
        watched.append(weakref.ref(recording))
        connections[recording.connection.head.headers["x-number"]] = recording.connection
        echo(recording)

    endpoint = RecordingEndpoint(prepare)
    site = await start_site(driver, endpoint, close_timeout_s=2, request_head_timeout_s=3, heartbeat_s=5)
    await wait_all_tasks_blocked()
    tasks = trio.lowlevel.current_statistics().tasks_living
    files = descriptors()

    async def one(number: int) -> None:
        if number % 8 == 7:
            peer = await site.dial()  # says nothing, or half a request
            await peer.send(HANDSHAKE if number % 16 == 7 else b"")
            await peer.leave()
            return
        peer = await site.connect(b"X-Number: %d\r\n" % number)
        connection = connections[str(number)]
        match number % 8:
            case 0:
                await peer.send(client_frame(CLOSE, close_payload(1000)))
                assert (await peer.close_frame())[0] == 1000
            case 1:
                connection.close(NORMAL)
                assert (await peer.close_frame())[0] == 1000
            case 2:
                await peer.send(client_frame(TEXT, b"x", mask=None))
                assert (await peer.close_frame())[0] == 1002
            case 3:
                connection.cut()
            case 4:
                await peer.send(client_frame(TEXT, b"x" * 100)[:50])
            case 5:
                connection.pause_reading()
            case 6:
                connection.send(build_text(bytes(300_000)))
        await peer.leave()

    for _ in range(3):
        async with trio.open_nursery() as storm:
            for number in range(64):
                storm.start_soon(one, number)
        endpoint.recordings.clear()
        connections.clear()
        site.peers.clear()
        site.streams.clear()
    await trio.sleep(20)
    await wait_all_tasks_blocked()
    gc.collect()
    assert len(site.connections) == 0
    assert site.connections.statistics().opened == 168
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert descriptors() == files
    assert [each for each in watched if each() is not None] == []
    assert (site.watch._ticks, site.watch._buckets, site.watch.blocked) == ({}, {}, set())
    assert site.flusher.asking == []


@pytest.mark.skipif(sys.platform != "linux", reason="what /proc says is needed")
@needs_epoll
async def test_a_thousand_connections_that_came_and_went_leave_the_memory_as_it_was(start_site: StartSite) -> None:
    site = await start_site("hub")

    def resident_kb() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    async def storm() -> None:
        for _ in range(10):
            peers = [await site.connect() for _ in range(100)]
            for peer in peers:
                await peer.leave()
            await site.emptied()
            site.endpoint.recordings.clear()
            site.peers.clear()
            site.streams.clear()

    await storm()
    before = resident_kb()
    await storm()
    assert resident_kb() - before < 1_000  # 1 KB each; one that stayed would be 5
