"""Over TCP with clients that are not ours, against the server of `docs/socketio.md`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import trio
from engineio import Client as EngineClient  # type: ignore[import-untyped]
from socketio import Client as SocketClient  # type: ignore[import-untyped]

from tests.server.docs import open_documented


class OrderedEngine(EngineClient):  # type: ignore[misc]
    """Calls its handlers one after the other; else it starts a thread for each message, and those race."""

    def _trigger_event(self, event: str, *args: object, **kwargs: object) -> object:
        kwargs.pop("run_async", None)
        return super()._trigger_event(event, *args, run_async=False, **kwargs)


class OrderedClient(SocketClient):  # type: ignore[misc]
    def _engineio_client_class(self) -> type[OrderedEngine]:
        return OrderedEngine


class Heard:
    """What a client of `python-socketio`, which has threads, has heard: namespace, event, arguments."""

    def __init__(self, **options: Any) -> None:
        self.client = OrderedClient(**options)
        self._send, self._receive = trio.open_memory_channel[tuple[Any, ...]](math.inf)
        token = trio.lowlevel.current_trio_token()
        for namespace in ("/", "/custom"):
            self.client.on(
                "*",
                lambda event, *args, namespace=namespace: token.run_sync_soon(
                    self._send.send_nowait, (namespace, event, *args)
                ),
                namespace=namespace,
            )

    async def next(self) -> tuple[Any, ...]:
        return await self._receive.receive()

    async def next_of(self, count: int) -> list[tuple[Any, ...]]:
        return [await self.next() for _ in range(count)]


async def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


@pytest.mark.parametrize(
    ("transports", "transport"),
    [(["polling"], "polling"), (["websocket"], "websocket"), (["polling", "websocket"], "websocket")],
)
async def test_python_socketio_uses_all_of_it(
    transports: list[str], transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_documented("socketio.md", monkeypatch) as url:
        heard = Heard()
        client = heard.client
        await in_thread(
            client.connect, url, namespaces=["/", "/custom"], auth={"token": 1}, transports=transports, wait=True
        )
        assert client.transport() == transport
        assert sorted(await heard.next_of(2)) == [("/", "auth", {"token": 1}), ("/custom", "auth", {"token": 1})]
        for number in range(100):
            client.emit("message", (number, "é😀", {"a": [None, True, 1.5]}))
        client.emit("message", (b"\0\1", {"b": b""}))
        client.emit("message", "other", namespace="/custom")
        back = await heard.next_of(102)
        assert back[:100] == [("/", "message-back", number, "é😀", {"a": [None, True, 1.5]}) for number in range(100)]
        assert back[100] == ("/", "message-back", b"\0\1", {"b": b""})
        assert back[101] == ("/custom", "message-back", "other")
        answers: list[Any] = []
        came = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def answered(*args: Any) -> None:
            answers.extend(args)
            token.run_sync_soon(came.set)

        client.emit("message-with-ack", (1, b"\2"), callback=answered)
        await came.wait()
        assert answers == [1, b"\2"]
        await in_thread(client.disconnect)


async def test_python_socketio_hears_that_a_namespace_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_documented("socketio.md", monkeypatch) as url:
        client = SocketClient(reconnection=False)
        errors: list[Any] = []
        client.on("connect_error", errors.append, namespace="/nowhere")
        with pytest.raises(Exception, match="namespaces failed to connect"):
            await in_thread(client.connect, url, namespaces=["/nowhere"], transports=["websocket"])
        assert errors == [{"message": "Invalid namespace"}]
        await in_thread(client.disconnect)
