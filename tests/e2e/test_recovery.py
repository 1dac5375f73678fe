"""Connection state recovery tells the truth: cuts at random and a killed server, and nobody misses or repeats
anything."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import trio

from tests.e2e.clients import LOST
from tests.e2e.process import ServerProcess, until
from tests.e2e.socketio_client import SocketIOClient

TIMEOUT_S = 300.0


class Listener:
    """A client that joins one or two rooms, is cut off again and again, and notes what it hears."""

    def __init__(self, codes: list[str], dice: random.Random) -> None:
        self.client = SocketIOClient()
        self.codes = codes
        self.heard: dict[str, list[int]] = {code: [] for code in codes}
        self.dice = dice
        self.cuts = 0
        self.joined = False

    async def run(self, server: ServerProcess, ready: trio.Event, stop: trio.Event) -> None:
        while True:
            try:
                async with self.client.connected(server.address):
                    if not self.joined:
                        for code in self.codes:
                            # Chat POC's clients are in one room at a time, Yum's in as many as they like.
                            answer = await self.client.ask("joinRoom", {"roomId": code})
                            assert answer[0]["ok"], answer
                        self.joined = True
                        ready.set()
                    patience_s = math_inf if stop.is_set() else self.dice.uniform(0.05, 1.5)
                    with trio.move_on_after(patience_s):
                        while True:
                            name, args = await self.client.events.receive()
                            if name == "receiveMessage":
                                self.heard[args[0]["roomId"]].append(args[0]["seq"])
                    self.cuts += 1
            except* LOST:
                await trio.sleep(0.05)


math_inf = float("inf")


async def publish(
    server: ServerProcess, codes: list[str], number: int, acknowledged: list[int], enough: Callable[[int], bool]
) -> None:
    """Send messages, each until it is acknowledged; a message that was stored twice would be heard twice."""
    client = SocketIOClient()
    done = 0
    while not enough(done):
        try:
            async with client.connected(server.address):
                for code in codes:
                    await client.ask("joinRoom", {"roomId": code})
                while not enough(done):
                    text = {"roomId": codes[done % len(codes)], "content": f"{number}.{done}"}
                    [answer] = await client.ask("sendMessage", text)
                    assert answer["ok"], answer
                    done += 1
                    acknowledged.append(done)
        except* LOST:
            await trio.sleep(0.05)


async def hear_all(tmp_path: Path, *, listeners: int, messages: int, cuts: int, kill: bool) -> list[Listener]:
    """Two publishers go on until each has sent `messages` and the listeners together were cut `cuts` times."""
    codes = ["red", "blue"]
    dice = random.Random(7)
    acknowledged: list[int] = []
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state", "--set", "recovery_s=120") as server:
            everyone = [
                Listener(codes if index % 4 == 0 else [codes[index % 2]], random.Random(index))
                for index in range(listeners)
            ]
            stop = trio.Event()

            def enough(done: int) -> bool:
                return done >= messages and sum(listener.cuts for listener in everyone) >= cuts

            async with trio.open_nursery() as nursery:
                for listener in everyone:
                    ready = trio.Event()
                    nursery.start_soon(listener.run, server, ready, stop)
                    await ready.wait()
                async with trio.open_nursery() as publishers:
                    for number in range(2):
                        publishers.start_soon(publish, server, codes, number, acknowledged, enough)
                    if kill:
                        await until(lambda: len(acknowledged) > messages // 2)
                        await server.end(signal.SIGKILL)
                        await server.restart()
                stop.set()
                reader = SocketIOClient()
                stored = {}
                async with reader.connected(server.address):
                    for code in codes:
                        [answer] = await reader.ask("joinRoom", {"roomId": code})
                        stored[code] = max(message["seq"] for message in answer["messages"])
                await until(
                    lambda: all(
                        heard and heard[-1] >= stored[code]
                        for listener in everyone
                        for code, heard in listener.heard.items()
                    )
                )
                nursery.cancel_scope.cancel()
            dice.shuffle(everyone)
            for listener in everyone:
                for code, heard in listener.heard.items():
                    assert heard == list(range(heard[0], stored[code] + 1))
                    assert heard[0] == 1
            return everyone


async def test_forty_clients_that_are_cut_at_random_miss_and_repeat_nothing(tmp_path: Path) -> None:
    everyone = await hear_all(tmp_path, listeners=40, messages=250, cuts=100, kill=False)
    for listener in everyone:
        assert listener.client.recovered[0] is False
        assert all(listener.client.recovered[1:])


async def test_sessions_are_recovered_after_the_server_was_killed(tmp_path: Path) -> None:
    everyone = await hear_all(tmp_path, listeners=12, messages=120, cuts=20, kill=True)
    for listener in everyone:
        assert all(listener.client.recovered[1:])


async def test_a_session_that_cannot_be_continued_is_a_new_one(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state", "--set", "recovery_s=120") as server:
            client = SocketIOClient()
            async with client.connected(server.address):
                await client.ask("joinRoom", {"roomId": "red"})
                await client.ask("sendMessage", {"roomId": "red", "content": "x"})
                await client.events.receive()
            pid, offset = client.pid, client.offset
            sids = {client.sid}
            for bad_pid, bad_offset in (("x" * 32, offset), (pid, "nonsense"), (pid, "999999.1")):
                client.pid, client.offset = bad_pid, bad_offset
                async with client.connected(server.address):
                    sids.add(client.sid)
            assert client.recovered == [False] * 4
            assert len(sids) == 4
