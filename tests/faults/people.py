"""The clients of the fault matrix: they talk all the time, come back by themselves, and keep a log."""

from __future__ import annotations

from typing import Any

import trio

from catfish.client import Backoff, Client, Limits, connect
from tests.faults.cluster import Cluster

ROOMS = 12
PEOPLE = 60
LIMITS = Limits(connect_s=3.0, heartbeat_timeout_s=2.0, close_s=1.0)


class Person:
    def __init__(self, index: int) -> None:
        self.user = f"person{index}"
        self.room = f"room{index % ROOMS}"
        self.seqs: list[int] = []
        """Of the messages that it was told, in the order in which it was."""
        self.contents: dict[int, str] = {}
        self.acknowledged: dict[int, str] = {}
        self.members: set[str] = set()
        self.problems: list[str] = []
        self.talking = False
        self.sending = False
        self.connections = 0
        self._sent = 0

    async def run(self, cluster: Cluster, task_status: trio.TaskStatus[None]) -> None:
        backoff = Backoff(first_s=0.2, max_s=1.0)
        url = cluster.instances[0].url
        async with connect(url, user=self.user, dial=cluster.dial, limits=LIMITS, backoff=backoff) as client:
            joined = await client.join(self.room)
            self.members = {member["user"] for member in joined["members"]}
            for message in joined["messages"]:
                self._hear_message(message)
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, client)
                async for event in client.events:
                    self._hear(event.name, event.data)
                    self.connections = client.statistics().connections

    async def _talk(self, client: Client) -> None:
        while True:
            await trio.sleep(0.8)
            if not self.talking:
                continue
            self._sent += 1
            content = f"{self._sent} of {self.user}"
            self.sending = True
            answer = await client.send(self.room, content)
            self.acknowledged[answer["seq"]] = content
            self.sending = False

    def _hear(self, name: str, data: Any) -> None:
        match name:
            case "chat:message":
                self._hear_message(data)
            case "room:joined":
                self.members.add(data["member"]["user"])
            case "room:left":
                self.members.discard(data["user"])
                if data["user"] == self.user:
                    self.problems.append("is told that it left itself")
            case "client:resumed":
                self.members = {member["user"] for member in data["members"]}
            case "client:refused" | "client:reset" | "error" | "room:closed":
                self.problems.append(f"{name}: {data}")

    def _hear_message(self, message: dict[str, Any]) -> None:
        self.seqs.append(message["seq"])
        self.contents[message["seq"]] = message["content"]
