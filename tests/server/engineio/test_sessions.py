"""What a session promises to the application: limits, ends, faults, pausing, and whose pages may connect."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.errors import SERVICE_RESTART
from catfish.server.engineio import EngineReceiver, Reason, Session
from catfish.server.engineio.states import MOVES, Event, State
from tests.server.engineio.world import Echo, World, open_world


def echo_of(world: World, sid: str) -> tuple[Session, Echo]:
    session = world.engine.sessions[sid]
    assert isinstance(session.receiver, Echo)
    return session, session.receiver


def test_every_state_and_event_is_either_a_move_or_cannot_happen() -> None:
    impossible = {(state, event) for state in State for event in Event} - set(MOVES)
    assert impossible == {
        *((state, Event.PROBE) for state in State if state is not State.POLLING),
        (State.POLLING, Event.PROBE_LOST),
        (State.WEBSOCKET, Event.PROBE_LOST),
        *((state, Event.UPGRADE) for state in (State.POLLING, State.WEBSOCKET, State.CLOSED)),
    }
    assert {after for (state, _), after in MOVES.items() if state is State.CLOSED} == {State.CLOSED}
    assert {after for (_, event), after in MOVES.items() if event is Event.END} == {State.CLOSED}


async def test_everything_sent_in_one_pass_is_one_payload() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        session.send("a")
        session.send(b"\1")
        session.send_text(b"4c")
        assert (await poll.response()).text == "4a\x1ebAQ==\x1e4c"


async def test_a_payload_has_no_more_packets_than_clients_take() -> None:
    async with open_world(poll_packets_max=16) as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        for number in range(40):
            session.send(str(number))
        payloads = [(await world.get(sid=sid)).text.split("\x1e") for _ in range(3)]
        assert [len(payload) for payload in payloads] == [16, 16, 8]
        assert [packet for payload in payloads for packet in payload] == [f"4{number}" for number in range(40)]


async def test_packets_are_encoded_once_for_all_who_are_sent_them() -> None:
    async with open_world() as world:
        packets = world.engine.packets(b"4hello", attachments=[b"x"])
        sids = [await world.open_polling() for _ in range(2)]
        websockets = [await world.open_websocket() for _ in range(2)]
        for session in world.engine.sessions.values():
            session.push(packets)
        assert packets.frames(False) is packets.frames(False)
        assert packets.polling is packets.polling
        for sid in sids:
            assert (await world.get(sid=sid)).text == "4hello\x1ebeA=="
        for websocket in websockets:
            assert [await websocket.receive(), await websocket.receive()] == ["4hello", b"x"]


async def test_a_client_that_does_not_poll_is_a_slow_consumer_when_too_much_waits() -> None:
    async with open_world(outbox_bytes_max=10_000) as world:
        sid = await world.open_polling()
        session, echo = echo_of(world, sid)
        for _ in range(9):
            session.send("x" * 1000)
        assert session.is_open
        for _ in range(100):
            session.send("x" * 1000)
            assert not echo.reasons  # never from inside of a send
        assert session.state is State.CLOSED
        await wait_all_tasks_blocked()
        assert echo.reasons == [Reason.SLOW_CONSUMER]
        assert (await world.get(sid=sid)).status == 400


async def test_one_message_alone_may_be_as_large_as_it_likes() -> None:
    async with open_world(outbox_bytes_max=1000) as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        session.send("x" * 5000)
        assert len((await world.get(sid=sid)).text) == 5001
        session.send("x" * 5000)
        assert session.is_open


async def test_a_closed_session_says_its_last_words_to_the_next_poll(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = echo_of(world, sid)
        session.send("last words")
        session.close()
        session.close()
        session.send("too late")
        assert not echo.reasons
        await wait_all_tasks_blocked()
        assert echo.reasons == [Reason.FORCED_CLOSE]
        assert (await world.post("4not heard", sid=sid)).text == "ok"
        assert (await world.get(sid=sid)).text == "4last words\x1e1"
        assert (await world.get(sid=sid)).status == 400
        assert echo.received == []
        assert len(echo.reasons) == 1


async def test_a_closed_session_answers_the_open_poll() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        session.close()
        assert (await poll.response()).text == "1"
        assert not world.engine.sessions


async def test_a_closed_session_is_forgotten_when_nobody_fetches_its_last_words(autojump_clock: MockClock) -> None:
    async with open_world(close_timeout_s=5) as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        session.close()
        await trio.sleep(4.9)
        assert world.engine.sessions
        await trio.sleep(0.2)
        assert not world.engine.sessions


async def test_last_words_of_more_than_one_payload_are_fetched_to_the_end() -> None:
    async with open_world(poll_packets_max=2) as world:
        sid = await world.open_polling()
        session, _ = echo_of(world, sid)
        for number in range(3):
            session.send(str(number))
        session.close()
        assert (await world.get(sid=sid)).text == "40\x1e41"
        assert (await world.get(sid=sid)).text == "42\x1e1"
        assert (await world.get(sid=sid)).status == 400


async def test_a_websocket_session_is_closed_with_the_code_it_is_given() -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        (session,) = world.engine.sessions.values()
        echo = session.receiver
        assert isinstance(echo, Echo)
        session.send("last words")
        world.engine.close_all(SERVICE_RESTART)
        assert not echo.reasons
        assert await websocket.receive() == "4last words"
        assert await websocket.receive() is None
        assert websocket.close_code == SERVICE_RESTART.code
        await wait_all_tasks_blocked()
        assert echo.reasons == [Reason.FORCED_CLOSE]
        assert not world.engine.sessions


@pytest.mark.parametrize("orderly", [True, False])
async def test_a_websocket_that_the_client_closes_or_loses_ends_the_session(orderly: bool) -> None:
    async with open_world() as world:
        websocket = await world.open_websocket()
        (session,) = world.engine.sessions.values()
        echo = session.receiver
        assert isinstance(echo, Echo)
        await (websocket.close() if orderly else websocket.cut())
        await wait_all_tasks_blocked()
        assert echo.reasons == [Reason.TRANSPORT_CLOSE]
        assert not world.engine.sessions


class Waiter(EngineReceiver):
    """Waits for ever in its task."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ended_at: float | None = None
        session.send("welcome")

    async def run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.ended_at = trio.current_time()


