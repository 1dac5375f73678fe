"""The inbox: order, and the limit of what waits."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from catfish.server.inbox import Gauge, Inbox, Work


class Peer:
    """A session in small: numbers are done at once, events are waited for."""

    def __init__(self, waiting_max: int = 4) -> None:
        self.done: list[Any] = []
        self.paused = False
        self.pauses = 0
        self.wakes = 0
        self.gauge = Gauge(self, waiting_max)
        self.inbox = Inbox(self.handle, self.perform, self.wake, self.gauge)

    def handle(self, message: Any) -> Work | None:
        if isinstance(message, trio.Event):
            return Work(self.wait(message), None)
        if isinstance(message, ValueError):
            raise message
        self.done.append(message)
        return None

    async def wait(self, event: trio.Event) -> None:
        await event.wait()
        self.done.append("waited")

    async def perform(self, work: Work) -> None:
        await work.coroutine

    def wake(self) -> None:
        self.wakes += 1

    def pause_reading(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self.paused = False


def test_what_need_not_wait_is_done_at_once() -> None:
    peer = Peer()
    for number in range(100):
        peer.inbox.receive(number)
    assert peer.done == list(range(100))
    assert (peer.wakes, peer.gauge.waiting, peer.pauses) == (0, 0, 0)


async def test_what_comes_behind_a_waiting_request_keeps_its_place() -> None:
    peer = Peer(waiting_max=100)
    first, second = trio.Event(), trio.Event()
    for message in (1, first, 2, 3, second, 4):
        peer.inbox.receive(message)
    assert (peer.done, peer.wakes, peer.inbox.idle) == ([1], 1, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.inbox.drain)
        await wait_all_tasks_blocked()
        first.set()
        await wait_all_tasks_blocked()
        assert peer.done == [1, "waited", 2, 3]
        peer.inbox.receive(5)
        second.set()
    assert peer.done == [1, "waited", 2, 3, "waited", 4, 5]
    assert peer.inbox.idle


async def test_reading_pauses_while_too_much_waits_and_goes_on_at_half() -> None:
    peer = Peer(waiting_max=4)
    gates = [trio.Event() for _ in range(5)]
    for gate in gates:
        peer.inbox.receive(gate)
    assert peer.paused
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.inbox.drain)
        states = []
        for gate in gates:
            gate.set()
            await wait_all_tasks_blocked()
            states.append(peer.paused)
    assert states == [True, False, False, False, False]
    assert peer.pauses == 1


def test_requests_at_the_journal_count_as_waiting() -> None:
    peer = Peer(waiting_max=4)
    for _ in range(4):
        peer.gauge.add()
    states = [peer.paused]
    for _ in range(2):
        peer.gauge.remove()
        states.append(peer.paused)
    assert states == [True, True, False]


async def test_after_a_fault_nothing_is_left_and_nothing_counts_as_waiting() -> None:
    peer = Peer()
    gate = trio.Event()
    for message in (gate, 1, ValueError("what ends the connection"), 2, 3):
        peer.inbox.receive(message)
    gate.set()
    with pytest.raises(ValueError, match="ends the connection"):
        await peer.inbox.drain()
    assert (peer.inbox.idle, peer.gauge.waiting, peer.done) == (True, 0, ["waited", 1])


async def test_cancelling_leaves_no_coroutine_unawaited() -> None:
    peer = Peer()
    peer.inbox.receive(trio.Event())
    with trio.move_on_after(0) as scope:
        await peer.inbox.drain()
    assert scope.cancelled_caught
    assert peer.done == []
