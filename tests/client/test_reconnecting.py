"""When and how the client comes back.

Against a scripted server, over memory streams, in virtual time.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from catfish.client import (
    Client,
    ClientClosed,
    Limits,
    State,
)
from catfish.errors import HEARTBEAT_TIMEOUT
from tests.client.fake_server import FakeServer
from tests.client.helpers import heard, next_event, once, open_client, refuse, swallow


async def test_a_lost_connection_is_followed_by_another_with_the_same_user(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await server.session.cut()
    event = await next_event(client)
    assert event.name == "client:reconnecting"
    assert event.data["code"] == 1006
    assert 250 <= event.data["retryInMs"] <= 500
    assert client.state is State.RECONNECTING
    assert (await next_event(client)).name == "client:open"
    assert server.session.heard[0] == ("hello", {"user": "u-me"})
    assert client.statistics().connections == 2


async def test_delays_double_with_jitter_up_to_a_limit(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.down = True
    await server.session.cut()
    await trio.sleep(200)
    delays = [after - before for before, after in zip(server.dialled[1:], server.dialled[2:], strict=False)]
    tops = [1, 2, 4, 8, 16, 20, 20, 20]
    for delay, top in zip(delays, tops, strict=False):
        assert top / 2 <= delay <= top
    server.down = False
    await next_event(client, "client:open")


async def test_a_connection_that_breaks_at_once_does_not_start_the_delays_anew(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for _ in range(6):
        await server.session.cut()
        await next_event(client, "client:open")
    await server.session.cut()
    assert (await next_event(client)).data["retryInMs"] >= 10_000
    await next_event(client, "client:open")
    await trio.sleep(11)
    await server.session.cut()
    assert (await next_event(client)).data["retryInMs"] <= 500


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [
        *[(1000, False), (1001, True), (1002, False), (1008, False), (1009, False), (1011, True), (1012, True)],
        *[(4000, True), (4001, True), (4002, True), (4999, True)],
    ],
)
async def test_the_close_code_says_whether_to_come_back(
    autojump_clock: MockClock, server: FakeServer, client: Client, code: int, comes_back: bool
) -> None:
    await server.session.close(code, "because")
    if comes_back:
        event = await next_event(client)
        assert (event.data["code"], event.data["reason"]) == (code, "because")
        await next_event(client, "client:open")
    else:
        with pytest.raises(ClientClosed, match="because") as caught:
            await next_event(client)
        assert caught.value.close.code == code
        assert client.state is State.CLOSED
        with pytest.raises(ClientClosed):
            await client.request("ping")


async def test_without_reconnect_a_lost_connection_is_the_end(autojump_clock: MockClock, server: FakeServer) -> None:
    async with open_client(server, reconnect=False) as client:
        await server.session.cut()
        with pytest.raises(ClientClosed):
            await next_event(client)


async def test_a_draining_server_says_when_to_return(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.session.tell("server:draining", {"reconnectAfterMs": 7_000})
    told_at = trio.current_time()
    await trio.sleep(2)
    await server.session.close(1012)
    await next_event(client, "client:open")
    assert server.dialled[-1] - told_at == pytest.approx(7)


async def test_an_old_draining_hint_does_not_mean_to_return_at_once(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.session.tell("server:draining", {"reconnectAfterMs": 1_000})
    await trio.sleep(50)
    await server.session.cut()
    assert (await next_event(client, "client:reconnecting")).data["retryInMs"] >= 250


async def test_a_server_that_is_full_says_when_to_return(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.http_refusal = (503, b"full", [(b"Retry-After", b"17")])
    await server.session.cut()
    await next_event(client, "client:reconnecting")
    assert (await next_event(client, "client:reconnecting")).data["retryInMs"] == 17_000
    server.http_refusal = None
    await next_event(client, "client:open")


async def test_a_refused_hello_ends_a_client_that_came_back(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["hello"] = refuse("unauthorized")
    await server.session.cut()
    assert (await next_event(client)).name == "client:reconnecting"
    with pytest.raises(ClientClosed, match="refused with unauthorized"):
        await next_event(client)


async def test_a_hello_that_is_refused_for_now_is_said_again(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["hello"] = once(refuse("unavailable", 3_000), server.on_hello)
    await server.session.cut()
    await next_event(client, "client:open")
    assert server.dialled[2] - server.dialled[1] >= 3


async def test_silence_is_asked_about_then_taken_for_the_end(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    await trio.sleep(100)
    assert heard(server.session).count("ping") == 2
    server.handlers["ping"] = swallow
    event = await next_event(client)
    assert event.name == "client:reconnecting"
    assert event.data["code"] == HEARTBEAT_TIMEOUT.code


async def test_closing_while_reconnecting_does_not_wait(autojump_clock: MockClock, server: FakeServer) -> None:
    async with open_client(server):
        server.down = True
        await server.session.cut()
        await trio.sleep(30)
        asked = trio.current_time()
    assert trio.current_time() == asked


@pytest.mark.parametrize("silent", ["hello", "room:join"])
async def test_closing_while_coming_back_does_not_wait_for_replies(
    autojump_clock: MockClock, server: FakeServer, silent: str
) -> None:
    async with open_client(server) as client:
        await client.join("lobby")
        server.handlers[silent] = swallow
        await server.session.cut()
        await trio.sleep(1)
        assert silent in heard(server.session)
        asked = trio.current_time()
    assert trio.current_time() == asked


async def test_closing_does_not_wait_long_for_a_server_that_is_stuck(
    autojump_clock: MockClock, server: FakeServer
) -> None:
    async with open_client(server):
        server.streams[-1].send_stream.send_all_hook = trio.sleep_forever
        asked = trio.current_time()
    assert trio.current_time() - asked <= Limits().close_s


async def test_a_ping_that_is_refused_is_a_sign_of_life(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["ping"] = refuse("busy")
    await trio.sleep(100)
    assert client.state is State.OPEN
    assert heard(server.session).count("ping") == 2
