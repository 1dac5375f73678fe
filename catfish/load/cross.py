"""`cross`: what it costs that the sender is on one instance and the receivers on another.

Rooms of ten, a sender and nine receivers, twice: in half of the rooms all are on the first instance ("same"), in the
other half the receivers are on the second one ("across"). The same kind of message goes through the ones and through
the others in turn, at the same steady rate, so the difference is the way between the instances, whatever else the
machine does meanwhile:

* CPU of both servers per delivered message, against that of the first server alone; what they use while nothing
  happens is subtracted;
* waiting from the send to the arrival at one receiver of each room, and how much longer that is across;
* what the second instance uses for messages of rooms in which it has nobody: its CPU while the others talk.

Stored messages (`chat:send`) and ephemeral ones (`room:emit`) are measured one after the other. Messages of one sender
arrive in its order, so the n-th arrival in a room answers the n-th send, and frames need no time stamp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import attrs

from catfish.load.errors import LoadError
from catfish.load.fleet import Fleet, Link
from catfish.load.meter import BUSY_CLIENT, NO_PROCESS, Meter, trees_of
from catfish.load.plan import ROOM_OF_CHAT, Plan
from catfish.load.processes import Trees
from catfish.load.protocols import Speech, speech_of
from catfish.load.scenarios import report, room_of, user_of
from catfish.load.statistics import Figure, Report, difference, per_unit, percentile, ratio, total, waits

RECEIVERS: Final = ROOM_OF_CHAT - 1
WARM_UP_S_MAX: Final = 0.3
TURN_S: Final = 1.0
"""About so long one half of the rooms has its turn."""
REST_S_MAX: Final = 2.0
"""How long the servers are watched while nothing happens."""
LATE_S_MAX: Final = 3.0
"""What has not arrived so long after the last send is counted as lost."""
KINDS: Final = {"chat": "stored message", "emit": "ephemeral message"}


@attrs.define
class Lane:
    """A room, its sender, and the receiver whose waiting is measured."""

    room: str
    sender: Link
    receivers: Sequence[Link]
    sent_at: deque[float] = attrs.Factory(deque)
    """Of messages that have not reached the first receiver."""


@attrs.define
class Phase:
    """Messages at a steady rate through some lanes."""

    sent: int = 0
    delivered: int = 0
    """To receivers."""
    waited_s: list[float] = attrs.Factory(list)
    cpu_s: tuple[float | None, float | None] = (0.0, 0.0)
    """Of both servers, without what they use at rest."""
    lost: int = 0
    seconds: float = 0.0
    client_s: float = 0.0
    """CPU of this process."""


@attrs.frozen
class _Bench:
    plan: Plan
    near: Fleet
    far: Fleet
    trees: tuple[Trees, Trees]
    rest: tuple[float | None, float | None]
    """CPU seconds per second of both servers while nothing happens."""


def run_cross(plan: Plan) -> Report:
    """Measure two servers of one database.

    Raises:
        LoadError: among others, when what is sent on the one does not arrive on the other.
    """
    speech = speech_of(plan.protocol)
    rooms = plan.n // ROOM_OF_CHAT
    with (
        Fleet(plan.targets[0], speech) as near,
        Fleet(plan.targets[1], speech, beside=near, first_index=rooms * (ROOM_OF_CHAT + 1)) as far,
    ):
        near.open(rooms * (ROOM_OF_CHAT + 1))
        far.open(rooms * RECEIVERS)
        senders, receivers = near.links[: 2 * rooms], near.links[2 * rooms :]
        same = _lanes(plan, 0, senders[:rooms], receivers)
        across = _lanes(plan, rooms, senders[rooms:], far.links)
        for fleet, links in ((near, set(near.links)), (far, set(far.links))):
            fleet.ask(
                (link, speech.enter(lane.room, user_of(plan, link.index)))
                for lane in (*same, *across)
                for link in (lane.sender, *lane.receivers)
                if link in links
            )
        far.settle()
        near.settle()
        trees = trees_of(plan, near, 0), trees_of(plan, far, 1)
        bench = _Bench(plan, near, far, trees, _rest(plan, near, far, trees))
        figures: list[Figure] = []
        notes: list[str] = []
        for kind in KINDS:
            phases = Phase(), Phase()
            turns = max(1, round(plan.seconds / TURN_S))
            for _ in range(turns):
                for phase, lanes in zip(phases, (same, across), strict=True):
                    _measure(bench, kind, lanes, plan.seconds / turns, phase)
            figures += _compare(bench, kind, *phases, notes)
        return report(plan, figures, notes)


def _lanes(plan: Plan, first: int, senders: Sequence[Link], receivers: Sequence[Link]) -> list[Lane]:
    return [
        Lane(room_of(plan, first + place), sender, receivers[place * RECEIVERS : (place + 1) * RECEIVERS])
        for place, sender in enumerate(senders)
    ]


def _rest(plan: Plan, near: Fleet, far: Fleet, trees: tuple[Trees, Trees]) -> tuple[float | None, float | None]:
    meters = Meter(trees[0]), Meter(trees[1])
    for meter in meters:
        meter.start()
    near.idle(min(plan.seconds, REST_S_MAX))
    far.tend()
    for meter in meters:
        meter.stop()
    first, second = (per_unit(meter.server_s, meter.seconds) for meter in meters)
    return first, second


def _frame(speech: Speech, kind: str, plan: Plan, lane: Lane) -> bytes:
    user = user_of(plan, lane.sender.index)
    if kind == "chat":
        return speech.send_chat(lane.room, user, plan.size).frame
    return speech.emit(lane.room, user, plan.size)


def _measure(bench: _Bench, kind: str, lanes: list[Lane], seconds: float, phase: Phase) -> None:
    """One turn of these lanes."""
    plan = bench.plan
    frames = {lane.room: _frame(bench.near.speech, kind, plan, lane) for lane in lanes}
    warm = Phase()
    _send_steadily(bench, lanes, frames, min(WARM_UP_S_MAX, seconds), warm)
    if not warm.delivered:
        raise LoadError(
            f"no {KINDS[kind]} arrived: do both instances have one database, and one Redis to mirror their rooms?"
        )
    meters = Meter(bench.trees[0]), Meter(bench.trees[1])
    for meter in meters:
        meter.start()
    _send_steadily(bench, lanes, frames, seconds, phase)
    for meter in meters:
        meter.stop()
    idle_s = [None if rest is None else rest * meter.seconds for rest, meter in zip(bench.rest, meters, strict=True)]
    first, second = (difference(meter.server_s, idle) for meter, idle in zip(meters, idle_s, strict=True))
    phase.cpu_s = total(phase.cpu_s[0], first), total(phase.cpu_s[1], second)
    phase.seconds += meters[0].seconds
    phase.client_s += meters[0].client_s


def _send_steadily(bench: _Bench, lanes: list[Lane], frames: dict[str, bytes], seconds: float, phase: Phase) -> None:
    """Send for so long, from one lane after the other, and wait for what is under way."""
    near, far = bench.near, bench.far
    sent_before, delivered_before = phase.sent, phase.delivered
    watched = {lane.receivers[0].fd: lane.sent_at for lane in lanes}
    hearing = {link.fd for lane in lanes for link in lane.receivers}
    interval, wait, links = 1.0 / bench.plan.rate, near.poller.wait, near.by_fd
    due = began = perf_counter()
    end = began + seconds
    expected = 0
    while True:
        now = perf_counter()
        while due <= now < end:
            lane = lanes[phase.sent % len(lanes)]
            lane.sent_at.append(perf_counter())
            near.write(lane.sender, frames[lane.room])
            phase.sent += 1
            due += interval
        expected = (phase.sent - sent_before) * RECEIVERS
        if now >= end and (phase.delivered - delivered_before >= expected or now >= end + LATE_S_MAX):
            break
        for fd, _ in wait(max(due - now, 0.0) if now < end else 0.05):
            payloads = near.read(links[fd])
            if fd in hearing:
                phase.delivered += len(payloads)
                if fd in watched:
                    _note_arrivals(watched[fd], len(payloads), phase)
        near.tend()
        far.tend()
    phase.lost += max(expected - (phase.delivered - delivered_before), 0)
    for lane in lanes:
        lane.sent_at.clear()


def _note_arrivals(sent_at: deque[float], count: int, phase: Phase) -> None:
    now = perf_counter()
    for _ in range(min(count, len(sent_at))):
        phase.waited_s.append(now - sent_at.popleft())


def _compare(bench: _Bench, kind: str, same: Phase, across: Phase, notes: list[str]) -> list[Figure]:
    name = KINDS[kind]
    alone = per_unit(same.cpu_s[0], same.delivered)
    first, second = across.cpu_s
    both = per_unit(total(first, second), across.delivered)
    unhosted = per_unit(same.cpu_s[1], same.sent)
    extra = [
        difference(percentile(across.waited_s, percent), percentile(same.waited_s, percent)) for percent in (50, 99)
    ]
    if alone is None or both is None:
        notes.append(NO_PROCESS)
    if any(phase.client_s > 0.9 * phase.seconds for phase in (same, across)):
        notes.append(BUSY_CLIENT)
    return [
        Figure(f"{kind}_messages_per_s", f"{name}s sent", across.sent / bench.plan.seconds, "per s", 0),
        Figure(f"{kind}_same_cpu_us_per_delivery", f"{name}, one instance: CPU per delivery", _us(alone), "us", 2),
        Figure(f"{kind}_cross_cpu_us_per_delivery", f"{name}, across: CPU of both per delivery", _us(both), "us", 2),
        Figure(f"{kind}_cross_cpu_ratio", f"{name}: across / one instance", ratio(both, alone), "x", 2),
        *waits(f"{kind}_same_wait", f"{name}, one instance: arrives after", same.waited_s),
        *waits(f"{kind}_cross_wait", f"{name}, across: arrives after", across.waited_s),
        Figure(f"{kind}_extra_p50_ms", f"{name}: p50 is later across by", _ms(extra[0]), "ms", 2),
        Figure(f"{kind}_extra_p99_ms", f"{name}: p99 is later across by", _ms(extra[1]), "ms", 2),
        Figure(f"{kind}_unhosted_cpu_us_per_message", f"{name}, nobody there: CPU there", _us(unhosted), "us", 2),
        Figure(f"{kind}_lost", f"{name}s: deliveries that were missing", same.lost + across.lost, "", 0),
    ]


def _us(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e6


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
