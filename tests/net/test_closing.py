"""How connections end: close handshakes, failures, losses, and that nobody is left waiting."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.config import Settings
from catfish.errors import GOING_AWAY, NORMAL, SERVICE_RESTART, Close
from catfish.net.endpoint import CONNECTION_LOST, NO_STATUS
from catfish.net.plain_stream import PlainStream
from catfish.net.states import MOVES, READING, Event, State
from catfish.net.stream_driver import LINGER_S
from catfish.wire.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, build_text
from tests.net.harness import BUFFERED_DRIVERS, EACH_DRIVER, HANDSHAKE, HUB, Peer, RecordingEndpoint, Site, StartSite
from tests.net.test_connection import close_payload, echo
from tests.wire.peer import client_frame


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_event_has_its_place_in_every_state(state: State, event: Event) -> None:
    after = MOVES[state, event]
    if state is State.CLOSED or event is Event.LOST:
        assert after is State.CLOSED  # the end is final, and a loss is always the end
    else:
        assert after is not State.OPEN or (state, event) == (State.OPEN, Event.FLUSHED)  # nothing opens again


def test_every_state_leads_to_the_end_without_a_timeout_if_the_peer_does_its_part() -> None:
    for state in State:
        reached = {state}
        while True:
            further = {MOVES[each, event] for each in reached for event in Event if event is not Event.LOST} | reached
            if further == reached:
                break
            reached = further
        assert State.CLOSED in reached
    assert State.ANSWERING not in READING  # a socket at its end of file is readable for ever
    assert State.CLOSED not in READING


@EACH_DRIVER
async def test_our_close_says_why_and_waits_for_the_peer(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.send(build_text(b"last words"))
    recording.connection.close(SERVICE_RESTART)
    recording.connection.close(GOING_AWAY)  # no second close frame, and no change of mind
    recording.connection.send(build_text(b"too late"))
    assert await peer.frame() == (TEXT, b"last words")
    assert await peer.close_frame() == (1012, "server restarts")
    assert recording.closes == [SERVICE_RESTART]
    assert not recording.connection.is_open
    await peer.send(client_frame(TEXT, b"ignored") + client_frame(PING, b"ignored"))
    await peer.send(client_frame(CLOSE, close_payload(1012)))
    assert await peer.rest() == b""
    assert (recording.messages, recording.closes) == ([], [SERVICE_RESTART])
    await wait_all_tasks_blocked()
    assert len(site.connections) == 0
    assert site.connections.statistics().closes == {1012: 1}


@EACH_DRIVER
async def test_a_peer_that_does_not_answer_our_close_is_cut_at_the_timeout(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, close_timeout_s=3)
    peer = await site.connect()
    started = trio.current_time()
    site.endpoint.recording.connection.close(NORMAL)
    assert await peer.close_frame() == (1000, "bye")
    assert await peer.rest() == b""
    assert trio.current_time() == started + 3
    assert site.endpoint.recording.closes == [NORMAL]


@EACH_DRIVER
@pytest.mark.parametrize(
    ("payload", "close", "answer"),
    [
        (close_payload(1000, "done"), Close(1000, "done", False), close_payload(1000, "done")),
        (close_payload(4242), Close(4242, "", False), close_payload(4242)),
        (b"", NO_STATUS, b""),
    ],
)
async def test_the_peers_close_is_answered_with_its_own_code_and_the_socket_closed(
    driver: str, payload: bytes, close: Close, answer: bytes, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    started = trio.current_time()
    await peer.send(client_frame(TEXT, b"first") + client_frame(CLOSE, payload) + client_frame(TEXT, b"ignored"))
    assert await peer.frame() == (TEXT, b"first")
    assert await peer.frame() == (CLOSE, answer)
    assert await peer.rest() == b""
    assert trio.current_time() == started
    assert (site.endpoint.recording.messages, site.endpoint.recording.closes) == (["first"], [close])


@EACH_DRIVER
async def test_both_sides_may_close_at_once(driver: str, start_site: StartSite, autojump_clock: MockClock) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    started = trio.current_time()
    site.endpoint.recording.connection.close(GOING_AWAY)
    await peer.send(client_frame(CLOSE, close_payload(1000)))
    assert await peer.close_frame() == (1001, "server is going away")
    assert await peer.rest() == b""
    assert trio.current_time() == started
    assert site.endpoint.recording.closes == [GOING_AWAY]


@EACH_DRIVER
async def test_an_end_of_file_is_a_loss_and_what_was_queued_still_reaches_a_peer_that_reads_on(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, RecordingEndpoint(echo))
    peer = await site.connect()
    await peer.send(client_frame(TEXT, b"question") + client_frame(TEXT, b"cut")[:-1])
    await peer.end()
    if driver == "tls":
        await peer.leave()
    else:
        assert await peer.rest() == build_text(b"question")
    await wait_all_tasks_blocked()
    assert site.endpoint.recording.closes == [CONNECTION_LOST]
    assert site.endpoint.recording.messages == ["question"]
    assert len(site.connections) == 0


@EACH_DRIVER
async def test_a_peer_that_vanishes_is_a_loss(driver: str, start_site: StartSite, autojump_clock: MockClock) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    await peer.leave()
    await wait_all_tasks_blocked()
    recording = site.endpoint.recording
    assert recording.closes == [CONNECTION_LOST]
    recording.connection.send(build_text(b"nobody is there"))
    recording.connection.close(NORMAL)
    recording.connection.pause_reading()
    recording.connection.resume_reading()
    await wait_all_tasks_blocked()
    assert recording.closes == [CONNECTION_LOST]


@EACH_DRIVER
async def test_a_peer_that_vanishes_is_noticed_while_we_write(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    recording = site.endpoint.recording
    recording.connection.pause_reading()
    await peer.leave()
    for _ in range(3):
        recording.connection.send(build_text(b"anybody there?"))
        await wait_all_tasks_blocked()
    assert recording.closes == [CONNECTION_LOST]


async def test_a_reset_is_a_loss(start_site: StartSite) -> None:
    """On TCP, for a socket pair knows no reset."""
    site = await start_site("hub")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    site.nursery.start_soon(site.gate.admit, PlainStream(ours), "127.0.0.1:1")
    peer = Peer(PlainStream(theirs))
    await peer.send(HANDSHAKE + b"\r\n")
    await peer.reads_answer()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.leave()
    with trio.fail_after(10):
        await site.endpoint.recording.was_closed.wait()
    assert site.endpoint.recording.closes == [CONNECTION_LOST]


BAD_FRAMES = {
    "unmasked": (client_frame(TEXT, b"x", mask=None), 1002),
    "reserved bit": (client_frame(TEXT, b"x", rsv=2), 1002),
    "compressed without agreement": (client_frame(TEXT, b"x", rsv=4), 1002),
    "unknown opcode": (client_frame(3, b"x"), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, b"x"), 1002),
    "fragmented ping": (client_frame(PING, b"x", fin=False), 1002),
    "long ping": (client_frame(PING, bytes(126)), 1002),
    "close code that may not be sent": (client_frame(CLOSE, close_payload(1005)), 1002),
    "bad UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "bad UTF-8 in a fragment": (client_frame(TEXT, b"a\xff", fin=False), 1007),
    "too big": (client_frame(BINARY, bytes(100_001)), 1009),
    "too big, by its header alone": (client_frame(BINARY, b"", length=1 << 40, length_bytes=8), 1009),
    "too many fragments": (
        client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"a", fin=False) * 20,
        1009,
    ),
}


@EACH_DRIVER
@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_bad_frames_close_with_their_code(
    driver: str, case: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    data, code = BAD_FRAMES[case]
    site = await start_site(driver, RecordingEndpoint(echo), fragments_max=10)
    peer = await site.connect()
    started = trio.current_time()
    nursery.start_soon(peer.send, client_frame(TEXT, b"before") + data)
    assert await peer.frame() == (TEXT, b"before")
    assert (await peer.close_frame())[0] == code
    await wait_all_tasks_blocked()  # until everything was sent, and thrown away
    await peer.end()
    assert await peer.rest() == b""
    assert trio.current_time() <= started + (LINGER_S if driver == "tls" else 0)
    assert site.endpoint.recording.messages == ["before"]
    assert [close.code for close in site.endpoint.recording.closes] == [code]


@pytest.mark.parametrize("driver", BUFFERED_DRIVERS)
async def test_a_failed_peer_that_goes_on_sending_still_reads_why(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.connect()
    # More than fits into the buffers between us: it can be written to its end only if the server reads on.
    data = client_frame(TEXT, b"x", mask=None) + client_frame(BINARY, bytes(50_000)) * 20
    nursery.start_soon(peer.send, data)
    assert (await peer.close_frame())[0] == 1002
    await wait_all_tasks_blocked()
    assert site.endpoint.recording.messages == []


@EACH_DRIVER
async def test_a_failed_peer_that_never_leaves_is_cut_at_the_timeout(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, close_timeout_s=3)
    peer = await site.connect()
    started = trio.current_time()
    await peer.send(client_frame(TEXT, b"x", mask=None))
    assert (await peer.close_frame())[0] == 1002
    assert await peer.rest() == b""
    with trio.fail_after(10):
        await site.emptied()
    # Where there is a half-close, the peer saw our end at once and holds its own half open.
    assert trio.current_time() - started == pytest.approx(LINGER_S if driver == "tls" else 3, abs=0.2)


@EACH_DRIVER
async def test_draining_says_goodbye_to_all_and_cuts_who_stays(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, close_timeout_s=20)
    peers = [await site.connect() for _ in range(4)]
    started = trio.current_time()
    for connection in site.connections:
        connection.send(build_text(b"draining"))
    outcome: list[int] = []

    async def drain() -> None:
        outcome.append(await site.connections.drain(GOING_AWAY, 7))

    site.nursery.start_soon(drain)
    for peer in peers:
        assert await peer.frame() == (TEXT, b"draining")
        assert (await peer.close_frame())[0] == 1001
    for peer in peers[:3]:
        await peer.send(client_frame(CLOSE, close_payload(1001)))
        assert await peer.rest() == b""
    await wait_all_tasks_blocked()
    assert len(site.connections) == 1
    assert await peers[3].rest() == b""
    assert trio.current_time() == started + 7
    await wait_all_tasks_blocked()
    assert outcome == [1]
    assert len(site.connections) == 0
    assert [recording.closes for recording in site.endpoint.recordings] == [[GOING_AWAY]] * 4


@EACH_DRIVER
async def test_draining_nobody_is_done_at_once(driver: str, start_site: StartSite, autojump_clock: MockClock) -> None:
    site = await start_site(driver)
    started = trio.current_time()
    assert await site.connections.drain(GOING_AWAY, 10) == 0
    assert trio.current_time() == started


@pytest.mark.parametrize("driver", [HUB, "memory", "tls"])
async def test_when_the_server_is_cancelled_every_receiver_hears_it(driver: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, driver, RecordingEndpoint(), Settings())
        await site.start()
        peers = [await site.connect() for _ in range(3)]
        nursery.cancel_scope.cancel()
    for peer in peers:
        assert await peer.rest() == b""
    assert [recording.closes for recording in site.endpoint.recordings] == [[CONNECTION_LOST]] * 3
    await site.close()
