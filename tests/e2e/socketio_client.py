"""A Socket.IO client in small, on the frames of trio-websocket: connects, recovers its session, counts what it
hears."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.e2e.clients import open_trio_websocket


class SocketIOClient:
    """One client over all its connections. `pid` and `offset` are handled as socket.io-client does it.

    Args:
        silence_s: without a packet for so long (the server pings) the connection counts as dead: trio.TooSlowError.
    """

    def __init__(self, *, silence_s: float = math.inf) -> None:
        self._silence_s = silence_s
        self.sid = ""
        self.pid: str | None = None
        self.offset: str | None = None
        self.recovered: list[bool] = []
        self._send_events, self.events = trio.open_memory_channel[tuple[str, list[Any]]](math.inf)
        self._answers: dict[int, tuple[trio.Event, list[Any], Callable[[list[Any]], None] | None]] = {}
        self._next_id = 0
        self._connection: Any = None

    @asynccontextmanager
    async def connected(self, address: str, path: str = "/socket.io/") -> AsyncIterator[None]:
        url = f"ws://{address}{path}?EIO=4&transport=websocket"
        async with open_trio_websocket(url, None) as connection, trio.open_nursery() as nursery:
            self._connection = connection
            assert (await self._next(connection)).startswith('0{"sid"')
            # Who was cut off before its first event has no offset, and is recovered all the same.
            known = (("pid", self.pid), ("offset", self.offset))
            auth = {name: value for name, value in known if self.pid is not None and value is not None}
            await connection.send_message("40" + msgspec.json.encode(auth).decode())
            while (answer := await self._next(connection)) == "2":
                await connection.send_message("3")
            assert answer.startswith("40{"), answer
            told = msgspec.json.decode(answer[2:])
            self.recovered.append(bool(self.pid) and told.get("pid") == self.pid)
            self.sid, self.pid = told["sid"], told.get("pid")
            nursery.start_soon(self._read, connection)
            yield
            nursery.cancel_scope.cancel()

    async def _next(self, connection: Any) -> str:
        with trio.fail_after(self._silence_s):
            return str(await connection.get_message())

    async def _read(self, connection: Any) -> None:
        while True:
            message = await self._next(connection)
            if message == "2":
                await connection.send_message("3")
            elif message.startswith("42"):
                name, *args = msgspec.json.decode(message[2:])
                if self.pid is not None and args and isinstance(args[-1], str):
                    self.offset = args[-1]
                self.heard(name, args)
            elif message.startswith("43"):
                digits = message[2 : message.index("[")]
                answered, answer, at_once = self._answers.pop(int(digits))
                answer += msgspec.json.decode(message[2 + len(digits) :])
                if at_once is not None:
                    at_once(answer)
                answered.set()

    def heard(self, name: str, args: list[Any]) -> None:
        """An event has come; called in the order in which everything comes."""
        self._send_events.send_nowait((name, args))

    async def ask(self, name: str, *args: Any, at_once: Callable[[list[Any]], None] | None = None) -> list[Any]:
        """Emit, and wait for the acknowledgement. `at_once` gets it in its turn among the events."""
        self._next_id += 1
        id, answered, answer = str(self._next_id), trio.Event(), list[Any]()
        self._answers[self._next_id] = answered, answer, at_once
        await self._connection.send_message(f"42{id}" + msgspec.json.encode([name, *args]).decode())
        await answered.wait()
        return answer
