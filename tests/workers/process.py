"""`catfish serve --workers N` in processes of its own, and raw requests to it, each on a connection of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

import trio

from tests.e2e.process import ServerProcess, until
from tests.net.harness import client_context

STARTED = re.compile(rb"a worker is started worker=(\d+) pid=(\d+)")
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
NO_REDIS = "redis://127.0.0.1:1/"
"""Nobody listens there: sessions need none, and rooms are not what these tests are about."""


class WorkersProcess(ServerProcess):
    """With settings in a file, which may be changed; see `serving`."""

    file: Path
    count: int
    tls = False
    _written: dict[str, Any]

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, directory: Path, database_url: str, *options: str, count: int = 3, **settings: Any
    ) -> AsyncIterator[Self]:
        """Start it, with a database that is there already; end it.

        Args:
            directory: of the state and the settings.
            settings: further ones, as `catfish.toml` has them.
        """
        async with trio.open_nursery() as nursery:
            file = directory / "settings.toml"
            server = cls(nursery, directory / "state", "--config", str(file), *options)
            server.file, server.count = file, count
            server._written = {"database_url": database_url, "redis_url": NO_REDIS, "workers": count, "grace_s": 1}
            server.tls = "tls_certificate" in settings
            server.write(**settings)
            try:
                await server.start()
                yield server
            finally:
                with trio.CancelScope(shield=True):
                    if server.exit_status is None and server._process is not None:
                        await server.end(signal.SIGTERM)
                nursery.cancel_scope.cancel()

    def write(self, **settings: Any) -> None:
        """Change the settings, for a reload."""
        self._written |= settings
        self.file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in self._written.items()))

    @property
    def started(self) -> list[tuple[int, int]]:
        """Index and process id of every worker that was started, in order."""
        return [(int(index), int(pid)) for index, pid in STARTED.findall(self.output)]

    @property
    def pids(self) -> dict[int, int]:
        """The latest process of each worker."""
        return dict(self.started)

    def kill_worker(self, index: int) -> None:
        os.kill(self.pids[index], signal.SIGKILL)

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def says(self, text: str) -> bool:
        return text.encode() in self.output

    async def told(self, text: str, times: int = 1) -> None:
        """Wait until it has said this so often."""
        await until(lambda: self.output.count(text.encode()) >= times)

    async def healths(self) -> dict[int, Any]:
        """What each worker says of itself."""
        found: dict[int, Any] = {}
        async with AsyncExitStack() as stack:
            while len(found) < self.count:
                # They stay open, so that the next one is left to another worker.
                stream = await self.dial()
                stack.push_async_callback(stream.aclose)
                await stream.send_all(f"GET /health HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
                answer = await read_one(stream)
                assert answer.status == 200
                health = json.loads(answer.body)
                found[health["worker"]] = health
        return found

    async def connections(self) -> list[int]:
        """How many sessions and WebSockets each worker has."""
        return [health["connections"] for _, health in sorted((await self.healths()).items())]

    async def ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        stream = await self.start_asking(method, target, body)
        async with stream:
            return parse(await read_all(stream))

    async def start_asking(self, method: str, target: str, body: bytes = b"") -> Stream:
        stream = await self.dial()
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n"
        await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return stream

    async def open_websocket(self) -> Stream:
        """A WebSocket that says nothing and hears nothing."""
        stream = await self.dial()
        await stream.send_all(HANDSHAKE)
        answer = await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 101"), answer
        return stream

    async def dial(self) -> Stream:
        host, _, port = self.address.partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        if not self.tls:
            return stream
        return trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)


@contextmanager
def serving_in_a_thread(directory: Path, database_url: str, **settings: Any) -> Iterator[WorkersProcess]:
    """A server that several tests use, each with an event loop of its own. It ends gently, without an error."""
    started: SimpleQueue[tuple[WorkersProcess, Callable[[], None]] | None] = SimpleQueue()
    failures: list[BaseException] = []

    async def serve() -> None:
        stop = trio.Event()
        token = trio.lowlevel.current_trio_token()
        async with WorkersProcess.serving(directory, database_url, **settings) as server:
            started.put((server, partial(token.run_sync_soon, stop.set)))
            await stop.wait()
            assert await server.end(signal.SIGTERM) == 0
            assert not server.says("ERROR"), server.output.decode()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:  # noqa: BLE001 - raised where the thread is waited for
            failures.append(error)
            started.put(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        running = started.get()
        if running is not None:
            server, stop = running
            try:
                yield server
            finally:
                stop()
    finally:
        thread.join()
    if failures:
        raise failures[0]


class Answer(NamedTuple):
    status: int
    head: str
    body: bytes


async def read_one(stream: Stream) -> Answer:
    """One answer on a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        assert more, data
        data += more
    length = int(parse(data).head.split("content-length: ")[1].split("\r\n")[0])
    while len(parse(data).body) < length:
        data += await stream.receive_some()
    return parse(data)


async def read_all(stream: Stream) -> bytes:
    return b"".join([data async for data in stream])


def parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head, "the connection was closed without an answer"
    return Answer(int(head.split()[1]), head.decode().lower(), body)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
