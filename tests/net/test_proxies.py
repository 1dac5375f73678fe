"""Who the client is behind proxies, for WebSockets and for HTTP, with and without PROXY headers."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.config import Config

from catfish.config import Settings
from catfish.net.handoff import HypercornHandoff
from catfish.net.listener import Listener, serve
from catfish.net.plain_stream import PlainStream
from catfish.net.proxies import Proxies
from catfish.wire.websocket.frames import TEXT
from tests.net.harness import CERTIFICATE, HANDSHAKE, KEY, Peer, RecordingEndpoint, client_context
from tests.net.test_connection import echo
from tests.net.test_handoff import App
from tests.wire.peer import bytewise, client_frame
from tests.wire.proxy_headers import LOCAL, build_v2, tcp4, tcp4_v2

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
FORWARDED = b"X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n"
HERE = ("127.0.0.0/8",)


class House:
    """A listener whose WebSockets and HTTP requests are all remembered."""

    def __init__(self) -> None:
        self.endpoint = RecordingEndpoint(echo)
        self.app = App()
        self.listener: Listener

    @property
    def clients(self) -> list[tuple[str, str]]:
        """Name of the peer and address of the client, of each WebSocket."""
        connections = [recording.connection for recording in self.endpoint.recordings]
        return [(connection.peer, connection.address) for connection in connections]

    async def dial(self, first: bytes = b"") -> Peer:
        """A connection whose first bytes are sent in the clear."""
        address = self.listener.addresses[0]
        stream: trio.abc.Stream
        if address.startswith("unix:"):
            stream = await trio.open_unix_socket(address[5:])
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))
        await stream.send_all(first)
        if address.startswith("https:"):
            stream = trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)
        return Peer(stream)

    async def shake(self, first: bytes = b"", fields: bytes = b"") -> None:
        peer = await self.dial(first)
        await peer.send(HANDSHAKE + fields + b"\r\n" + client_frame(TEXT, b"hello"))
        assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")
        assert await peer.frame() == (TEXT, b"hello")
        await peer.leave()


@asynccontextmanager
async def open_house(**settings: Any) -> AsyncIterator[House]:
    house = House()
    handoff = HypercornHandoff(house.app, Config())  # type: ignore[arg-type]
    settings.setdefault("bind", ("127.0.0.1:0",))

    def route(head: Any) -> RecordingEndpoint:
        return house.endpoint

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(handoff.run)
            house.listener = await nursery.start(partial(serve, Settings(**settings), route, handoff))
            yield house
            nursery.cancel_scope.cancel()


async def test_without_proxies_the_client_is_who_is_connected() -> None:
    async with open_house() as house:
        await house.shake(fields=FORWARDED)
        ((peer, address),) = house.clients
        assert peer.startswith("127.0.0.1:")
        assert address == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "fields", "client"),
    [
        ({"trusted_proxies": HERE}, FORWARDED, "203.0.113.9"),
        ({"trusted_proxies": ("127.0.0.1", "203.0.113.0/24")}, FORWARDED, "198.51.100.1"),
        ({"trusted_proxies": HERE}, b"X-Forwarded-For: a\r\nX-Forwarded-For: 2001:db8::9\r\n", "2001:db8::9"),
        ({"trusted_proxies": HERE}, b"", "127.0.0.1"),
        ({"trusted_proxies": HERE}, b'Forwarded: for="[2001:db8::9]:1"\r\n', "127.0.0.1"),
        (
            {"trusted_proxies": HERE, "proxy_field": "forwarded"},
            b'Forwarded: for="[2001:db8::9]:1"\r\n' + FORWARDED,
            "2001:db8::9",
        ),
        ({"trusted_proxies": ("192.0.2.1",)}, FORWARDED, "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_says_who_the_client_is(settings: dict[str, Any], fields: bytes, client: str) -> None:
    async with open_house(**settings) as house:
        await house.shake(fields=fields)
        ((peer, address),) = house.clients
        assert peer.startswith("127.0.0.1:")
        assert address == client


async def test_a_proxy_may_come_over_a_unix_socket(tmp_path: Any) -> None:
    async with open_house(bind=(f"unix:{tmp_path}/sock",), trusted_proxies=("unix",)) as house:
        await house.shake(fields=FORWARDED)
        assert house.clients == [("unix", "203.0.113.9")]


@pytest.mark.parametrize("build", [tcp4, tcp4_v2])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_proxy_header_comes_before_everything_else(build: Callable[..., bytes], tls: bool) -> None:
    files = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    async with open_house(proxy_protocol=HERE, **files) as house:
        await house.shake(build("203.0.113.9", 4711))
        assert house.clients == [("203.0.113.9:4711", "203.0.113.9")]
        peer = await house.dial(build("203.0.113.9", 4712))
        await peer.send(GET)
        assert (await peer.reads_answer()).startswith(b"HTTP/1.1 200 ")
        await peer.leave()
        assert house.app.scopes[0]["client"] == ("203.0.113.9", 4712)
        assert house.app.scopes[0]["scheme"] == ("https" if tls else "http")


async def test_a_proxy_header_may_come_in_pieces_and_nothing_behind_it_is_lost() -> None:
    async with open_house(proxy_protocol=HERE) as house:
        for data in (tcp4("203.0.113.9"), tcp4_v2("203.0.113.9")):
            peer = await house.dial()
            for piece in bytewise(data):
                await peer.send(piece)
                await trio.lowlevel.checkpoint()
            await peer.send(HANDSHAKE + b"\r\n" + client_frame(TEXT, b"hello"))
            assert (await peer.reads_answer()).startswith(b"HTTP/1.1 101 ")
            assert await peer.frame() == (TEXT, b"hello")
            await peer.leave()
        assert {address for _, address in house.clients} == {"203.0.113.9"}


async def test_behind_a_proxy_header_a_trusted_proxy_may_speak_for_somebody_else() -> None:
    async with open_house(proxy_protocol=HERE, trusted_proxies=("192.0.2.7",)) as house:
        await house.shake(tcp4("192.0.2.7"), FORWARDED)
        await house.shake(tcp4("192.0.2.8"), FORWARDED)
        assert [address for _, address in house.clients] == ["203.0.113.9", "192.0.2.8"]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", build_v2(LOCAL, 0, b"")])
async def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    async with open_house(proxy_protocol=HERE) as house:
        await house.shake(header)
        ((peer, address),) = house.clients
        assert peer.startswith("127.0.0.1:")
        assert address == "127.0.0.1"


@pytest.mark.parametrize(
    "data", [GET, b"PROXY TCP4 nonsense\r\n" + GET, b"PROXY TCP4 203.0.113.9", b"\r\n\r\n\x00\r\nQ"]
)
async def test_without_a_proper_header_a_connection_of_such_a_proxy_is_closed(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "catfish")
    async with open_house(proxy_protocol=HERE, request_head_timeout_s=0.2) as house:
        for _ in range(2):
            peer = await house.dial(data)
            assert await peer.rest() == b""
            await peer.leave()
        assert house.listener.statistics().unannounced == 2
        await house.shake(tcp4("203.0.113.9"))
    assert house.app.scopes == []
    levels = [record.levelname for record in caplog.records if record.message.startswith("closed a connection")]
    assert levels == ["WARNING", "DEBUG"], "said once, not for each"


async def test_a_proxy_that_only_looks_whether_we_are_there_is_no_fault() -> None:
    async with open_house(proxy_protocol=HERE) as house:
        peer = await house.dial()
        await peer.end()
        assert await peer.rest() == b""
        await peer.leave()
        assert house.listener.statistics().unannounced == 0


async def test_a_proxy_header_of_anybody_else_is_no_request() -> None:
    async with open_house(proxy_protocol=("192.0.2.1",)) as house:
        peer = await house.dial(tcp4("203.0.113.9") + GET)
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")
        await peer.leave()


async def test_who_came_by_another_worker_keeps_its_address() -> None:
    async with open_house(trusted_proxies=("192.0.2.1",)) as house:
        for peer, client in (("203.0.113.5:1", "203.0.113.5"), ("192.0.2.1:1", "203.0.113.9")):
            ours, theirs = socket.socketpair()
            for sock in (ours, theirs):
                sock.setblocking(False)
            house.listener.adopt(ours, peer, HANDSHAKE + FORWARDED + b"\r\n")
            other = Peer(PlainStream(theirs))
            assert (await other.reads_answer()).startswith(b"HTTP/1.1 101 ")
            assert house.clients[-1] == (peer, client)
            await other.leave()
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        house.listener.adopt(ours, "[2001:db8::9]:7", GET)
        other = Peer(PlainStream(theirs))
        assert (await other.reads_answer()).startswith(b"HTTP/1.1 200 ")
        await other.leave()
        assert house.app.scopes[0]["client"] == ("2001:db8::9", 7)


def test_a_proxy_that_the_settings_forgot_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    proxies = Proxies(Settings())
    for peer in ("203.0.113.5", "127.0.0.1", "unix"):
        assert proxies.client(peer, {"x-forwarded-for": "203.0.113.9"}) == peer
    assert [record.message for record in caplog.records] == [
        "a proxy on this machine is not in trusted_proxies: all its clients count as one address"
    ]
