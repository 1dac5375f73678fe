"""The clients of the fault matrix: they talk all the time, come back by themselves, and keep a log.

Three of the five in each room speak the native protocol (`catfish.client`), two are Socket.IO clients with Yum's events
and connection state recovery; one of these is another device of a user who is there with a native client as well. What
the native client hears twice it drops; a Socket.IO client would note it.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from typing import Any, Literal

import trio

from catfish.client import Backoff, Client, ConnectFailed, Limits, connect
from tests.e2e.clients import LOST
from tests.e2e.socketio_client import SocketIOClient
from tests.faults.cluster import PING_S, PING_TIMEOUT_S, Cluster

log = logging.getLogger(__name__)

ROOMS = 12
PEOPLE = 60
TALK_S = 0.8
"""Between an acknowledgement and the next message, about."""
BACK_S = 0.3
"""Until a Socket.IO client tries again."""
LIMITS = Limits(connect_s=5.0, heartbeat_timeout_s=3.0, close_s=1.0)


class Person:
    """What one client knows. `lives`: seqs of the messages that it was told, in that order; a Socket.IO client whose
    session could not be recovered begins another life, with the newest messages."""

    def __init__(self, label: str, user: str, room: str) -> None:
        self.label = label
        self.user = user
        self.room = room
        self.lives: list[list[int]] = []
        self.contents: dict[int, str] = {}
        self.acknowledged: dict[int, str] = {}
        self.refused = 0
        self.members: set[str] = set()
        self.problems: list[str] = []
        self.talking = False
        self.sending = False
        self.connections = 0
        self._sent = 0

    @property
    def last_seq(self) -> int:
        """Of what it was told last."""
        return self.lives[-1][-1] if self.lives and self.lives[-1] else 0

    async def run(self, cluster: Cluster, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be in the room until cancelled. Returns from `start` once it is there."""
        raise NotImplementedError

    async def send(self, content: str) -> int | None:
        """Its number; None when it was refused, or never answered."""
        raise NotImplementedError

    async def look_around(self) -> None:
        """Learn who is there, if it may have missed that."""

    async def talk(self) -> None:
        while True:
            await trio.sleep(TALK_S * random.uniform(0.5, 1.5))
            if not self.talking:
                continue
            self._sent += 1
            content = f"{self._sent} of {self.label}"
            self.sending = True
            try:
                seq = await self.send(content)
            finally:
                self.sending = False
            if seq is None:
                self.refused += 1
            else:
                self.acknowledged[seq] = content

    def hear_message(self, seq: int, content: str) -> None:
        self.lives[-1].append(seq)
        self.contents[seq] = content

    def hear_left(self, user: str) -> None:
        self.members.discard(user)
        if user == self.user:
            self.problems.append("is told that it left itself")


class NativePerson(Person):
    """Sends what is not acknowledged again, under the same client id."""

    _client: Client

    def __init__(self, label: str, user: str, room: str, codec: Literal["msgpack", "json"]) -> None:
        super().__init__(label, user, room)
        self._codec = codec

    async def run(self, cluster: Cluster, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        while True:
            try:
                await self._stay(cluster, task_status)
            except ConnectFailed as error:  # the first time; from then on the client comes back by itself
                log.info("%s cannot connect yet: %s", self.label, error)

    async def _stay(self, cluster: Cluster, task_status: trio.TaskStatus[None]) -> None:
        backoff = Backoff(first_s=0.2, max_s=1.0)
        url = cluster.instances[0].url
        async with connect(
            url, user=self.user, codec=self._codec, dial=cluster.dial, limits=LIMITS, backoff=backoff
        ) as self._client:
            joined = await self._client.join(self.room)
            self.members = {member["user"] for member in joined["members"]}
            self.lives.append([])
            for message in joined["messages"]:
                self.hear_message(message["seq"], message["content"])
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.talk)
                async for event in self._client.events:
                    self._hear(event.name, event.data)
                    self.connections = self._client.statistics().connections

    async def send(self, content: str) -> int | None:
        seq: int = (await self._client.send(self.room, content))["seq"]
        return seq

    def _hear(self, name: str, data: Any) -> None:
        match name:
            case "chat:message":
                self.hear_message(data["seq"], data["content"])
            case "room:joined":
                self.members.add(data["member"]["user"])
            case "room:left":
                self.hear_left(data["user"])
            case "client:resumed":
                self.members = {member["user"] for member in data["members"]}
            case "client:refused" | "client:reset" | "error" | "room:closed":
                self.problems.append(f"{name}: {data}")


