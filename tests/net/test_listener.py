"""The listener on real sockets: accepting, refusing, running out of descriptors, stopping."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.errors import GOING_AWAY
from catfish.net import hub
from catfish.net import listener as module
from catfish.net.binds import BindError
from catfish.net.connection import Connection
from catfish.net.handoff import ReplayStream
from catfish.net.hub import HubConnection
from catfish.net.listener import Listener, serve
from catfish.net.stream_driver import StreamConnection
from catfish.wire.http import HttpRefusal
from catfish.wire.websocket.frames import BINARY, CLOSE, TEXT
from tests.net.harness import CERTIFICATE, HANDSHAKE, KEY, Peer, RecordingEndpoint, client_context
from tests.net.test_connection import close_payload, echo
from tests.wire.peer import client_frame


async def answer_http(stream: ReplayStream) -> None:
    await stream.receive_some(10_000)
    await stream.send_all(HttpRefusal(404, "Nothing.").response())


@asynccontextmanager
async def listening(endpoint: RecordingEndpoint | None = None, **settings: Any) -> AsyncIterator[Listener]:
    endpoint = endpoint or RecordingEndpoint(echo)
    settings.setdefault("bind", ("127.0.0.1:0",))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(serve, Settings(**settings), lambda head: endpoint, answer_http))
            nursery.cancel_scope.cancel()


async def dial(address: str) -> Peer:
    if address.startswith("unix:"):
        return Peer(await trio.open_unix_socket(address[5:]))
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    stream: trio.abc.Stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    if scheme == "https":
        stream = trio.SSLStream(stream, client_context(), server_hostname=host.strip("[]"), https_compatible=True)
    return Peer(stream)


async def shake(peer: Peer) -> None:
    await peer.send(HANDSHAKE + b"\r\n")
    answer = await peer.reads_answer()
    assert answer.startswith(b"HTTP/1.1 101 "), answer


async def talk(peer: Peer) -> None:
    await peer.send(client_frame(TEXT, b"hello"))
    assert await peer.frame() == (TEXT, b"hello")


async def bye(peer: Peer) -> None:
    await peer.send(client_frame(CLOSE, close_payload(1000)))
    assert await peer.close_frame() == (1000, "")
    assert await peer.rest() == b""
    await peer.leave()


async def test_every_address_serves_the_same(tmp_path: Path) -> None:
    endpoint = RecordingEndpoint(echo)
    async with listening(endpoint, bind=("127.0.0.1:0", f"unix:{tmp_path}/sock", "127.0.0.1:0")) as listener:
        assert len(listener.addresses) == 3
        for address in listener.addresses:
            peer = await dial(address)
            await shake(peer)
            await talk(peer)
            await bye(peer)
        peers = [recording.connection.peer for recording in endpoint.recordings]
        assert peers[1] == "unix"
        assert peers[0].startswith("127.0.0.1:")
        assert listener.statistics().accepted == 3
        assert listener.statistics().connections.closes == {1000: 3}
        if hub.AVAILABLE:
            assert all(type(recording.connection) is HubConnection for recording in endpoint.recordings)


async def test_tls_serves_the_same() -> None:
    endpoint = RecordingEndpoint(echo)
    async with listening(endpoint, tls_certificate=CERTIFICATE, tls_key=KEY) as listener:
        peer = await dial(listener.addresses[0])
        await shake(peer)
        await talk(peer)
        message = bytes(range(256)) * 300
        await peer.send(client_frame(BINARY, message))
        assert await peer.frame() == (BINARY, message)
        await bye(peer)
        assert type(endpoint.recording.connection) is StreamConnection


async def test_without_epoll_every_connection_is_driven_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "AVAILABLE", False)
    endpoint = RecordingEndpoint(echo)
    async with listening(endpoint) as listener:
        peer = await dial(listener.addresses[0])
        await shake(peer)
        await talk(peer)
        await bye(peer)
        assert type(endpoint.recording.connection) is StreamConnection
        assert listener.statistics().hub is None


async def test_who_speaks_no_tls_is_closed_and_the_others_go_on() -> None:
    async with listening(tls_certificate=CERTIFICATE, tls_key=KEY, request_head_timeout_s=0.3) as listener:
        plain = Peer(await trio.open_tcp_stream("127.0.0.1", int(listener.addresses[0].rpartition(":")[2])))
        await plain.send(HANDSHAKE + b"\r\n")
        silent = Peer(await trio.open_tcp_stream("127.0.0.1", int(listener.addresses[0].rpartition(":")[2])))
        await plain.rest()
        assert await silent.rest() == b""  # after the time for a head
        for peer in (plain, silent):
            await peer.leave()
        peer = await dial(listener.addresses[0])
        await shake(peer)
        await bye(peer)


@pytest.mark.parametrize("tls", [False, True])
async def test_one_connection_too_many_is_answered_503(tls: bool) -> None:
    settings: dict[str, Any] = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    async with listening(connections_max=2, **settings) as listener:
        first, second = await dial(listener.addresses[0]), await dial(listener.addresses[0])
        await shake(first)
        await shake(second)
        third = await dial(listener.addresses[0])
        await third.send(HANDSHAKE + b"\r\n")
        answer = await third.reads_answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        await third.leave()
        assert listener.statistics().overloaded == 1
        await bye(first)
        while listener.statistics().streams > 1:
            await trio.testing.wait_all_tasks_blocked()
        fourth = await dial(listener.addresses[0])
        await shake(fourth)
        for peer in (second, fourth):
            await bye(peer)


async def test_a_flood_beyond_the_limit_costs_no_more_than_so_many_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFUSALS_MAX", 1)
    async with listening(connections_max=1) as listener:
        first = await dial(listener.addresses[0])
        await shake(first)
        answered = await dial(listener.addresses[0])
        assert (await answered.reads_answer()).startswith(b"HTTP/1.1 503 ")
        closed = await dial(listener.addresses[0])
        assert await closed.rest() == b""
        for peer in (answered, closed):
            await peer.leave()
        await bye(first)


class ExhaustedSocket:
    """A listening socket whose kernel has run out of descriptors for a while."""

    def __init__(self, sock: socket.socket, failures: list[int]) -> None:
        self._sock = sock
        self._failures = failures

    def accept(self) -> tuple[socket.socket, Any]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_running_out_of_descriptors_is_said_once_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    async with listening() as listener:
        [bound] = listener._bounds
        bound.sock = ExhaustedSocket(  # type: ignore[assignment]
            bound.sock, [errno.EMFILE, errno.ENFILE, errno.EMFILE, errno.ECONNABORTED, errno.ENOBUFS]
        )
        peer = await dial(listener.addresses[0])
        await shake(peer)
        await talk(peer)
        await bye(peer)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["cannot accept connections; trying again"]


async def test_after_stop_accepting_nobody_comes_in_and_those_inside_go_on(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    async with listening(bind=("127.0.0.1:0", f"unix:{path}")) as listener:
        peer = await dial(listener.addresses[0])
        await shake(peer)
        waiting = await dial(listener.addresses[0])  # accepted; its request comes too late
        await trio.testing.wait_all_tasks_blocked(0.01)
        listener.stop_accepting()
        listener.stop_accepting()
        assert not listener.statistics().accepting
        with pytest.raises(OSError, match="all attempts to connect"):
            await dial(listener.addresses[0])
        assert not path.exists()
        await talk(peer)
        await waiting.send(HANDSHAKE + b"\r\n")
        assert (await waiting.reads_answer()).startswith(b"HTTP/1.1 503 ")
        await waiting.leave()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.drain, GOING_AWAY, 5)
            assert (await peer.close_frame())[0] == 1001
            await peer.send(client_frame(CLOSE, close_payload(1001)))
            assert await peer.rest() == b""
        await peer.leave()


async def test_an_address_that_is_taken_is_refused_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BindError):
        await serve(Settings(bind=(f"127.0.0.1:{taken.getsockname()[1]}",)), lambda head: None, answer_http)


async def test_cancelling_the_server_closes_everything() -> None:
    endpoint = RecordingEndpoint(echo)
    peers = []
    async with listening(endpoint) as listener:
        for _ in range(3):
            peers.append(await dial(listener.addresses[0]))
            await shake(peers[-1])
        peers.append(await dial(listener.addresses[0]))
        await trio.testing.wait_all_tasks_blocked(0.01)
    for peer in peers:
        assert await peer.rest() == b""
        await peer.leave()
    assert [len(recording.closes) for recording in endpoint.recordings] == [1, 1, 1]
    connection: Connection = endpoint.recording.connection
    assert not connection.is_open
