"""Readers that are slow, peers that are silent, writes that are interrupted."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from catfish.config import Settings
from catfish.errors import SLOW_CONSUMER_BYTES, SLOW_CONSUMER_TIME
from catfish.net.endpoint import CONNECTION_LOST
from catfish.net.outbox import FRAME_COST
from catfish.wire.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, build_binary, build_text
from tests.net.harness import EACH_DRIVER, HANDSHAKE, HUB, Peer, RecordingEndpoint, Site, StartSite
from tests.net.test_connection import echo
from tests.wire.peer import client_frame

UNBUFFERED = pytest.mark.parametrize("driver", [HUB, "lockstep"])
"""Drivers where a peer that does not read is noticed: a memory stream takes everything."""

KERNEL_BYTES_MAX = 200_000
"""More than a socket pair takes before its peer reads."""


@UNBUFFERED
async def test_a_reader_that_stops_is_disconnected_when_too_much_waits_and_the_others_go_on(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = await start_site(driver, outbox_bytes_max=300_000)
    reader, sleeper = await site.connect(), await site.connect()
    healthy, slow = site.endpoint.recordings
    frame = build_binary(bytes(10_000))
    most_waiting = 0
    for number in range(200):
        for recording in site.endpoint.recordings:
            recording.connection.send(frame)
        assert await reader.frame() == (BINARY, bytes(10_000)), number
        most_waiting = max(most_waiting, slow.connection.bytes_waiting)
    assert 200_000 < most_waiting <= 300_000
    assert slow.closes == [SLOW_CONSUMER_BYTES]
    assert healthy.closes == []
    assert slow.connection.bytes_waiting <= 10_100  # what waited was forgotten at once
    assert "too many bytes waiting" in caplog.text
    # Whoever wakes up finds whole frames, and then why.
    while (frame_read := await sleeper.frame()) == (BINARY, bytes(10_000)):
        pass
    assert frame_read == (CLOSE, (4001).to_bytes(2, "big") + b"slow consumer: too many bytes waiting")


@UNBUFFERED
async def test_tiny_frames_count_for_what_they_cost(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_bytes_max=100_000)
    await site.connect()
    recording = site.endpoint.recording
    recording.connection.send(build_binary(bytes(KERNEL_BYTES_MAX)))  # alone it may be longer than the limit
    await wait_all_tasks_blocked()
    sent = 0
    while recording.connection.is_open:
        recording.connection.send(build_text(b"x"))
        sent += 1
        if sent % 100 == 0:
            await wait_all_tasks_blocked()
        assert sent < 100_000 / FRAME_COST + 100


@EACH_DRIVER
async def test_one_message_may_be_longer_than_the_limit(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_bytes_max=10_000)
    peer = await site.connect()
    message = bytes(range(256)) * 4_000
    for _ in range(2):
        site.endpoint.recording.connection.send(build_binary(message))
        assert await peer.frame() == (BINARY, message)


@UNBUFFERED
async def test_a_reader_that_takes_nothing_for_too_long_is_disconnected(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_age_s_max=10, heartbeat_s=1, heartbeat_timeout_s=2)
    await site.connect()
    recording = site.endpoint.recording
    started = trio.current_time()
    recording.connection.send(build_binary(bytes(KERNEL_BYTES_MAX)))
    with trio.fail_after(30):
        await recording.was_closed.wait()
    assert recording.closes == [SLOW_CONSUMER_TIME]  # and not the heartbeat, whose ping would only wait behind
    assert trio.current_time() - started == pytest.approx(10, abs=1.2)


@UNBUFFERED
async def test_a_reader_that_takes_a_little_at_a_time_is_not_too_slow(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_age_s_max=10, heartbeat_s=1000)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.send(build_binary(bytes(KERNEL_BYTES_MAX * 2)))
    taken = 0
    while taken < KERNEL_BYTES_MAX * 2 + 10:
        await trio.sleep(8)
        data = await peer.stream.receive_some(70_000)
        assert data
        taken += len(data)
    await wait_all_tasks_blocked()
    assert recording.closes == []
    assert recording.connection.bytes_waiting == 0
    recording.connection.send(build_text(b"and on"))
    assert await peer.frame() == (TEXT, b"and on")
    await trio.sleep(30)  # nothing waits, so nothing is too old
    assert recording.closes == []


@UNBUFFERED
async def test_pings_of_a_peer_that_does_not_read_pile_up_to_one_pong(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_bytes_max=KERNEL_BYTES_MAX * 2)
    peer = await site.connect()
    connection = site.endpoint.recording.connection
    connection.send(build_binary(bytes(KERNEL_BYTES_MAX)))
    await wait_all_tasks_blocked()
    for number in range(2_000):
        await peer.send(client_frame(PING, b"%d" % number))
    await wait_all_tasks_blocked()
    assert connection.bytes_waiting < KERNEL_BYTES_MAX + 100
    assert await peer.frame() == (BINARY, bytes(KERNEL_BYTES_MAX))
    pongs = [await peer.frame()]
    while pongs[-1] != (PONG, b"1999"):
        pongs.append(await peer.frame())
    assert len(pongs) <= 3


@EACH_DRIVER
async def test_a_silent_peer_is_pinged_and_lives_while_it_answers(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, heartbeat_s=20, heartbeat_timeout_s=10)
    peer = await site.connect()
    for _ in range(4):
        started = trio.current_time()
        assert await peer.frame() == (PING, b"")
        assert trio.current_time() - started == pytest.approx(20, abs=1.1)
        await peer.send(client_frame(PONG))
    assert site.endpoint.recording.closes == []


@EACH_DRIVER
async def test_a_peer_that_does_not_answer_a_ping_is_disconnected(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, heartbeat_s=20, heartbeat_timeout_s=10)
    peer = await site.connect()
    assert await peer.frame() == (PING, b"")
    started = trio.current_time()
    assert await peer.close_frame() == (4000, "heartbeat timeout")
    assert trio.current_time() - started == pytest.approx(10, abs=1.1)
    assert [close.code for close in site.endpoint.recording.closes] == [4000]


@EACH_DRIVER
async def test_a_peer_that_talks_is_not_pinged_and_any_byte_answers_a_ping(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo), heartbeat_s=20, heartbeat_timeout_s=10)
    peer = await site.connect()
    for _ in range(10):
        await trio.sleep(15)
        await peer.send(client_frame(TEXT, b"x"))
        assert await peer.frame() == (TEXT, b"x")
    assert await peer.frame() == (PING, b"")
    long = client_frame(TEXT, b"slowly but surely")
    for byte in long:
        await peer.send(bytes((byte,)))
        await trio.sleep(9)
    assert await peer.frame() == (TEXT, b"slowly but surely")


@EACH_DRIVER
async def test_there_are_no_pings_where_the_endpoint_has_its_own_or_while_reading_is_paused(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    endpoint = RecordingEndpoint()
    site = await start_site(driver, endpoint, heartbeat_s=20, heartbeat_timeout_s=10)
    paused = await site.connect()
    endpoint.recording.connection.pause_reading()
    endpoint.heartbeat = False
    unwatched = await site.connect()
    for peer in (paused, unwatched):
        with trio.move_on_after(200) as scope:
            await peer.frame()
        assert scope.cancelled_caught
    assert [recording.closes for recording in endpoint.recordings] == [[], []]
    endpoint.recordings[0].connection.resume_reading()
    started = trio.current_time()
    assert await paused.frame() == (PING, b"")
    assert trio.current_time() - started >= 20  # the silence until now was ours


async def test_a_write_that_was_cancelled_half_way_is_the_last(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ours, theirs = lockstep_stream_pair()
    peer = Peer(theirs)
    async with trio.open_nursery() as inner:
        site = Site(inner, "lockstep", RecordingEndpoint(), Settings(close_timeout_s=3))
        await site.start()
        inner.start_soon(site.gate.admit, ours, "192.0.2.1:1234")
        await peer.send(HANDSHAKE + b"\r\n")
        await peer.reads_answer()
        connection = site.endpoint.recording.connection
        message = build_binary(b"a" * 200_000)
        connection.send(message)
        connection.send(build_text(b"never"))
        received = bytes(await theirs.receive_some(500))
        inner.cancel_scope.cancel()
    received += await peer.rest()
    assert received == message[: len(received)]
    assert len(received) < len(message)
    assert site.endpoint.recording.closes == [CONNECTION_LOST]
    await site.close()


@UNBUFFERED
async def test_a_connection_that_is_cut_half_way_through_a_frame_sends_nothing_more(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_age_s_max=1000, close_timeout_s=3, outbox_bytes_max=10_000_000)
    peer = await site.connect()
    connection = site.endpoint.recording.connection
    message = build_binary(b"a" * KERNEL_BYTES_MAX * 2)
    connection.send(message)
    await wait_all_tasks_blocked()
    site.gate.stopping = True
    assert await site.connections.drain(SLOW_CONSUMER_TIME, 1) == 1
    received = await peer.rest()
    assert len(received) < len(message)
    assert received == message[: len(received)]


async def test_a_stream_that_fails_half_way_gets_no_further_byte(
    start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site("memory")
    ours, theirs = trio.testing.memory_stream_pair()
    written: list[bytes] = []
    real = ours.send_stream.send_all

    async def send_all(data: bytes | bytearray | memoryview) -> None:
        written.append(bytes(data))
        if len(written) == 2:
            await real(bytes(data)[:3])
            raise trio.BrokenResourceError("cable was pulled")
        await real(data)

    ours.send_stream.send_all = send_all  # type: ignore[method-assign]
    site.nursery.start_soon(site.gate.admit, ours, "192.0.2.1:1234")
    peer = Peer(theirs)
    await peer.send(HANDSHAKE + b"\r\n")
    await peer.reads_answer()
    recording = site.endpoint.recording
    recording.connection.send(build_text(b"one"))
    await wait_all_tasks_blocked()
    recording.connection.send(build_text(b"two"))
    assert recording.closes == [CONNECTION_LOST]
    assert len(written) == 2
    assert await peer.rest() == build_text(b"one")[:3]
