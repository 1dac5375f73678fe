"""The Python client against a real server that is killed, restarted and stopped under it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from catfish.client import Client, Event, Rejected, State, connect
from tests.e2e.process import ServerProcess, until

TIMEOUT_S = 120.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    with trio.fail_after(TIMEOUT_S):
        async with ServerProcess.running(tmp_path / "state") as server:
            yield server


async def hear(client: Client, name: str) -> Any:
    with trio.fail_after(TIMEOUT_S):
        async for event in client.events:
            if event.name == name:
                return event.data
    raise AssertionError("no further events")


async def test_everything_that_the_client_offers_is_understood_in_both_codecs(server: ServerProcess) -> None:
    async with (
        connect(server.url, user="ann", name="Ann", codec="msgpack") as ann,
        connect(server.url, user="bob", name="Bob", codec="json") as bob,
    ):
        assert (ann.user, ann.name) == ("ann", "Ann")
        assert "contentCharsMax" in ann.server_limits
        den = await ann.create(kind="private", name="Den", capacity=3)
        await ann.join(den["id"])
        joined = await bob.join(code=den["code"])
        room = den["id"]
        assert [member["user"] for member in joined["members"]] == ["ann", "bob"]
        assert (await hear(ann, "room:joined"))["member"]["name"] == "Bob"
        sent = await bob.send(room, "hello", data={"n": 1})
        message = await hear(ann, "chat:message")
        assert (message["seq"], message["content"], message["data"]) == (sent["seq"], "hello", {"n": 1})
        assert bob.typing(room)
        assert (await hear(ann, "chat:typing"))["user"] == "bob"
        await bob.edit(room, 1, "hello!")
        assert (await hear(ann, "chat:edited"))["content"] == "hello!"
        await ann.react(room, 1, "👍")
        assert (await hear(bob, "chat:reacted"))["emoji"] == "👍"
        await ann.read(room, 1)
        assert (await hear(bob, "chat:read"))["seq"] == 1
        await ann.emit(room, "wave", [1, 2])
        assert (await hear(bob, "room:event"))["data"] == [1, 2]
        await ann.signal(room, "bob", {"sdp": "x"})
        assert (await hear(bob, "signal"))["data"] == {"sdp": "x"}
        await ann.toggle(room, "mic", True)
        assert (await hear(bob, "media:toggled"))["device"] == "mic"
        page = await ann.history(room)
        assert page["messages"][0]["reactions"] == {"👍": ["ann"]}
        await bob.delete(room, 1)
        assert (await hear(ann, "chat:deleted"))["seq"] == 1
        assert [member["user"] for member in await ann.members(room)] == ["ann", "bob"]
        await bob.leave(room)
        assert (await hear(ann, "room:left"))["user"] == "bob"
        with pytest.raises(Rejected) as refused:
            await bob.send(room, "outside")
        assert refused.value.code == "not_in_room"
        waiting = await ann.match(["go"])
        assert waiting["matched"] is False
        assert (await bob.match(["go"]))["matched"] is True
        assert (await hear(ann, "room:ready"))["room"] == waiting["room"]["id"]
        await bob.send(waiting["room"]["id"], "stranger")
        assert (await hear(ann, "chat:message"))["content"] == "stranger"


async def test_a_killed_server_costs_no_message_and_repeats_none(server: ServerProcess) -> None:
    senders, each = 4, 60
    seen: dict[str, list[tuple[int, str]]] = {}
    acknowledged: dict[int, str] = {}

    async def talk(client: Client, name: str) -> None:
        for number in range(each):
            text = f"{name}.{number}"
            acknowledged[(await client.send("lobby", text))["seq"]] = text
            await trio.sleep(0.005)

    async def listen(client: Client, name: str) -> None:
        log = seen[name] = []
        async for event in client.events:
            if event.name == "chat:message":
                log.append((event.data["seq"], event.data["content"]))

    async def person(name: str, nursery: trio.Nursery, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with connect(server.url, user=name, name=name) as client:
            await client.join("lobby")
            nursery.start_soon(listen, client, name)
            clients.append(client)
            task_status.started()
            await everyone.wait()
            await talk(client, name)
            finished.append(name)
            await until(lambda: all(len(log) >= senders * each for log in seen.values()))
            client_states.append(client.state)

    def more_than(count: int) -> bool:
        return len(acknowledged) > count

    clients: list[Client] = []
    finished: list[str] = []
    client_states: list[State] = []
    everyone = trio.Event()
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery, trio.open_nursery() as people:
            for index in range(senders):
                await people.start(person, f"p{index}", nursery)
            everyone.set()
            for _ in range(2):
                await until(partial(more_than, len(acknowledged) + 25))
                await server.end(signal.SIGKILL)
                await server.restart()
        assert len(finished) == senders
    assert client_states == [State.OPEN] * senders
    everything = sorted(acknowledged.items())
    assert [seq for seq, _ in everything] == list(range(1, senders * each + 1))
    for log in seen.values():
        assert log == everything
    assert all(client.statistics().connections >= 2 for client in clients)


async def test_a_restart_is_announced_and_followed_by_a_return(server: ServerProcess) -> None:
    async with connect(server.url, user="ann", name="Ann") as ann, connect(server.url, user="bob") as bob:
        await ann.join("lobby")
        await bob.join("lobby")
        await ann.send("lobby", "before")
        assert await server.end(signal.SIGTERM) == 0
        await server.restart()
        assert "reconnectAfterMs" in await hear(ann, "server:draining")
        assert (await hear(ann, "client:reconnecting"))["code"] in (1001, 1012)
        await ann.send("lobby", "after")
        heard: list[Event] = []
        async for event in bob.events:
            heard.append(event)
            if event.data.get("content") == "after":
                break
        assert [event.data["content"] for event in heard if event.name == "chat:message"] == ["before", "after"]
        assert not [event for event in heard if event.name == "room:left"]


async def test_a_gap_in_the_client_is_filled_by_a_join_in_the_same_session(server: ServerProcess) -> None:
    """Joining a room in which one already is answers like the first time, and disturbs nobody."""
    async with connect(server.url, user="ann") as ann, connect(server.url, user="bob") as bob:
        await ann.join("lobby")
        await bob.join("lobby")
        for number in range(120):
            await bob.send("lobby", str(number))
        view = ann._following._views["lobby"]
        await until(lambda: ann.statistics().events_waiting >= 121)
        view.seq -= 100  # as if the last hundred had never come
        await bob.send("lobby", "120")
        contents: list[str] = []
        while not contents or contents[-1] != "120":
            contents.append((await hear(ann, "chat:message"))["content"])
        assert contents == [str(number) for number in [*range(120), *range(20, 121)]]
        assert [member["user"] for member in await bob.members("lobby")] == ["ann", "bob"]
        assert bob.statistics().events_dropped == 0


async def test_the_example_in_the_guide_runs(server: ServerProcess, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    example = tmp_path / "parrot.py"
    example.write_text(guide.split("```python\n")[1].split("```")[0])
    root = Path(__file__).parents[2]
    async with connect(server.url, name="Ann") as ann, trio.open_nursery() as nursery:
        await ann.join("lobby")
        done: list[subprocess.CompletedProcess[bytes]] = []

        @nursery.start_soon
        async def _() -> None:
            command = [sys.executable, str(example), server.url]
            environment = {**os.environ, "PYTHONPATH": str(root)}
            done.append(await trio.run_process(command, capture_stdout=True, env=environment))

        assert (await hear(ann, "room:joined"))["member"]["name"] == "parrot"
        for text in ("hello", "bye"):
            await ann.send("lobby", text)
            assert (await hear(ann, "chat:message"))["content"] == text
            assert (await hear(ann, "chat:message"))["content"] == f"Ann said: {text}"
    assert done[0].stdout == b"here: Ann, parrot\n"