async def test_the_task_of_a_session_is_cancelled_some_time_after_its_end(autojump_clock: MockClock) -> None:
    async with open_world(Waiter, close_timeout_s=5) as world:
        sid = await world.open_polling()
        waiter = world.engine.sessions[sid].receiver
        assert isinstance(waiter, Waiter)
        await trio.sleep(1)
        waiter.session.fail(Reason.TRANSPORT_CLOSE)
        await trio.sleep(10)
        assert waiter.ended_at == pytest.approx(6)


async def test_what_is_sent_at_the_start_follows_the_handshake() -> None:
    async with open_world(Waiter) as world:
        sid = await world.open_polling()  # reads the handshake, which is alone in its payload
        assert (await world.get(sid=sid)).text == "4welcome"
        websocket = await world.open_websocket()
        assert await websocket.receive() == "4welcome"


class Faulty(EngineReceiver):
    """Fails wherever it is told to."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reasons: list[Reason] = []
        self.fault = trio.Event()

    def receive(self, message: str | bytes) -> None:
        if message == "run":
            self.fault.set()
        else:
            raise LookupError("no such thing")

    def closed(self, reason: Reason) -> None:
        self.reasons.append(reason)
        raise LookupError("not even this")

    async def run(self) -> None:
        await self.fault.wait()
        raise LookupError("in the task")


@pytest.mark.parametrize("message", ["receive", "run"])
async def test_a_fault_ends_its_session_with_a_traceback_in_the_log_and_no_other(
    message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(Faulty) as world:
        for number in range(2):
            websocket = await world.open_websocket()
            await websocket.send(f"4{message}")
            assert await websocket.receive() is None
            assert websocket.close_code == 1011
            await wait_all_tasks_blocked()
            assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2 * (number + 1)
        sid = await world.open_polling()
        faulty = world.engine.sessions[sid].receiver
        assert isinstance(faulty, Faulty)
        bystander = await world.open_polling()
        if message == "run":
            await world.post(f"4{message}", sid=sid)
            await wait_all_tasks_blocked()
            assert faulty.reasons == [Reason.INTERNAL_ERROR]
            assert (await world.get(sid=sid)).status == 400
        assert bystander in world.engine.sessions


async def test_a_fault_in_a_post_is_the_http_servers_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_world(Faulty) as world:
        sid = await world.open_polling()
        session = world.engine.sessions[sid]
        pieces = [b"4fault", None]

        async def read() -> bytes | None:
            await trio.lowlevel.checkpoint()
            return pieces.pop(0)

        with pytest.raises(LookupError):
            await session.post(read)
        assert session.reason is Reason.INTERNAL_ERROR
        assert not world.engine.sessions


async def test_a_fault_at_the_start_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    def fail(session: Session) -> EngineReceiver:
        raise LookupError("no receiver today")

    async with open_world(fail) as world:
        assert (await world.upgrade())[0] == 500
        with pytest.raises(LookupError):
            world.engine.open_polling(None, "unix")  # type: ignore[arg-type]
        assert not world.engine.sessions


async def test_a_post_is_answered_when_the_application_has_taken_its_packets() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = echo_of(world, sid)
        session.pause_reading()
        post = world.request("POST", body=b"4a\x1e4b", sid=sid)
        await wait_all_tasks_blocked()
        assert not post.answered
        assert not echo.received
        session.resume_reading()
        assert (await post.response()).text == "ok"
        assert echo.received == ["a", "b"]


async def test_a_post_that_waits_ends_with_its_session() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = echo_of(world, sid)
        session.pause_reading()
        post = world.request("POST", body=b"4a", sid=sid)
        await wait_all_tasks_blocked()
        session.fail(Reason.PING_TIMEOUT)
        assert (await post.response()).status == 400
        assert not echo.received


async def test_statistics_count_sessions_by_transport() -> None:
    async with open_world() as world:
        await world.open_polling()
        await world.open_websocket()
        await world.open_websocket()
        statistics = world.engine.statistics()
        assert (statistics.polling, statistics.websocket) == (1, 2)


async def test_a_session_knows_the_request_that_opened_it() -> None:
    async with open_world() as world:
        response = await world.request("GET", headers={"authorization": "Bearer x", "host": "catfish.test"}).response()
        (session,) = world.engine.sessions.values()
        assert session.sid in response.text
        assert session.head.headers["authorization"] == "Bearer x"
        assert session.head.path == "/engine.io/"
        assert session.peer == "203.0.113.9:1234"


# Origins and CORS

HERE = {"host": "catfish.test"}


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        ("http://catfish.test", [], True),
        ("http://localhost:5173", [], False),  # of a browser that is elsewhere
        ("http://localhost:5173", ["http://localhost:5173"], True),
        ("https://chat.example", ["https://chat.example"], True),
        ("https://chat.example", ["*"], True),
        ("https://chat.example", [], False),
        ("https://evil.example", ["https://chat.example"], False),
        ("null", [], False),
    ],
)
async def test_pages_of_allowed_origins_may_connect_and_read_the_answers(
    origin: str, origins: list[str], allowed: bool
) -> None:
    async with open_world(origins=tuple(origins)) as world:
        headers = {**HERE, "origin": origin}
        response = await world.request("GET", headers=headers).response()
        assert response.status == (200 if allowed else 403)
        if allowed:
            assert response.headers["access-control-allow-origin"] == origin
            assert response.headers["access-control-allow-credentials"] == "true"
            assert response.headers["vary"] == "Origin"
            refused = await world.request("GET", headers=headers, sid="nobody").response()
            assert refused.headers["access-control-allow-origin"] == origin
        else:
            assert response.json == {"code": 4, "message": "Forbidden"}
            assert "access-control-allow-origin" not in response.headers
        status, _, _ = await world.upgrade(headers={"Origin": origin})
        assert status == (101 if allowed else 403)


async def test_clients_that_are_no_pages_need_no_origin() -> None:
    async with open_world() as world:
        response = await world.request("GET", headers=HERE).response()
        assert response.status == 200
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("allowed", [True, False])
async def test_preflight_requests_are_answered_as_the_origin_deserves(allowed: bool) -> None:
    async with open_world(origins=("https://chat.example",) if allowed else ()) as world:
        headers: dict[str, Any] = {
            **HERE,
            "origin": "https://chat.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-token, content-type",
        }
        response = await world.request("OPTIONS", headers=headers, sid="x").response()
        if allowed:
            assert (response.status, response.body) == (204, b"")
            assert response.headers["access-control-allow-headers"] == "x-token, content-type"
            assert "POST" in response.headers["access-control-allow-methods"]
            assert response.headers["access-control-allow-credentials"] == "true"
        else:
            assert response.status == 403
