"""The rules that the protocol's own test suite checks, and the byte-level facts of the reference server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.engineio.world import SUITE, Echo, open_world

KEYS = ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]


async def test_polling_opens_a_session_with_exactly_these_keys() -> None:
    async with open_world(**SUITE) as world:
        response = await world.get()
        assert response.status == 200
        assert response.headers["content-type"] == "text/plain; charset=UTF-8"
        assert response.text[0] == "0"
        handshake = json.loads(response.text[1:])
        assert list(handshake) == KEYS
        assert isinstance(handshake["sid"], str)
        assert [handshake[key] for key in KEYS[1:]] == [["websocket"], 300, 200, 1_000_000]


async def test_a_websocket_opens_a_session_that_has_nothing_to_upgrade_to() -> None:
    async with open_world(**SUITE) as world:
        opened = await (await world.websocket()).receive()
        assert isinstance(opened, str)
        handshake = json.loads(opened[1:])
        assert list(handshake) == KEYS
        assert [handshake[key] for key in KEYS[1:]] == [[], 300, 200, 1_000_000]


UNKNOWN_TRANSPORT = {"code": 0, "message": "Transport unknown"}
UNKNOWN_SID = {"code": 1, "message": "Session ID unknown"}
BAD_METHOD = {"code": 2, "message": "Bad handshake method"}
BAD_REQUEST = {"code": 3, "message": "Bad request"}
FORBIDDEN = {"code": 4, "message": "Forbidden"}
UNSUPPORTED = {"code": 5, "message": "Unsupported protocol version"}


@pytest.mark.parametrize(
    ("method", "query", "error"),
    [
        ("GET", {"EIO": None}, UNSUPPORTED),
        ("GET", {"EIO": "abc"}, UNSUPPORTED),
        ("GET", {"EIO": "3"}, UNSUPPORTED),
        ("GET", {"transport": None}, UNKNOWN_TRANSPORT),
        ("GET", {"transport": "abc"}, UNKNOWN_TRANSPORT),
        ("GET", {"transport": "constructor"}, UNKNOWN_TRANSPORT),
        ("GET", {"transport": "websocket"}, BAD_REQUEST),
        ("POST", {}, BAD_METHOD),
        ("PUT", {}, BAD_METHOD),
        ("OPTIONS", {}, BAD_METHOD),
        ("GET", {"sid": "nobody"}, UNKNOWN_SID),
        ("POST", {"sid": "nobody"}, UNKNOWN_SID),
        ("GET", {"sid": "__proto__", "EIO": "3"}, UNKNOWN_SID),
    ],
)
async def test_a_bad_request_is_refused_in_the_words_of_the_protocol(
    method: str, query: dict[str, Any], error: dict[str, Any]
) -> None:
    async with open_world() as world:
        response = await world.request(method, **query).response()
        assert (response.status, response.json) == (400, error)
        assert response.headers["content-type"] == "application/json"
        assert not world.engine.sessions


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"EIO": None}, UNSUPPORTED),
        ({"EIO": "abc"}, UNSUPPORTED),
        ({"transport": None}, UNKNOWN_TRANSPORT),
        ({"transport": "abc"}, UNKNOWN_TRANSPORT),
        ({"transport": "polling"}, BAD_REQUEST),
        ({"sid": "nobody"}, UNKNOWN_SID),
    ],
)
async def test_a_bad_upgrade_is_refused_in_the_words_of_the_protocol(
    query: dict[str, Any], error: dict[str, Any]
) -> None:
    async with open_world() as world:
        status, body, _ = await world.upgrade(**query)
        assert (status, json.loads(body)) == (400, error)


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", {"transport": "websocket"}),
        ("GET", {"EIO": "3"}),
        ("PUT", {}),
        ("DELETE", {}),
    ],
)
async def test_a_request_that_does_not_fit_its_session_is_refused_and_changes_nothing(
    method: str, query: dict[str, Any]
) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        response = await world.request(method, sid=sid, **query).response()
        assert (response.status, response.json) == (400, BAD_REQUEST)
        assert (await world.post("4still here", sid=sid)).text == "ok"


@pytest.mark.parametrize("body", ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA==", "4", "4é€😀"])
async def test_messages_are_posted_and_polled(body: str) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        pushed = await world.post(body, sid=sid)
        assert (pushed.status, pushed.text) == (200, "ok")
        polled = await world.get(sid=sid)
        assert (polled.status, polled.text) == (200, body)


async def test_a_poll_waits_until_there_is_something() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        assert not poll.answered
        await world.post("4a\x1e4b", sid=sid)
        assert (await poll.response()).text == "4a\x1e4b"


async def test_messages_travel_over_a_websocket() -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        await websocket.send("4hello", b"\1\2\3\4", "bAQID", "4")
        assert [await websocket.receive() for _ in range(4)] == ["4hello", b"\1\2\3\4", b"\1\2\3", "4"]


@pytest.mark.parametrize("body", ["abc", "", "4a\x1e", "7", "b!", b"4\xff"])
async def test_a_payload_that_is_wrong_closes_the_session(body: str | bytes) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        echo = world.engine.sessions[sid].receiver
        assert isinstance(echo, Echo)
        response = await world.post(body, sid=sid)
        assert (response.status, response.json) == (400, BAD_REQUEST)
        assert (await world.get(sid=sid)).json == UNKNOWN_SID
        assert echo.reasons == ["parse error"]


async def test_the_packets_before_the_wrong_one_count() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        await world.post("4a\x1e4b\x1ex\x1e4c", sid=sid)
        assert (await poll.response()).text == "4a\x1e4b"


@pytest.mark.parametrize("message", ["abc", "", "7", "b!"])
async def test_a_wrong_packet_closes_the_websocket(message: str) -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        await websocket.send(message)
        assert await websocket.receive() is None
        assert not world.engine.sessions


async def test_a_second_poll_is_refused_and_ends_the_session() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        first = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        second = await world.get(sid=sid, t="burst")
        assert (await first.response()).text == "1"
        assert (second.status, second.json) == (400, BAD_REQUEST)
        assert (await world.get(sid=sid)).status == 400


async def test_a_second_post_is_refused_and_ends_the_session() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session = world.engine.sessions[sid]
        never = trio.Event()

        async def read() -> bytes | None:
            await never.wait()
            return None

        async with trio.open_nursery() as nursery:

            async def post() -> None:
                with pytest.raises(Exception, match="Bad request"):
                    await session.post(read)

            nursery.start_soon(post)
            await wait_all_tasks_blocked()
            assert (await world.post("4b", sid=sid)).json == BAD_REQUEST
        assert (await world.get(sid=sid)).status == 400


async def test_a_poll_that_the_client_gives_up_ends_the_session() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        echo = world.engine.sessions[sid].receiver
        assert isinstance(echo, Echo)
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        poll.abort()
        await wait_all_tasks_blocked()
        assert not poll.answered
        assert (await world.get(sid=sid)).status == 400
        assert echo.reasons == ["transport error"]


async def test_a_posted_close_is_answered_and_ends_the_open_poll_with_a_noop() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        assert (await world.post("4bye\x1e1\x1e4not heard", sid=sid)).text == "ok"
        assert (await poll.response()).text == "4bye"
        assert (await world.get(sid=sid)).status == 400
        sid = await world.open_polling()
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        await world.post("1", sid=sid)
        assert (await poll.response()).text == "6"


async def test_a_poll_that_arrives_just_behind_the_posted_close_gets_its_noop(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        post = world.request("POST", body=b"1", sid=sid)
        await trio.sleep(0.01)
        assert (await world.get(sid=sid)).text == "6"
        assert (await post.response()).text == "ok"
        assert (await world.get(sid=sid)).status == 400
        sid = await world.open_polling()
        assert (await world.post("1", sid=sid)).text == "ok"
        assert (await world.get(sid=sid)).status == 400


async def test_a_close_packet_closes_the_websocket() -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        await websocket.send("4bye", "1", "4not heard")
        assert await websocket.receive() == "4bye"
        assert await websocket.receive() is None


@pytest.mark.parametrize("packet", ["0", "5", "6"])
async def test_packets_that_a_client_need_not_send_are_ignored(packet: str) -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        await websocket.send(packet, "4a")
        assert await websocket.receive() == "4a"
        sid = await world.open_polling()
        assert (await world.post(f"{packet}\x1e4a", sid=sid)).text == "ok"
        assert (await world.get(sid=sid)).text == "4a"


async def test_a_ping_from_the_client_has_the_wrong_direction() -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        (session,) = world.engine.sessions.values()
        echo = session.receiver
        assert isinstance(echo, Echo)
        await websocket.send("2")
        assert await websocket.receive() is None
        await wait_all_tasks_blocked()
        assert echo.reasons == ["transport error"]
        sid = await world.open_polling()
        assert (await world.post("2", sid=sid)).status == 400
        assert (await world.get(sid=sid)).status == 400


async def test_a_body_that_is_too_long_is_refused_and_the_session_goes_on() -> None:
    async with open_world(max_payload_bytes=100) as world:
        sid = await world.open_polling()
        assert (await world.post("4" + "x" * 99, sid=sid)).status == 200
        response = await world.post("4" + "x" * 100, sid=sid)
        assert (response.status, response.json["message"]) == (413, "Payload too large")
        assert (await world.post("4a", sid=sid)).status == 200
        websocket = await world.open_websocket()
        await websocket.send("4" + "x" * 100)
        assert await websocket.receive() is None
        assert websocket.close_code == 1009


async def test_too_many_packets_in_one_body_end_the_session() -> None:
    async with open_world(payload_packets_max=3) as world:
        sid = await world.open_polling()
        assert (await world.post("4a\x1e4a\x1e4a", sid=sid)).status == 200
        assert (await world.post("4a\x1e4a\x1e4a\x1e4a", sid=sid)).status == 400
        assert (await world.get(sid=sid)).status == 400


# Heartbeat. A client that does not answer is gone exactly 500 ms after its handshake.


async def test_polls_bring_pings(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        sid = await world.open_polling()
        for _ in range(3):
            before = trio.current_time()
            assert (await world.get(sid=sid)).text == "2"
            assert trio.current_time() - before == pytest.approx(0.3)
            assert (await world.post("3", sid=sid)).text == "ok"


async def test_a_websocket_brings_pings(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        websocket = await world.open_websocket()
        for _ in range(3):
            assert await websocket.receive() == "2"
            await trio.sleep(0.1)
            await websocket.send("3")
        assert trio.current_time() == pytest.approx(1.2)


async def test_a_polling_client_that_is_silent_is_gone_at_its_deadline(mock_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        sid = await world.open_polling()
        mock_clock.jump(0.5)  # the request comes at the very moment, before any timer has run
        assert (await world.get(sid=sid)).json == UNKNOWN_SID


async def test_a_polling_client_that_takes_its_pings_but_never_answers_is_gone(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        sid = await world.open_polling()
        echo = world.engine.sessions[sid].receiver
        assert isinstance(echo, Echo)
        assert (await world.get(sid=sid)).text == "2"
        poll = world.request("GET", sid=sid)
        await world.post("4busy", sid=sid)  # no substitute for a pong
        assert (await poll.response()).text == "4busy"
        assert (await world.get(sid=sid)).text == "1"
        assert trio.current_time() == pytest.approx(0.5)
        assert echo.reasons == ["ping timeout"]


async def test_a_silent_websocket_is_closed_at_its_deadline(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        websocket = await world.open_websocket()
        assert await websocket.receive() == "2"
        assert await websocket.receive() is None
        assert trio.current_time() == pytest.approx(0.5)
        assert websocket.close_code == 4000


async def test_a_pong_that_nobody_asked_for_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        websocket = await world.open_websocket()
        await trio.sleep(0.2)
        await websocket.send("3", "3")
        assert await websocket.receive() == "2"
        assert trio.current_time() == pytest.approx(0.3)
