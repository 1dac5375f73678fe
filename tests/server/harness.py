"""A server without sockets: an instance on a store in memory, and clients that speak the native protocol to it.

server = await start_server(nursery)
ann = server.connect()
await ann.ask("room:join", {"room": "lobby"})
assert ann.heard("room:joined") == [...]
"""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from catfish.config import Settings
from catfish.errors import INTERNAL_ERROR, Close, PeerError
from catfish.net.timers import Timers
from catfish.server.instance import Instance
from catfish.server.native import NativeEndpoint, NativeSession
from catfish.wire.http import RequestHead
from catfish.wire.native import Codec, Event, Refusal, Reply, by_subprotocol
from tests.doubles.memory_store import MemoryStore


class FakeConnection:
    """What a session sees of a connection: frames go in, and it can be paused and closed."""

    def __init__(
        self,
        subprotocol: str | None,
        target: str = "/ws",
        headers: dict[str, str] | None = None,
        address: str = "unix",
    ) -> None:
        self.subprotocol = subprotocol
        self.address = address
        self.compresses = False
        path, _, query = target.partition("?")
        self.head = RequestHead("GET", target, path, query, (1, 1), headers or {})
        self.frames: list[bytes] = []
        self.paused = False
        self.close_called: Close | None = None

    def send(self, frame: bytes) -> None:
        if self.close_called is None:
            self.frames.append(frame)

    def close(self, close: Close) -> None:
        if self.close_called is None:
            self.close_called = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def payload_of(frame: bytes) -> bytes:
    """Payload of an unmasked frame (RFC 6455 section 5.2)."""
    length = frame[1]
    start = {126: 4, 127: 10}.get(length, 2)
    return frame[start:]


class Client:
    """One client of the native protocol."""

    def __init__(self, server: Server, subprotocol: str | None, target: str, headers: dict[str, str]) -> None:
        self.connection = FakeConnection(subprotocol, target, headers, server.next_address)
        self.codec: Codec = by_subprotocol(subprotocol)
        self.session: NativeSession = server.endpoint.open(self.connection)  # type: ignore[arg-type]
        self.events: list[Event] = []
        self.replies: dict[int, Any] = {}
        self.errors: list[Refusal] = []
        self.order: list[str] = []
        self._next_id = 0
        self.scope = trio.CancelScope()
        server.nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                await self.session.run()
            except Exception as error:  # noqa: BLE001 - the crash boundary of a connection's task
                self.crash: Exception = error
                self.connection.close(INTERNAL_ERROR)

    def send(self, event: str, data: Any = None, id: int | None = None) -> None:
        """Send a request without waiting for anything."""
        encoded = self.codec.encode_request(event, data, id)
        self.raw(encoded.decode() if self.codec.opcode == 1 else encoded)

    def raw(self, message: str | bytes) -> None:
        try:
            self.session.receive(message)
        except PeerError as error:
            self.connection.close(error.close)
        except Exception as error:  # noqa: BLE001 - the crash boundary of the hub
            self.crash = error
            self.connection.close(INTERNAL_ERROR)

    def request(self, event: str, data: Any = None) -> int:
        """Send a request that wants a reply; its id."""
        self._next_id += 1
        self.send(event, data, self._next_id)
        return self._next_id

    async def ask(self, event: str, data: Any = None) -> Any:
        """Send a request and return what it was answered: the reply's data, or a `Refusal`."""
        id = self.request(event, data)
        await wait_all_tasks_blocked()
        self.read()
        return self.replies.pop(id)

    def read(self) -> None:
        """Sort what has come."""
        frames, self.connection.frames[:] = list(self.connection.frames), []
        for frame in frames:
            payload = payload_of(frame)
            message = self.codec.decode(payload.decode() if self.codec.opcode == 1 else payload)
            match message:
                case Event(name=name):
                    self.events.append(message)
                    self.order.append(name)
                case Reply(id=id, data=data):
                    self.replies[id] = data
                    self.order.append(f"reply {id}")
                case Refusal(id=None):
                    self.errors.append(message)
                case Refusal(id=int(id)):
                    self.replies[id] = message
                    self.order.append(f"refusal {id}")

    def heard(self, name: str) -> list[Any]:
        """Data of the events of that name that came since the last call."""
        self.read()
        found = [event.data for event in self.events if event.name == name]
        self.events = [event for event in self.events if event.name != name]
        return found

    async def vanish(self) -> None:
        """The connection is lost."""
        self.connection.close(INTERNAL_ERROR)
        self.session.closed(INTERNAL_ERROR)
        await wait_all_tasks_blocked()


class Server:
    def __init__(self, nursery: trio.Nursery, store: MemoryStore, settings: Settings) -> None:
        self.nursery = nursery
        self.store = store
        self.timers = Timers()
        self.instance = Instance(settings, store, self.timers)
        self.endpoint = NativeEndpoint(self.instance)
        self.next_address = "unix"
        """Where the next client comes from."""

    def connect(self, subprotocol: str | None = None, target: str = "/ws", **headers: str) -> Client:
        return Client(self, subprotocol, target, headers)

    async def join(self, room: str, *names: str) -> list[Client]:
        """Clients of these user names, who are all in the room and have heard of each other."""
        clients = []
        for name in names:
            client = self.connect()
            await client.ask("hello", {"user": name})
            await client.ask("room:join", {"room": room})
            clients.append(client)
        for client in clients:
            client.read()
            client.events.clear()
            client.order.clear()
        return clients


async def start_server(nursery: trio.Nursery, store: MemoryStore | None = None, **settings: Any) -> Server:
    server = Server(nursery, store or MemoryStore(), Settings(**settings))
    await nursery.start(server.timers.run)
    await nursery.start(server.instance.run)
    return server