class SocketIOPerson(Person):
    """Sends nothing twice: what was not acknowledged may be there or not. A recovered session is in its room already;
    comings and goings are not repeated to it."""

    def __init__(self, label: str, user: str, room: str) -> None:
        super().__init__(label, user, room)
        self.client = _Socket(self)
        self._may_have_missed_some = False

    async def run(self, cluster: Cluster, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        client, entered = self.client, False
        while True:
            try:
                async with client.connected(random.choice(cluster.instances).address), trio.open_nursery() as nursery:
                    self.connections += 1
                    self._may_have_missed_some = True
                    if not client.recovered[-1]:
                        self.lives.append([])
                    if not self.lives[-1]:
                        while not await self._enter():  # noqa: ASYNC110 - it asks anew each time
                            await trio.sleep(BACK_S)
                    if not entered:
                        entered = True
                        task_status.started()
                    nursery.start_soon(self.talk)
            except* LOST:
                await trio.sleep(random.uniform(BACK_S / 2, BACK_S))

    async def _enter(self) -> bool:
        """Whether it is in the room."""
        [answer] = await self.client.ask("joinRoom", {"roomId": self.room, "userId": self.user}, at_once=self._entered)
        entered: bool = answer["ok"]
        return entered

    def _entered(self, answers: list[Any]) -> None:
        [answer] = answers
        if not answer["ok"]:
            return
        self.members = {user["userId"] for user in answer["users"]}
        self._may_have_missed_some = False
        for message in answer["messages"]:
            if message["seq"] > self.last_seq:
                self.hear_message(message["seq"], message["content"])

    async def look_around(self) -> None:
        while self._may_have_missed_some:
            with trio.move_on_after(5), suppress(*LOST):
                await self._enter()
            await trio.sleep(BACK_S)

    async def send(self, content: str) -> int | None:
        [answer] = await self.client.ask("sendMessage", {"roomId": self.room, "content": content})
        return answer["seq"] if answer["ok"] else None

    def hear(self, name: str, data: Any) -> None:
        match name:
            case "receiveMessage":
                self.hear_message(data["seq"], data["content"])
            case "userJoined":
                self.members.add(data["userId"])
            case "userLeft":
                self.hear_left(data["userId"])
            case _:
                self.problems.append(f"{name}: {data}")


class _Socket(SocketIOClient):
    def __init__(self, person: SocketIOPerson) -> None:
        super().__init__(silence_s=PING_S + PING_TIMEOUT_S)
        self._person = person

    def heard(self, name: str, args: list[Any]) -> None:
        self._person.hear(name, args[0])


def everyone() -> list[Person]:
    people: list[Person] = []
    for index in range(PEOPLE):
        label, room = f"client{index}", f"room{index % ROOMS}"
        match index // ROOMS:
            case 0 | 1:
                people.append(NativePerson(label, f"person{index}", room, "msgpack"))
            case 2:
                people.append(NativePerson(label, f"person{index}", room, "json"))
            case 3:
                people.append(SocketIOPerson(label, f"person{index}", room))
            case _:
                people.append(SocketIOPerson(label, f"person{index % ROOMS}", room))
    return people


def visitors(occasion: str) -> list[Person]:
    """One in each room, native and Socket.IO clients by turns."""
    names = [f"{occasion}.{index}" for index in range(ROOMS)]
    return [
        NativePerson(name, name, f"room{index}", "msgpack") if index % 2 else SocketIOPerson(name, name, f"room{index}")
        for index, name in enumerate(names)
    ]
