"""What every connection does, whichever driver moves its bytes: messages, pings, pauses, and its own task."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import GOING_AWAY, NORMAL, POLICY_VIOLATION, Close, PeerError
from catfish.net.endpoint import CONNECTION_LOST
from catfish.net.outgoing import Outgoing
from catfish.wire.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, build_text
from tests.net.harness import (
    BUFFERED_DRIVERS,
    EACH_DRIVER,
    HANDSHAKE,
    OFFER_DEFLATE,
    Recording,
    RecordingEndpoint,
    StartSite,
)
from tests.wire.peer import bytewise, client_frame, deflated

RSV1 = 0x40


def echo(recording: Recording) -> None:
    def answer(message: str | bytes) -> None:
        if isinstance(message, str):
            recording.connection.send(Outgoing(message.encode(), TEXT, 1024).plain)
        else:
            recording.connection.send(Outgoing(message, BINARY, 1024).plain)

    recording.on_message = answer


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


@EACH_DRIVER
async def test_text_arrives_as_str_and_binary_as_bytes(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    await peer.send(client_frame(TEXT, "grüß dich".encode()))
    assert await peer.frame() == (TEXT, "grüß dich".encode())
    await peer.send(client_frame(BINARY, b"\x00\xff"))
    assert await peer.frame() == (BINARY, b"\x00\xff")
    assert site.endpoint.recording.messages == ["grüß dich", b"\x00\xff"]


@EACH_DRIVER
async def test_messages_keep_their_order_however_they_are_cut(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    texts = [f"message {number} ".encode() * number for number in range(12)]
    data = b"".join(client_frame(TEXT, text) for text in texts)
    await peer.send(data)
    assert [await peer.frame() for _ in texts] == [(TEXT, text) for text in texts]
    for piece in bytewise(data):
        await peer.send(piece)
    assert [await peer.frame() for _ in texts] == [(TEXT, text) for text in texts]


@EACH_DRIVER
async def test_what_comes_with_the_handshake_is_received_and_what_is_sent_in_open_follows_the_answer(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    def prepare(recording: Recording) -> None:
        recording.connection.send(build_text(b"welcome"))
        echo(recording)

    site = await start_site(driver, RecordingEndpoint(prepare))
    peer = await site.dial()
    await peer.send(HANDSHAKE + b"\r\n" + client_frame(TEXT, b"impatient") + client_frame(TEXT, b"cut")[:3])
    assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")
    assert await peer.frame() == (TEXT, b"welcome")
    assert await peer.frame() == (TEXT, b"impatient")
    await peer.send(client_frame(TEXT, b"cut")[3:])
    assert await peer.frame() == (TEXT, b"cut")


@EACH_DRIVER
async def test_a_connection_knows_what_was_negotiated(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    await site.connect()
    plain = site.endpoint.recording.connection
    assert (plain.subprotocol, plain.compresses, plain.peer) == (None, False, "192.0.2.1:1234")
    peer = await site.connect(b"Sec-WebSocket-Protocol: three, two\r\n" + OFFER_DEFLATE)
    connection = site.endpoint.recording.connection
    assert (connection.subprotocol, connection.compresses) == ("two", True)
    assert connection.head.path == "/somewhere"
    assert connection.id != plain.id
    outgoing = Outgoing(b"again and " * 200, TEXT, 100)
    connection.send(outgoing.frame(connection.compresses))
    assert await peer.frame() == (
        TEXT | RSV1,
        outgoing.deflated[4:] if outgoing.deflated[1] == 126 else outgoing.deflated[2:],
    )
    await peer.send(client_frame(TEXT, deflated(b"squeezed"), rsv=4))
    await wait_all_tasks_blocked()
    assert site.endpoint.recording.messages == ["squeezed"]


@EACH_DRIVER
async def test_frames_sent_outside_a_pass_are_written_soon(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peers = [await site.connect() for _ in range(3)]
    frame = build_text(b"news")
    for recording in site.endpoint.recordings:
        recording.connection.send(frame)
        recording.connection.send(frame)
    for peer in peers:
        assert [await peer.frame(), await peer.frame()] == [(TEXT, b"news")] * 2


@EACH_DRIVER
async def test_every_ping_of_a_reader_is_answered_in_order(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    for number in range(4):
        await peer.send(client_frame(PING, b"%d" % number))
        assert await peer.frame() == (PONG, b"%d" % number)
    await peer.send(client_frame(TEXT, b"a") + client_frame(PING, b"b") + client_frame(PONG, b"c"))
    assert [await peer.frame(), await peer.frame()] == [(TEXT, b"a"), (PONG, b"b")]
    assert site.endpoint.recording.messages == ["a"]


@EACH_DRIVER
async def test_nothing_is_received_between_pause_and_resume(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    connection = recording.connection
    recording.on_message = lambda message: connection.pause_reading()
    nursery.start_soon(peer.send, b"".join(client_frame(TEXT, text) for text in (b"1", b"2", b"3")))
    await wait_all_tasks_blocked()
    assert recording.messages == ["1"]
    connection.resume_reading()
    assert recording.messages == ["1"]  # never from inside
    await wait_all_tasks_blocked()
    assert recording.messages == ["1", "2"]
    recording.on_message = lambda message: None
    nursery.start_soon(peer.send, client_frame(TEXT, b"4"))
    await wait_all_tasks_blocked()
    assert recording.messages == ["1", "2"]
    connection.resume_reading()
    connection.resume_reading()
    await wait_all_tasks_blocked()
    assert recording.messages == ["1", "2", "3", "4"]
    await peer.send(client_frame(TEXT, b"5"))
    await wait_all_tasks_blocked()
    assert recording.messages == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("driver", BUFFERED_DRIVERS)
async def test_a_paused_connection_reads_no_more_than_one_turn(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, read_bytes_per_turn=1000)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.pause_reading()
    nursery.start_soon(peer.send, client_frame(BINARY, bytes(500)) * 100)
    await wait_all_tasks_blocked()
    assert recording.messages == []
    assert len(recording.connection._held) <= 2
    recording.connection.resume_reading()
    await wait_all_tasks_blocked()
    assert len(recording.messages) == 100


@pytest.mark.parametrize("driver", BUFFERED_DRIVERS)
async def test_what_came_before_the_end_of_file_is_received_after_a_pause(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    connection = recording.connection
    recording.on_message = lambda message: connection.pause_reading()
    await peer.send(client_frame(TEXT, b"1") + client_frame(TEXT, b"2"))
    await peer.leave()
    await wait_all_tasks_blocked()
    recording.on_message = lambda message: None
    connection.resume_reading()
    await wait_all_tasks_blocked()
    assert recording.messages[0] == "1"
    if driver != "hub":  # there the reset of a socket pair may overtake what waits
        assert recording.messages == ["1", "2"]
    assert recording.closes == [CONNECTION_LOST]


@EACH_DRIVER
async def test_a_close_frame_waits_behind_the_messages_of_a_pause(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    connection = recording.connection
    recording.on_message = lambda message: connection.pause_reading()
    await peer.send(
        client_frame(TEXT, b"1") + client_frame(TEXT, b"2") + client_frame(CLOSE, close_payload(1000, "done"))
    )
    await wait_all_tasks_blocked()
    assert (recording.messages, recording.closes) == (["1"], [])
    recording.on_message = lambda message: None
    connection.resume_reading()
    assert await peer.close_frame() == (1000, "done")
    assert (recording.messages, recording.closes) == (["1", "2"], [Close(1000, "done", False)])
    assert await peer.rest() == b""


@EACH_DRIVER
async def test_a_paused_connection_can_be_closed_and_the_close_frame_that_it_held_is_honoured(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.on_message = lambda message: recording.connection.pause_reading()
    await peer.send(client_frame(TEXT, b"1") + client_frame(TEXT, b"2") + client_frame(CLOSE, close_payload(1001)))
    await wait_all_tasks_blocked()
    started = trio.current_time()
    recording.connection.close(NORMAL)
    assert await peer.close_frame() == (1000, "bye")
    assert await peer.rest() == b""
    assert trio.current_time() == started  # and not only after the timeout
    assert (recording.messages, recording.closes) == (["1"], [NORMAL])


@EACH_DRIVER
async def test_a_receiver_that_raises_ends_its_own_connection_only(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    other = await site.connect()
    peer = await site.connect()
    recording = site.endpoint.recording

    def fail(message: str | bytes) -> None:
        raise RuntimeError("on purpose")

    recording.on_message = fail
    await peer.send(client_frame(TEXT, b"1") + client_frame(TEXT, b"2"))
    code, _ = await peer.close_frame()
    assert code == 1011
    assert recording.messages == ["1"]
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "on purpose" in caplog.text
    await peer.send(client_frame(CLOSE, close_payload(1011)))
    assert await peer.rest() == b""
    assert [close.code for close in recording.closes] == [1011]
    await other.send(client_frame(TEXT, b"still here"))
    assert await other.frame() == (TEXT, b"still here")


@EACH_DRIVER
async def test_a_peer_error_of_the_receiver_closes_with_its_code(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(driver)
    peer = await site.connect()

    def refuse(message: str | bytes) -> None:
        raise PeerError(POLICY_VIOLATION, "not like this")

    site.endpoint.recording.on_message = refuse
    await peer.send(client_frame(TEXT, b"1"))
    assert await peer.close_frame() == (1008, "not like this")
    assert site.endpoint.recording.closes == [Close(1008, "not like this", False)]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@EACH_DRIVER
async def test_a_receiver_that_raises_while_closing_is_logged_and_the_connection_ends(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(driver)
    peer = await site.connect()

    def fail(close: Close) -> None:
        raise RuntimeError("on purpose")

    site.endpoint.recording.on_closed = fail
    await peer.send(client_frame(CLOSE, close_payload(1000)))
    assert await peer.close_frame() == (1000, "")
    assert await peer.rest() == b""
    assert "on purpose" in caplog.text
    await wait_all_tasks_blocked()
    assert len(site.connections) == 0


@EACH_DRIVER
@pytest.mark.parametrize("where", ["run", "nursery"])
async def test_a_task_that_raises_closes_with_1011(
    driver: str, where: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    go = trio.Event()

    async def fail() -> None:
        await go.wait()
        raise RuntimeError("on purpose")

    async def work(recording: Recording) -> None:
        if where == "run":
            await fail()
        assert recording.connection.nursery is not None
        recording.connection.nursery.start_soon(fail)

    def prepare(recording: Recording) -> None:
        recording.work = partial(work, recording)

    site = await start_site(driver, RecordingEndpoint(prepare))
    peer = await site.connect()
    go.set()
    assert (await peer.close_frame())[0] == 1011
    await peer.send(client_frame(CLOSE, close_payload(1011)))
    assert await peer.rest() == b""
    assert "on purpose" in caplog.text
    assert [close.code for close in site.endpoint.recording.closes] == [1011]


@EACH_DRIVER
async def test_a_peer_error_of_a_task_closes_with_its_code(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise PeerError(POLICY_VIOLATION)

    def prepare(recording: Recording) -> None:
        recording.work = work

    site = await start_site(driver, RecordingEndpoint(prepare))
    peer = await site.connect()
    assert (await peer.close_frame())[0] == 1008
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@EACH_DRIVER
async def test_a_task_that_does_not_end_after_closed_is_cancelled_at_the_close_timeout(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    ended_at: list[float] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended_at.append(trio.current_time())

    def prepare(recording: Recording) -> None:
        recording.work = work

    site = await start_site(driver, RecordingEndpoint(prepare), close_timeout_s=3)
    peer = await site.connect()
    await wait_all_tasks_blocked()
    started = trio.current_time()
    await peer.send(client_frame(CLOSE, close_payload(1000)))
    assert (await peer.close_frame())[0] == 1000
    assert await peer.rest() == b""
    assert trio.current_time() == started  # the peer does not wait for it
    assert ended_at == []
    await trio.sleep(4)
    assert ended_at == [started + 3]
    assert len(site.connections) == 0


@EACH_DRIVER
async def test_a_task_may_end_early_and_the_connection_goes_on(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    await wait_all_tasks_blocked()
    assert site.endpoint.recording.run_ended
    await peer.send(client_frame(TEXT, b"on"))
    assert await peer.frame() == (TEXT, b"on")


@EACH_DRIVER
async def test_closed_is_never_called_from_inside_send_or_close(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, outbox_bytes_max=1000)
    for _ in range(2):
        await site.connect()
    first, second = site.endpoint.recordings
    second.connection.close(GOING_AWAY)
    for _ in range(300):
        first.connection.send(build_text(bytes(100_000)))
    assert not second.connection.is_open
    assert (first.closes, second.closes) == ([], [])
    await wait_all_tasks_blocked()
    assert second.closes == [GOING_AWAY]
    assert [close.code for close in first.closes] == [4001]
