"""A Socket.IO client in small, on the frames of trio-websocket: connects, recovers its session, counts what it
hears."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.e2e.clients import open_trio_websocket


class SocketIOClient:
    """One client over all its connections. `pid` and `offset` are handled as socket.io-client does it."""

    def __init__(self) -> None:
        self.sid = ""
        self.pid: str | None = None
        self.offset: str | None = None
        self.recovered: list[bool] = []
        self._send_events, self.events = trio.open_memory_channel[tuple[str, list[Any]]](math.inf)
        self._answers: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._next_id = 0
        self._connection: Any = None

    @asynccontextmanager
    async def connected(self, address: str, path: str = "/socket.io/") -> AsyncIterator[None]:
        url = f"ws://{address}{path}?EIO=4&transport=websocket"
        async with open_trio_websocket(url, None) as connection, trio.open_nursery() as nursery:
            self._connection = connection
            assert str(await connection.get_message()).startswith('0{"sid"')
            auth = {"pid": self.pid, "offset": self.offset} if self.pid and self.offset else {}
            await connection.send_message("40" + msgspec.json.encode(auth).decode())
            answer = str(await connection.get_message())
            assert answer.startswith("40{"), answer
            known = msgspec.json.decode(answer[2:])
            self.recovered.append(bool(self.pid) and known.get("pid") == self.pid)
            self.sid, self.pid = known["sid"], known.get("pid")
            nursery.start_soon(self._read, connection)
            yield
            nursery.cancel_scope.cancel()

    async def _read(self, connection: Any) -> None:
        while True:
            message = await connection.get_message()
            if message == "2":
                await connection.send_message("3")
            elif message.startswith("42"):
                name, *args = msgspec.json.decode(message[2:])
                if self.pid is not None and args and isinstance(args[-1], str):
                    self.offset = args[-1]
                self._send_events.send_nowait((name, args))
            elif message.startswith("43"):
                digits = message[2 : message.index("[")]
                answered, answer = self._answers.pop(int(digits))
                answer += msgspec.json.decode(message[2 + len(digits) :])
                answered.set()

    async def ask(self, name: str, *args: Any) -> list[Any]:
        """Emit, and wait for the acknowledgement."""
        self._next_id += 1
        answered, answer = trio.Event(), list[Any]()
        self._answers[self._next_id] = answered, answer
        await self._connection.send_message(f"42{self._next_id}" + msgspec.json.encode([name, *args]).decode())
        await answered.wait()
        return answer
