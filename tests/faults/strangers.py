"""Strangers: each has one connection to some instance, wants to talk to one other, and notes what it is told."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import trio

from catfish.load.errors import LoadError
from catfish.load.frames import FrameReader, build_client_frame
from catfish.wire.websocket.frames import TEXT
from tests.faults.cluster import Cluster

HELLO, MATCH = 1, 2
"""Ids of the requests."""
REQUEST: Final = (
    b"GET /ws HTTP/1.1\r\nHost: catfish\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RETRY_S = 0.2


class Stranger:
    """
    Args:
        faithful: comes back when its instance dies.
    """

    def __init__(self, user: str, *, faithful: bool) -> None:
        self.user = user
        self.faithful = faithful
        self.gone = False
        self.room: str | None = None
        self.peer: str | None = None
        """The other one, as far as it was told."""
        self.partners: list[str] = []
        """All that it was told of, one after the other."""
        self.problems: list[str] = []

    @property
    def waits(self) -> bool:
        return self.room is not None and self.peer is None

    async def run(self, cluster: Cluster, arrived: Callable[[], None]) -> None:
        """Look for somebody, and stay with whoever is found.

        Args:
            arrived: called with every answer, and when it goes for good.
        """
        while True:
            try:
                await self._visit(await cluster.dial(), arrived)
            except (OSError, trio.BrokenResourceError, LoadError):
                if not self.faithful:
                    self.gone = True
                    arrived()
                    return
            await trio.sleep(RETRY_S * random.random())

    async def _visit(self, stream: trio.SocketStream, arrived: Callable[[], None]) -> None:
        async with stream:
            await stream.send_all(
                REQUEST + _frame("hello", {"user": self.user}, HELLO) + _frame("room:match", {}, MATCH)
            )
            async for envelope in _envelopes(stream):
                match envelope:
                    case [int(id), data]:
                        if id == MATCH:
                            self._matched(data)
                            arrived()
                    case [int(), None, refusal]:
                        if "retryAfterMs" not in refusal:
                            self.problems.append(f"refused: {refusal}")
                        await trio.sleep(refusal.get("retryAfterMs", 1_000) / 1_000)
                        await stream.send_all(_frame("room:match", {}, MATCH))
                    case [str(name), data]:
                        self._hear(name, data)
        raise trio.BrokenResourceError("the server ended the connection")

    def _matched(self, data: Any) -> None:
        if data["matched"] != ("peer" in data):
            self.problems.append(f"a pairing that is none: {data}")
        self.room = data["room"]["id"]
        self._meet(data.get("peer"))

    def _hear(self, name: str, data: Any) -> None:
        match name:
            case "room:joined":
                if data["room"] != self.room:
                    if self.room is not None and self.peer is not None:
                        self.problems.append(f"is moved to {data} from {self.room}, where {self.peer} is")
                    self.room = data["room"]
                elif self.peer not in (None, data["member"]["user"]):
                    self.problems.append(f"hears of {data['member']['user']} while it is with {self.peer}")
                self._meet(data["member"])
            case "room:left" if data["room"] == self.room:
                if data["user"] != self.peer:
                    self.problems.append(f"hears that {data['user']} left while it is with {self.peer}")
                self.peer = None
            case "room:closed" if data["room"] == self.room:
                if self.peer is not None:
                    self.problems.append(f"its room is closed while {self.peer} is there")
                self.room = None
            case "error":
                self.problems.append(f"error: {data}")

    def _meet(self, member: Any) -> None:
        self.peer = None if member is None else member["user"]
        if self.peer == self.user:
            self.problems.append("is matched with itself")
        if self.peer is not None and self.partners[-1:] != [self.peer]:
            self.partners.append(self.peer)


def _frame(event: str, data: Any, id: int) -> bytes:
    return build_client_frame(TEXT, json.dumps([event, data, id]).encode())


async def _envelopes(stream: trio.SocketStream) -> AsyncIterator[Any]:
    head, reader = b"", FrameReader()
    while b"\r\n\r\n" not in head:
        part = await stream.receive_some()
        if not part:
            return
        head += part
    head, _, rest = head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    while True:
        for payload in reader.receive(rest):
            yield json.loads(payload)
        rest = await stream.receive_some()
        if not rest:
            return
