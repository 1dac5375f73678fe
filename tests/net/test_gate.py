"""Request heads, routes, and refusals that the client gets to see."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.net.gate import LINGER_S
from catfish.wire.http import HttpRefusal
from catfish.wire.websocket.frames import BINARY
from tests.net.harness import BUFFERED_DRIVERS, EACH_DRIVER, HANDSHAKE, Peer, Recording, RecordingEndpoint, StartSite
from tests.wire.peer import bytewise, client_frame

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer_of(peer: Peer) -> str:
    """The whole answer, up to the end of file."""
    text = (await peer.rest()).decode()
    head, _, body = text.partition("\r\n\r\n")
    assert "Connection: close" in head
    assert body.endswith("\n")
    return text


@EACH_DRIVER
async def test_a_head_may_come_in_pieces(driver: str, start_site: StartSite, autojump_clock: MockClock) -> None:
    site = await start_site(driver)
    peer = await site.dial()
    for piece in bytewise(HANDSHAKE + b"\r\n"):
        await peer.send(piece)
    assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")


@EACH_DRIVER
async def test_a_head_that_is_not_complete_in_time_is_answered_408(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, request_head_timeout_s=10)
    peer = await site.dial()
    started = trio.current_time()

    async def drip() -> None:
        for piece in bytewise(HANDSHAKE):
            await peer.send(piece)
            await trio.sleep(1)

    with trio.CancelScope() as dripping:
        async with trio.open_nursery() as inner:
            inner.start_soon(drip)
            answer = (await peer.stream.receive_some(65_536)).decode()
            assert answer.startswith("HTTP/1.1 408 ")
            assert trio.current_time() == started + 10
            dripping.cancel()
    assert site.endpoint.recordings == []


@EACH_DRIVER
async def test_a_peer_that_says_nothing_is_answered_408_and_left(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, request_head_timeout_s=10)
    peer = await site.dial()
    started = trio.current_time()
    assert (await answer_of(peer)).startswith("HTTP/1.1 408 ")
    assert trio.current_time() == started + 10 + (LINGER_S if driver == "tls" else 0)


@EACH_DRIVER
async def test_a_head_that_is_too_long_is_answered_431(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver, request_head_bytes_max=1_000)
    endless, long = await site.dial(), await site.dial()
    nursery.start_soon(endless.send, HANDSHAKE + b"X: " + b"x" * 20_000)
    nursery.start_soon(long.send, HANDSHAKE + b"X: " + b"x" * 1_000 + b"\r\n\r\n")
    assert (await answer_of(endless)).startswith("HTTP/1.1 431 ")
    assert (await answer_of(long)).startswith("HTTP/1.1 431 ")


@EACH_DRIVER
async def test_a_head_of_exactly_the_limit_is_fine_whatever_follows_it(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    head = HANDSHAKE + b"X: x\r\n\r\n"
    site = await start_site(driver, request_head_bytes_max=len(head))
    peer = await site.dial()
    await peer.send(head + client_frame(BINARY, bytes(5_000)))
    assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")
    await wait_all_tasks_blocked()
    assert site.endpoint.recording.messages == [bytes(5_000)]


@EACH_DRIVER
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"HELLO\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (HANDSHAKE.replace(b"GET", b"POST") + b"\r\n", 405),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 426),
        (HANDSHAKE.replace(b"dGhl", b"dG!l") + b"\r\n", 400),
    ],
)
async def test_bad_requests_get_the_right_status(
    driver: str, request_bytes: bytes, status: int, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.dial()
    await peer.send(request_bytes)
    assert (await answer_of(peer)).startswith(f"HTTP/1.1 {status} ")
    assert site.endpoint.recordings == []


@EACH_DRIVER
async def test_half_a_request_is_answered_400_and_none_not_at_all(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    half, none = await site.dial(), await site.dial()
    await half.send(HANDSHAKE)
    for peer in (half, none):
        if driver == "tls":
            await peer.leave()
        else:
            await peer.end()
    if driver != "tls":
        assert (await answer_of(half)).startswith("HTTP/1.1 400 ")
        assert await none.rest() == b""


@EACH_DRIVER
async def test_an_endpoint_may_refuse_before_and_while_it_opens(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    def refuse(recording: Recording) -> None:
        recording.connection.send(b"never sent")
        raise HttpRefusal(403, "No room for you.")

    endpoint = RecordingEndpoint(refuse)
    site = await start_site(driver, endpoint)
    peer = await site.dial()
    await peer.send(HANDSHAKE + b"\r\n")
    assert (await answer_of(peer)).endswith("\r\n\r\nNo room for you.\n")
    endpoint.refusal = HttpRefusal(403, "Not from there.")
    peer = await site.dial()
    await peer.send(HANDSHAKE + b"\r\n")
    assert (await answer_of(peer)).endswith("\r\n\r\nNot from there.\n")
    assert [recording.closes for recording in endpoint.recordings] == [[]]
    assert len(site.connections) == 0


@EACH_DRIVER
async def test_a_fault_in_an_endpoint_is_logged_and_answered_500(
    driver: str, start_site: StartSite, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = RecordingEndpoint()
    endpoint.refusal = RuntimeError("on purpose")
    site = await start_site(driver, endpoint)
    peer = await site.dial()
    await peer.send(HANDSHAKE + b"\r\n")
    answer = await answer_of(peer)
    assert answer.startswith("HTTP/1.1 500 ")
    assert "on purpose" not in answer
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("driver", BUFFERED_DRIVERS)
async def test_a_refused_peer_that_goes_on_sending_reads_why(
    driver: str, start_site: StartSite, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.dial()
    nursery.start_soon(peer.send, b"NONSENSE\r\n\r\n" + bytes(500_000))
    await wait_all_tasks_blocked()  # it could send everything, for somebody read it
    assert (await answer_of(peer)).startswith("HTTP/1.1 400 ")


@EACH_DRIVER
async def test_other_requests_go_to_the_http_handler_from_their_first_byte(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    elsewhere = HANDSHAKE.replace(b"/somewhere", b"/elsewhere") + b"\r\n"
    for request in (GET, elsewhere):
        peer = await site.dial()
        await peer.send(request)
        assert (await answer_of(peer)).startswith("HTTP/1.1 404 ")
    assert site.http_requests == [GET, elsewhere]
    assert site.endpoint.recordings == []


@EACH_DRIVER
async def test_when_the_server_is_about_to_stop_handshakes_are_refused_and_http_goes_on(
    driver: str, start_site: StartSite, autojump_clock: MockClock
) -> None:
    site = await start_site(driver)
    peer = await site.dial()
    site.gate.stopping = True
    await peer.send(HANDSHAKE + b"\r\n")
    answer = await answer_of(peer)
    assert answer.startswith("HTTP/1.1 503 ")
    assert "Retry-After: " in answer
    peer = await site.dial()
    await peer.send(GET)
    assert (await answer_of(peer)).startswith("HTTP/1.1 404 ")
