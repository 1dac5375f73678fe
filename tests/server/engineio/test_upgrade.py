"""From polling to WebSocket: the dance, and that nothing is lost or reordered in it."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.server.engineio import Session
from tests.server.engineio.world import SUITE, Echo, Response, World, open_world


def session_of(world: World, sid: str) -> tuple[Session, Echo]:
    session = world.engine.sessions[sid]
    assert isinstance(session.receiver, Echo)
    return session, session.receiver


async def test_a_session_moves_to_a_websocket() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = session_of(world, sid)
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        assert (await world.get(sid=sid)).text == "6"
        assert session.transport == "polling"
        await websocket.send("5", "4hello")
        assert await websocket.receive() == "4hello"
        assert session.transport == "websocket"
        assert echo.moves == 1
        assert not echo.reasons


async def test_an_open_poll_gets_a_noop_as_soon_as_the_probe_comes(mock_clock: MockClock) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        poll = world.request("GET", sid=sid)
        await wait_all_tasks_blocked()
        websocket = await world.websocket(sid=sid)
        await wait_all_tasks_blocked()
        assert not poll.answered
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        assert (await poll.response()).text == "6"


async def test_a_client_that_goes_on_polling_during_a_probe_gets_a_noop_now_and_then(autojump_clock: MockClock) -> None:
    async with open_world(upgrade_timeout_s=1) as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        count = 0
        while trio.current_time() < 0.95:
            assert (await world.get(sid=sid)).text == "6"
            count += 1
        assert count == 11


async def test_packets_still_come_by_polling_during_a_probe() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        await world.post("4a\x1e4b", sid=sid)
        assert (await world.get(sid=sid)).text == "4a\x1e4b"


async def test_what_waits_goes_to_the_websocket_first_and_in_order() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, _ = session_of(world, sid)
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        session.send("one")
        session.send(b"two")
        session.push(world.engine.packets(b"4three", attachments=[b"3a", b"3b"]))
        await websocket.send("5", "4four")
        assert [await websocket.receive() for _ in range(6)] == ["4one", b"two", "4three", b"3a", b"3b", "4four"]


async def test_a_packet_whose_attachments_were_polled_in_part_goes_on_over_the_websocket() -> None:
    async with open_world(poll_packets_max=2) as world:
        sid = await world.open_polling()
        session, _ = session_of(world, sid)
        session.push(world.engine.packets(b"4one", attachments=[b"1a", b"1b", b"1c"]))
        session.send("two")
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        assert (await world.get(sid=sid)).text == "4one\x1ebMWE="
        await websocket.send("5")
        assert [await websocket.receive() for _ in range(3)] == [b"1b", b"1c", "4two"]


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_or_reordered_when_a_client_upgrades_while_both_sides_talk(
    seed: int, autojump_clock: MockClock
) -> None:
    """A client that does as the protocol says: pause polling, let the open poll and POST end, then say 5."""
    chance = random.Random(seed)
    async with open_world(poll_packets_max=3) as world:
        sid = await world.open_polling()
        session, echo = session_of(world, sid)
        heard: list[str] = []
        sent = 0

        async def talk() -> None:
            for number in range(200):
                session.send(f"s{number}")
                if chance.random() < 0.3:
                    await trio.sleep(chance.random() / 100)

        paused = trio.Event()
        polled = trio.Event()
        posted = trio.Event()

        async def poll() -> None:
            while not paused.is_set():
                response: Response = await world.get(sid=sid)
                heard.extend(response.text.split("\x1e"))
                await trio.sleep(chance.random() / 100)
            polled.set()

        async def post() -> None:
            nonlocal sent
            while not paused.is_set():
                await world.post(f"4c{sent}", sid=sid)
                sent += 1
                await trio.sleep(chance.random() / 100)
            posted.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            nursery.start_soon(poll)
            nursery.start_soon(post)
            await trio.sleep(chance.random())
            websocket = await world.websocket(sid=sid)
            await websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            paused.set()
            await polled.wait()
            await posted.wait()
            await websocket.send("5")
            for _ in range(20):
                await websocket.send(f"4c{sent}")
                sent += 1
            while sum(message.startswith("4s") for message in heard) < 200 or f"4c{sent - 1}" not in heard:
                message = await websocket.receive()
                assert isinstance(message, str)
                heard.append(message)
        assert echo.received == [f"c{number}" for number in range(sent)]
        assert [message for message in heard if message.startswith("4s")] == [f"4s{number}" for number in range(200)]
        assert [message for message in heard if message.startswith("4c")] == [f"4c{number}" for number in range(sent)]


async def test_requests_for_a_session_that_has_moved_are_refused_and_do_not_disturb_it() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5")
        assert await websocket.receive() == "3probe"
        await wait_all_tasks_blocked()
        assert (await world.get(sid=sid)).json == {"code": 3, "message": "Bad request"}
        assert (await world.post("4a", sid=sid)).status == 400
        await websocket.send("4hello")
        assert await websocket.receive() == "4hello"


async def test_a_second_websocket_for_a_session_that_has_moved_is_accepted_and_closed() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5")
        await websocket.receive()
        await wait_all_tasks_blocked()
        second = await world.websocket(sid=sid)
        await second.send("2probe", "4a")
        assert await second.receive() is None
        await websocket.send("4hello")
        assert await websocket.receive() == "4hello"


async def test_a_second_websocket_is_closed_while_another_probes_and_where_the_session_began_with_one() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        await world.websocket(sid=sid)
        assert await (await world.websocket(sid=sid)).receive() is None
        websocket = await world.open_websocket()
        (other,) = set(world.engine.sessions) - {sid}
        assert await (await world.websocket(sid=other)).receive() is None
        await websocket.send("4a")
        assert await websocket.receive() == "4a"


@pytest.mark.parametrize("messages", [["4hello"], ["2"], ["2other"], ["3"], [b"x"], ["2probe", "4hello"], ["1"]])
async def test_a_websocket_that_says_anything_else_is_closed_and_polling_goes_on(messages: list[str | bytes]) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send(*messages)
        while (answer := await websocket.receive()) is not None:
            assert answer == "3probe"
        await wait_all_tasks_blocked()
        assert (await world.post("4a", sid=sid)).text == "ok"
        assert (await world.get(sid=sid)).text == "4a"
        again = await world.websocket(sid=sid)
        await again.send("2probe", "5", "4b")
        assert [await again.receive(), await again.receive()] == ["3probe", "4b"]


async def test_a_websocket_that_breaks_off_leaves_polling_as_it_was(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        await websocket.cut()
        await wait_all_tasks_blocked()
        poll = world.request("GET", sid=sid)
        await trio.sleep(1)
        assert not poll.answered
        await world.post("4a", sid=sid)
        assert (await poll.response()).text == "4a"


async def test_a_websocket_that_does_not_take_over_in_time_is_closed_and_polling_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with open_world(upgrade_timeout_s=3) as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        assert await websocket.receive() is None
        assert trio.current_time() == pytest.approx(3)
        assert (await world.post("4a", sid=sid)).text == "ok"


async def test_an_upgrade_while_a_post_is_under_way_is_not_taken() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, _ = session_of(world, sid)
        session.pause_reading()
        post = world.request("POST", body=b"4a", sid=sid)
        await wait_all_tasks_blocked()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5")
        assert await websocket.receive() == "3probe"
        assert await websocket.receive() is None
        session.resume_reading()
        assert (await post.response()).text == "ok"
        assert (await world.get(sid=sid)).text == "4a"


async def test_a_session_that_ends_takes_the_websocket_that_probes_with_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        await world.post("1", sid=sid)
        assert await websocket.receive() is None


async def test_the_heartbeat_keeps_its_deadlines_across_an_upgrade(autojump_clock: MockClock) -> None:
    async with open_world(**SUITE) as world:
        sid = await world.open_polling()
        await trio.sleep(0.35)  # the ping waits in the buffer
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5")
        assert await websocket.receive() == "3probe"
        assert await websocket.receive() == "2"
        assert await websocket.receive() is None
        assert trio.current_time() == pytest.approx(0.5)


async def test_a_session_that_was_closed_during_the_probe_says_its_last_words_on_the_websocket() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = session_of(world, sid)
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe")
        await websocket.receive()
        session.send("last words")
        session.close()
        await websocket.send("5", "4not heard")
        assert await websocket.receive() == "4last words"
        assert await websocket.receive() is None
        await wait_all_tasks_blocked()
        assert echo.reasons == ["forced close"]
        assert echo.received == []
        assert not world.engine.sessions


async def test_reading_that_was_paused_stays_paused_across_an_upgrade() -> None:
    async with open_world() as world:
        sid = await world.open_polling()
        session, echo = session_of(world, sid)
        session.pause_reading()
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5", "4a")
        await websocket.receive()
        await wait_all_tasks_blocked()
        assert echo.received == []
        session.resume_reading()
        assert await websocket.receive() == "4a"
