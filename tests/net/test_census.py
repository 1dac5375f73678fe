"""How many connections an address may have: its own, and those that a trusted proxy has for it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from catfish.config import Settings
from catfish.net import listener as listeners
from catfish.net.census import Census
from catfish.net.proxies import Proxies
from tests.net.harness import CERTIFICATE, HANDSHAKE, KEY, Peer
from tests.net.test_proxies import GET, House, open_house
from tests.wire.proxy_headers import tcp4

ALL: Any = {"limits_exempt": (), "connections_per_address_max": 2}
VIA = b"X-Forwarded-For: 203.0.113.%d\r\n"


def test_an_address_is_counted_until_its_last_connection_is_over() -> None:
    settings = Settings(**ALL)
    census = Census(settings, Proxies(settings))
    seat = census.connected("203.0.113.9:1")
    assert seat == "203.0.113.9"
    census.enter(seat)
    assert not census.is_full(seat)
    census.enter(census.connected("203.0.113.9:2"))
    assert census.is_full(seat)
    assert not census.is_full(census.connected("203.0.113.8:1"))
    census.leave(seat)
    assert not census.is_full(seat)
    census.leave(seat)
    assert len(census) == 0
    assert census.refused == 1


@pytest.mark.parametrize("peer", ["127.0.0.1:5", "[::1]:5", "unix", "10.0.0.1:5"])
def test_this_machine_and_proxies_are_not_counted(peer: str) -> None:
    settings = Settings(connections_per_address_max=1, trusted_proxies=("10.0.0.0/8",))
    census = Census(settings, Proxies(settings))
    assert census.connected(peer) is None
    for _ in range(3):
        census.enter(None)
        assert not census.is_full(None)
    census.leave(None)


async def opened(house: House, fields: bytes = b"", first: bytes = b"") -> Peer | None:
    """A WebSocket; None when it was refused with 429."""
    peer = await house.dial(first)
    await peer.send(HANDSHAKE + fields + b"\r\n")
    answer = await peer.reads_answer()
    if answer.startswith(b"HTTP/1.1 101 "):
        return peer
    assert answer.startswith(b"HTTP/1.1 429 "), answer
    assert b"Retry-After: 5" in answer
    assert b"connections from your address" in await peer.rest()
    await peer.leave()
    return None


async def left(house: House, count: int) -> None:
    """Wait until so many connections are left."""
    while len(house.listener.connections) > count:
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_too_many_is_told_why_and_room_is_made_by_those_who_leave(tls: bool) -> None:
    files = {"tls_certificate": CERTIFICATE, "tls_key": KEY} if tls else {}
    async with open_house(**ALL, **files) as house:
        first, second = await opened(house), await opened(house)
        assert first is not None
        assert second is not None
        assert await opened(house) is None
        assert house.listener.statistics().crowded == 1
        await first.leave()
        await left(house, 1)
        third = await opened(house)
        assert third is not None
        for peer in (second, third):
            await peer.leave()


async def test_requests_over_http_are_connections_as_well() -> None:
    async with open_house(**ALL) as house:
        peers = [await house.dial() for _ in range(2)]
        for peer in peers:
            await peer.send(GET)
            assert (await peer.reads_answer()).startswith(b"HTTP/1.1 200 ")
        assert await opened(house) is None
        for peer in peers:
            await peer.leave()


async def test_behind_a_trusted_proxy_each_client_is_counted_by_its_own_address() -> None:
    async with open_house(**ALL, trusted_proxies=("127.0.0.1",)) as house:
        peers = [await opened(house, VIA % host) for host in (1, 2, 1, 2, 3)]
        assert await opened(house, VIA % 1) is None
        assert await opened(house, VIA % 2) is None
        peers.append(await opened(house, VIA % 3))
        for _ in range(3):  # the proxy's own connections
            peer = await house.dial()
            await peer.send(GET)
            assert (await peer.reads_answer()).startswith(b"HTTP/1.1 200 ")
            peers.append(peer)
        for each in peers:
            assert each is not None
            await each.leave()
        await left(house, 0)
        assert len(house.listener._gate.census) == 0


async def test_whom_a_proxy_header_names_is_counted() -> None:
    async with open_house(**ALL, proxy_protocol=("127.0.0.1",)) as house:
        peers = [await opened(house, first=tcp4("203.0.113.1")) for _ in range(2)]
        assert await opened(house, first=tcp4("203.0.113.1")) is None
        peers.append(await opened(house, first=tcp4("203.0.113.2")))
        for peer in peers:
            assert peer is not None
            await peer.leave()


async def test_when_many_are_refused_at_once_the_rest_is_just_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "REFUSALS_MAX", 1)
    async with open_house(**{**ALL, "connections_per_address_max": 1}) as house:
        kept = await opened(house)
        assert kept is not None
        answered = await house.dial()
        await answered.reads_answer()
        closed = await house.dial()
        assert await closed.rest() == b""
        for peer in (kept, answered, closed):
            await peer.leave()
