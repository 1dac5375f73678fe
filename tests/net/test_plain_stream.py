"""The thin stream over a raw socket keeps the contract of every Trio stream."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from catfish.net.plain_stream import PlainStream


def pair() -> tuple[PlainStream, PlainStream]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return PlainStream(ours), PlainStream(theirs)


async def test_it_passes_trios_own_tests() -> None:
    async def make() -> tuple[PlainStream, PlainStream]:
        return pair()

    async def make_clogged() -> tuple[PlainStream, PlainStream]:
        streams = pair()
        for stream in streams:
            try:
                while True:
                    stream.socket.send(bytes(65_536))
            except BlockingIOError:
                pass
        return streams

    await check_half_closeable_stream(make, make_clogged)


async def test_what_has_come_can_be_read_without_waiting() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        with pytest.raises(BlockingIOError):
            ours.receive_nowait(10)
        await theirs.send_all(b"hello")
        assert ours.receive_nowait(3) == b"hel"
        assert ours.receive_nowait(10) == b"lo"
        await theirs.aclose()
        assert ours.receive_nowait(10) == b""


@pytest.mark.parametrize("shield", [False, True])
async def test_cutting_wakes_even_a_shielded_sender(shield: bool) -> None:
    ours, theirs = pair()
    caught: list[Exception] = []

    async def send() -> None:
        with trio.CancelScope(shield=shield):
            try:
                await ours.send_all(bytes(10_000_000))
            except trio.ClosedResourceError as error:
                caught.append(error)

    async with theirs, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        ours.cut()
        ours.cut()
    assert len(caught) == 1
