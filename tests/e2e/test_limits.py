"""A server behind a load balancer that sends PROXY headers: strangers are limited by their own addresses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from tests.e2e.process import ServerProcess
from tests.e2e.test_secrets import UPGRADE, frame, get
from tests.wire.proxy_headers import tcp4_v2

ANN, BOB, DAN, EVE = "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"
SETTINGS = (
    "--set=proxy_protocol=127.0.0.1",
    "--set=limits_exempt=10.0.0.0/8",
    "--set=limit_connecting_address=0.001/6",
    "--set=limit_events_connection=0.001/3",
    "--set=limit_refused_connection=0.001/2",
    "--set=limit_rest_address=0.001/2",
    "--set=connections_per_address_max=5",
)


@asynccontextmanager
async def dial(server: ServerProcess, address: str) -> AsyncIterator[trio.SocketStream]:
    """A connection that the load balancer passes on for somebody."""
    host, _, port = server.address.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(tcp4_v2(address))
        yield stream


async def head_of(stream: trio.SocketStream) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(1)  # no byte of what follows
        assert more, data
        data += bytes(more)
    return data.decode()


async def ask(server: ServerProcess, address: str, target: str) -> str:
    """The head of the answer to a request over HTTP."""
    async with dial(server, address) as stream:
        await stream.send_all(get(target))
        return await head_of(stream)


async def open_websocket(stream: trio.SocketStream) -> str:
    await stream.send_all(f"GET /ws HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n".encode())
    return await head_of(stream)


async def read_frame(stream: trio.SocketStream) -> tuple[int, bytes]:
    data = b""
    while len(data) < 2 or len(data) < 2 + data[1]:
        more = await stream.receive_some(2 + data[1] - len(data) if len(data) >= 2 else 2 - len(data))
        assert more
        data += bytes(more)
    return data[0] & 15, data[2:]


async def test_too_much_is_refused_in_each_protocol_and_abuse_is_closed(tmp_path: Path, database_url: str) -> None:
    with trio.fail_after(90):
        async with ServerProcess.running(tmp_path, "--migrate", *SETTINGS, CATFISH_DATABASE_URL=database_url) as server:
            async with dial(server, ANN) as stream:
                assert (await open_websocket(stream)).startswith("HTTP/1.1 101")
                replies = []
                for id in range(1, 6):
                    await stream.send_all(frame(json.dumps(["ping", id, id])))
                    replies.append(json.loads((await read_frame(stream))[1]))
                assert replies[:3] == [[1, 1], [2, 2], [3, 3]]
                assert [reply[2]["code"] for reply in replies[3:]] == ["rate_limited"] * 2
                assert all(reply[2]["retryAfterMs"] > 0 for reply in replies[3:])
                await stream.send_all(frame(json.dumps(["ping", 6, 6])))
                assert await read_frame(stream) == (8, (4029).to_bytes(2, "big") + b"too many requests")

            async with AsyncExitStack() as stack:
                for _ in range(5):
                    stream = await stack.enter_async_context(dial(server, EVE))
                    assert (await open_websocket(stream)).startswith("HTTP/1.1 101")
                stream = await stack.enter_async_context(dial(server, EVE))
                assert (await head_of(stream)).startswith("HTTP/1.1 429")  # before it asks for anything
                stream = await stack.enter_async_context(dial(server, BOB))
                assert (await open_websocket(stream)).startswith("HTTP/1.1 101")

            polling = "/socket.io/?EIO=4&transport=polling"
            answers = [await ask(server, BOB, polling) for _ in range(6)]
            assert [answer[9:12] for answer in answers] == [*["200"] * 5, "429"], "one was a WebSocket"
            assert "retry-after: " in answers[5].lower()
            async with dial(server, BOB) as stream:
                answer = await open_websocket(stream)
                assert answer.startswith("HTTP/1.1 429"), answer
                assert "Retry-After: " in answer

            path = "/api/messages?roomCode=ABC234"
            assert [(await ask(server, DAN, path))[9:12] for _ in range(3)] == ["404", "404", "429"]
            assert (await ask(server, BOB, path))[9:12] == "404"
            assert (await ask(server, DAN, "/health"))[9:12] == "200"
