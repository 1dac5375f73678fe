"""The scenarios that drive one server. Each sets its rooms up, measures for a while, and gives figures.

In the loops that are measured nothing is decoded: frames are built once, and what comes is counted in bytes, since all
deliveries of a run have the same length (`fan`, `pair`, `echo`). Only `chat` takes frames apart.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from catfish.load.errors import LoadError
from catfish.load.fleet import READ_BYTES, Fleet, Link
from catfish.load.frames import server_frame_bytes
from catfish.load.meter import Meter, memory_each, trees_of
from catfish.load.plan import ROOM_OF_CHAT, Plan
from catfish.load.protocols import Request, speech_of
from catfish.load.statistics import Figure, Report, per_unit, waits

BROADCASTS_IN_FLIGHT: Final = 4
WAIT_S: Final = 0.1
"""How long a measured loop sleeps at most, so that it ends in time."""
CLOSED: Final = "the server ended a connection during the measurement"


def user_of(plan: Plan, number: int) -> str:
    """All of one length, so that all deliveries are."""
    return f"load-{plan.token}-{number:05d}"


def room_of(plan: Plan, number: int) -> str:
    return f"load-{plan.scenario}-{plan.token}-{number:05d}"


def report(plan: Plan, figures: list[Figure], notes: list[str]) -> Report:
    shown = tuple(dict.fromkeys(notes))
    return Report(plan.scenario, plan.protocol, plan.n, plan.seconds, plan.size, tuple(figures), shown)


def _worked(plan: Plan, meter: Meter, units: float, unit: str, units_name: str, more: list[Figure]) -> Report:
    """The report of a loop that did so many units of work."""
    if units <= 0:
        raise LoadError(f"nothing was measured in {plan.seconds:g} s: the server sent nothing")
    rate = Figure(f"{units_name.replace(' ', '_')}_per_s", units_name, units / meter.seconds, "per s", 0)
    return report(plan, [rate, *meter.cost(units, unit), *more, *meter.shares()], meter.notes())


def enter_rooms(plan: Plan, fleet: Fleet, size: int) -> None:
    """Everyone enters a room of so many."""
    speech = fleet.speech
    fleet.ask(
        (link, speech.enter(room_of(plan, place // size), user_of(plan, link.index)))
        for place, link in enumerate(fleet.links)
    )
    fleet.settle()


def echo(plan: Plan, fleet: Fleet) -> Report:
    request = fleet.speech.ping(plan.size)
    fleet.open(plan.n)
    reply = server_frame_bytes(len(fleet.ask([(fleet.links[0], request)])[0]))
    fleet.settle()
    meter = Meter(trees_of(plan, fleet))
    wait, links, write, frame = fleet.poller.wait, fleet.by_fd, fleet.write, request.frame
    got = dict.fromkeys(links, 0)
    units = 0
    meter.start()
    end = perf_counter() + plan.seconds
    for link in fleet.links:
        write(link, frame)
    while perf_counter() < end:
        for fd, _ in wait(WAIT_S):
            link = links[fd]
            data = link.recv(READ_BYTES)
            if not data:
                raise LoadError(CLOSED)
            count = got[fd] + len(data)
            while count >= reply:
                count -= reply
                units += 1
                write(link, frame)
            got[fd] = count
        fleet.tend()
    meter.stop()
    return _worked(plan, meter, units, "request", "requests", [])


def fan(plan: Plan, fleet: Fleet) -> Report:
    fleet.open(plan.n)
    enter_rooms(plan, fleet, plan.n)
    sender = fleet.links[0]
    frame = fleet.speech.emit(room_of(plan, 0), user_of(plan, sender.index), plan.size)
    delivered = fleet.measure_delivery(sender, frame, fleet.links[1])
    everyone = delivered * (plan.n - 1)
    meter = Meter(trees_of(plan, fleet))
    wait, links = fleet.poller.wait, fleet.by_fd
    octets = sent = 0
    meter.start()
    end = perf_counter() + plan.seconds
    while perf_counter() < end:
        while sent - octets // everyone < BROADCASTS_IN_FLIGHT:
            fleet.write(sender, frame)
            sent += 1
        for fd, _ in wait(WAIT_S):
            data = links[fd].recv(READ_BYTES)
            if not data:
                raise LoadError(CLOSED)
            octets += len(data)
        fleet.tend()
    meter.stop()
    return _worked(plan, meter, octets / delivered, "delivery", "deliveries", [])


def pair(plan: Plan, fleet: Fleet) -> Report:
    fleet.open(plan.n)
    enter_rooms(plan, fleet, 2)
    frames = {
        link.fd: fleet.speech.emit(room_of(plan, place // 2), user_of(plan, link.index), plan.size)
        for place, link in enumerate(fleet.links)
    }
    first, second = fleet.links[:2]
    delivered = fleet.measure_delivery(first, frames[first.fd], second)
    meter = Meter(trees_of(plan, fleet))
    wait, links, write = fleet.poller.wait, fleet.by_fd, fleet.write
    got = dict.fromkeys(links, 0)
    octets = 0
    meter.start()
    end = perf_counter() + plan.seconds
    for link in fleet.links[::2]:
        write(link, frames[link.fd])
    while perf_counter() < end:
        for fd, _ in wait(WAIT_S):
            link = links[fd]
            data = link.recv(READ_BYTES)
            if not data:
                raise LoadError(CLOSED)
            octets += len(data)
            count = got[fd] + len(data)
            while count >= delivered:
                count -= delivered
                write(link, frames[fd])
            got[fd] = count
        fleet.tend()
    meter.stop()
    return _worked(plan, meter, octets / delivered, "delivery", "deliveries", [])


def enter_chat(plan: Plan, fleet: Fleet) -> list[str]:
    """Everyone enters a room of ten in which messages are stored; the room of each."""
    speech, links = fleet.speech, fleet.links
    creators = links[::ROOM_OF_CHAT]
    create = speech.create_chat()
    if create is None:
        rooms = [room_of(plan, number) for number in range(len(creators))]
        members = list(enumerate(links))
    else:
        rooms = [speech.read_code(answer) for answer in fleet.ask((link, create) for link in creators)]
        members = [(place, link) for place, link in enumerate(links) if place % ROOM_OF_CHAT]
    fleet.ask(
        (link, speech.enter_chat(rooms[place // ROOM_OF_CHAT], user_of(plan, link.index))) for place, link in members
    )
    fleet.settle()
    return [rooms[place // ROOM_OF_CHAT] for place in range(len(links))]


def chat(plan: Plan, fleet: Fleet) -> Report:
    fleet.open(plan.n)
    rooms = enter_chat(plan, fleet)
    requests: dict[int, Request] = {
        link.fd: fleet.speech.send_chat(rooms[place], user_of(plan, link.index), plan.size)
        for place, link in enumerate(fleet.links)
    }
    meter = Meter(trees_of(plan, fleet))
    wait, links, write = fleet.poller.wait, fleet.by_fd, fleet.write
    sent_at: dict[int, float] = {}
    waited: list[float] = []
    delivered = refused = 0
    meter.start()
    end = perf_counter() + plan.seconds
    for link in fleet.links:
        sent_at[link.fd] = perf_counter()
        write(link, requests[link.fd].frame)
    while perf_counter() < end:
        for fd, _ in wait(WAIT_S):
            link, request = links[fd], requests[fd]
            for payload in fleet.read(link):
                if not payload.startswith(request.awaited):
                    delivered += 1
                    continue
                now = perf_counter()
                if payload.startswith(request.refused):
                    refused += 1
                else:
                    waited.append(now - sent_at[fd])
                sent_at[fd] = now
                write(link, request.frame)
        fleet.tend()
    meter.stop()
    more = [
        Figure("deliveries_per_s", "deliveries", delivered / meter.seconds, "per s", 0),
        Figure("refused", "refused", refused, "messages", 0),
        *waits("ack", "acknowledged after", waited),
    ]
    return _worked(plan, meter, len(waited), "message", "stored messages", more)


def storm(plan: Plan, fleet: Fleet) -> Report:
    meter = Meter(trees_of(plan, fleet))
    meter.start()
    fleet.open(plan.n)
    meter.stop()
    ready = [link.ready_s for link in fleet.links]
    return _worked(plan, meter, plan.n, "connection", "connections", list(waits("ready", "ready after", ready)))


def idle(plan: Plan, fleet: Fleet) -> Report:
    trees = trees_of(plan, fleet)
    fresh = trees.read()
    fleet.open(plan.n)
    fleet.idle(1.0)
    opened = trees.read()
    enter_rooms(plan, fleet, ROOM_OF_CHAT)
    entered = trees.read()
    meter = Meter(trees)
    meter.start()
    fleet.idle(plan.seconds)
    meter.stop()
    resting = per_unit(meter.server_s, meter.seconds)
    figures = [
        memory_each("memory_kb_per_connection", "memory per connection", fresh, opened, plan.n),
        memory_each("memory_kb_per_member", "memory per connection in a room", fresh, entered, plan.n),
        Figure(
            "resting_cpu_us_per_connection_and_s",
            "server CPU per connection and second",
            None if resting is None else resting / plan.n * 1e6,
            "us",
            2,
        ),
    ]
    return report(plan, figures, meter.notes())


SCENARIOS: Final[dict[str, Callable[[Plan, Fleet], Report]]] = {
    "echo": echo,
    "fan": fan,
    "pair": pair,
    "chat": chat,
    "idle": idle,
    "storm": storm,
}


def run_one(plan: Plan) -> Report:
    """Measure one server."""
    with Fleet(plan.targets[0], speech_of(plan.protocol)) as fleet:
        return SCENARIOS[plan.scenario](plan, fleet)


__all__ = ["SCENARIOS", "Link", "enter_rooms", "report", "room_of", "run_one", "user_of"]
