"""Chat on real sockets and a real private Postgres, with clients that are not ours."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from tests.e2e.clients import LOST, Talker, open_trio_websocket, talk_by_trio_websocket, talk_by_websockets
from tests.e2e.process import ServerProcess, until

TIMEOUT_S = 120.0


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state") as server:
            yield server


@pytest.mark.parametrize("talk", [talk_by_trio_websocket, talk_by_websockets])
@pytest.mark.parametrize("binary", [False, True])
async def test_two_people_talk(server: ServerProcess, talk: Any, binary: bool) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with talk(server.url, binary=binary) as ann, talk_by_trio_websocket(server.url, binary=False) as bob:
            await ann.ask("hello", {"user": "ann", "name": "Ann"})
            await bob.ask("hello", {"user": "bob", "name": "Bob"})
            await ann.ask("room:join", {"room": "lobby"})
            joined = await bob.ask("room:join", {"room": "lobby"})
            assert [member["name"] for member in joined["members"]] == ["Ann", "Bob"]
            assert (await ann.hear("room:joined"))["member"]["name"] == "Bob"
            long = "ü🐟" * 1_500  # long enough to be compressed for those who negotiated that
            sent = await ann.ask("chat:send", {"room": "lobby", "content": long})
            message = await bob.hear("chat:message")
            assert (message["seq"], message["content"], message["id"]) == (sent["seq"], long, sent["id"])
            await bob.ask("chat:send", {"room": "lobby", "content": "hi"})
            assert [(await ann.hear("chat:message"))["content"] for _ in range(2)] == [long, "hi"]
            page = await bob.ask("chat:history", {"room": "lobby"})
            assert [each["content"] for each in page["messages"]] == [long, "hi"]


async def test_fifty_clients_in_ten_rooms_all_see_the_same_order(server: ServerProcess) -> None:
    dice = random.Random(50)
    sends = 10
    logs: dict[int, dict[str, list[tuple[int, str]]]] = {}

    async def client(number: int, opened: trio.Event, everyone: trio.Event) -> None:
        rooms = dice.sample([f"room-{index}" for index in range(10)], 3)
        log = logs[number] = {room: [] for room in rooms}
        async with talk_by_trio_websocket(server.url, binary=bool(number % 2)) as talker:
            await talker.ask("hello", {"user": f"user-{number}"})
            for room in rooms:
                await talker.ask("room:join", {"room": room})
            opened.set()
            await everyone.wait()
            async with trio.open_nursery() as nursery:
                for index in range(sends):
                    content = {"room": dice.choice(rooms), "content": f"{number}.{index}"}
                    nursery.start_soon(talker.ask, "chat:send", content)
            sent.append(number)
            while True:
                name, data = await talker.events.receive()
                if name == "chat:message":
                    log[data["room"]].append((data["seq"], data["content"]))

    sent: list[int] = []
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            everyone = trio.Event()
            opened = [trio.Event() for _ in range(50)]
            for number in range(50):
                nursery.start_soon(client, number, opened[number], everyone)
            for event in opened:
                await event.wait()
            everyone.set()
            expected = await histories(server, 50 * sends)
            await until(lambda: all(len(log[room]) >= len(expected[room]) for log in logs.values() for room in log))
            nursery.cancel_scope.cancel()
    for log in logs.values():
        for room, heard in log.items():
            assert heard == expected[room]
            assert [seq for seq, _ in heard] == list(range(1, len(heard) + 1))


async def histories(server: ServerProcess, count: int) -> dict[str, list[tuple[int, str]]]:
    """What is stored in the ten rooms, once it is `count` messages."""
    async with talk_by_trio_websocket(server.url, binary=True) as reader:
        for index in range(10):
            await reader.ask("room:join", {"room": f"room-{index}"})
        while True:
            found = {f"room-{index}": await read_all(reader, f"room-{index}") for index in range(10)}
            if sum(map(len, found.values())) >= count:
                return found
            await trio.sleep(0.05)


async def read_all(talker: Talker, room: str) -> list[tuple[int, str]]:
    """The whole history of a room that the talker is in."""
    found: list[tuple[int, str]] = []
    while True:
        page = await talker.ask("chat:history", {"room": room, "after": found[-1][0] if found else 0, "limit": 200})
        found += [(message["seq"], message["content"]) for message in page["messages"]]
        if not page["more"]:
            return found


async def test_whatever_was_acknowledged_survives_kill_9(server: ServerProcess) -> None:
    acknowledged: dict[int, str] = {}

    async def send_until_cut(number: int) -> None:
        async with talk_by_trio_websocket(server.url, binary=False) as talker:
            await talker.ask("hello", {"user": f"user-{number}"})
            await talker.ask("room:join", {"room": "lobby"})
            for index in range(100_000):
                content = f"{number}.{index}"
                answer = await talker.ask("chat:send", {"room": "lobby", "content": content})
                assert answer["seq"] not in acknowledged
                acknowledged[answer["seq"]] = content

    async def doomed(number: int) -> None:
        try:
            await send_until_cut(number)
        except* LOST:
            pass

    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(doomed, number)
            await until(lambda: len(acknowledged) >= 1_000)
            assert await server.end(signal.SIGKILL) == -signal.SIGKILL
        await server.restart()
        async with talk_by_trio_websocket(server.url, binary=False) as reader:
            await reader.ask("room:join", {"room": "lobby"})
            stored = await read_all(reader, "lobby")
    assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
    contents = [content for _, content in stored]
    assert len(set(contents)) == len(contents)
    assert dict(stored).items() >= acknowledged.items()
    for number in range(20):
        own = [int(content.partition(".")[2]) for content in contents if content.startswith(f"{number}.")]
        assert own == list(range(len(own)))


async def test_a_signal_drains_the_server(server: ServerProcess) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with open_trio_websocket(server.url, "catfish.v1.json") as connection:
            await connection.send_message('["room:join",{"room":"lobby"},1]')
            await connection.get_message()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.end, signal.SIGTERM)
                hint = await connection.get_message()
                assert str(hint).startswith('["server:draining",{"reconnectAfterMs":')
                with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                    await connection.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1012
    assert server.exit_status == 0
    assert server.output.rstrip().endswith(b"catfish has stopped")
    assert b"ERROR" not in server.output
    assert b"WARNING" not in server.output


async def test_health_speaks_while_sockets_talk(server: ServerProcess) -> None:
    host, _, port = server.address.partition(":")
    with trio.fail_after(TIMEOUT_S):
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join([chunk async for chunk in stream])
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"status":"ok"' in answer


async def test_a_storm_of_connections_leaves_no_descriptor_behind(server: ServerProcess) -> None:
    if sys.platform != "linux":
        pytest.skip("this platform does not list the descriptors of a process")

    async def storm() -> None:
        for kind in range(30):
            stream = await trio.open_tcp_stream(*_host_and_port(server))
            if kind % 3:
                await stream.send_all(
                    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
            if kind % 3 == 2:
                await stream.receive_some(1024)
            await trio.aclose_forcefully(stream)

    with trio.fail_after(TIMEOUT_S):
        before = server.descriptors()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(storm)
        # Connections to Postgres come and go.
        await until(lambda: server.descriptors() <= before + 4)


def _host_and_port(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.address.partition(":")
    return host, int(port)
