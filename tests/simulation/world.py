"""One run: instances, clients and faults, all drawn from one seed; see `simulate`."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.rooms import clock, codes
from catfish.rooms.commands import CloseRoom
from catfish.server import instance
from catfish.server.native import NativeSession
from catfish.server.participant import Participant
from tests.doubles.memory_mirror import Faults, MemoryNetwork
from tests.simulation import checker
from tests.simulation.clock import STARTED_AT, VirtualClock, without_events
from tests.simulation.device import Device
from tests.simulation.faults import PATH_S, SimulatedStore
from tests.simulation.network import Node
from tests.simulation.presence import Presences
from tests.simulation.strangers import Stranger

CLOSED = "attic"
"""The room that is closed in some runs."""
NODES = 3
CALM_S = 240.0
"""Within which everybody must be back in their rooms once the faults have ended."""
MARGIN_S = 10.0
FAILURES_MAX = 20


class World:
    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = VirtualClock()
        self.failures: list[str] = []
        self.acknowledged: dict[tuple[str, str, str], int] = {}
        """Sequence numbers by room, user and client id."""
        self.calm = False
        """The faults have ended."""
        self.closed: set[str] = set()
        """Rooms that are over."""
        self.page = rng.choice((None, 3))
        """Messages that a device asks for at once when it comes back; None: as many as the server gives."""
        self.settings = Settings(
            grace_s=rng.choice((0.0, 2.0, 10.0, 10.0)),
            lease_s=rng.choice((6.0, 15.0)),
            room_idle_s=rng.choice((1.0, 60.0)),
            journal_wait_s_max=rng.choice((3.0, 15.0)),
            partner_pause_s=rng.choice((0.0, 0.0, 5.0)),
        )
        self.store = SimulatedStore()
        self.store._clock_start = (STARTED_AT, 0.0)
        self.network = MemoryNetwork(seed)
        self.nodes: list[Node | None] = [None] * NODES
        self.crowded = rng.random() < 0.1
        """Many strangers and little else."""
        rooms = ["lobby", "den", CLOSED]
        self.devices: list[Device] = []
        for index in range(1 if self.crowded else 5):
            user = f"user{index}"
            for device in "ab" if index < 2 else "a":
                self.devices.append(Device(self, user, f"{user}{device}", rng.sample(rooms, rng.choice((1, 2, 2)))))
        self.strangers = [
            Stranger(self, f"stranger{index}") for index in range(25 if self.crowded else rng.choice((0, 3, 4)))
        ]
        self.devices += self.strangers
        self.faults = rng.sample(list(FAULTS), rng.choice((1, 2, 3, len(FAULTS))))
        """The kinds of faults of this run."""
        if self.crowded and "kills" not in self.faults:
            self.faults.append("kills")
        self.ends_at = 20.0 if self.crowded else rng.choice((15.0, 30.0, 60.0))
        self.nursery: trio.Nursery
        self._tell = tell
        self.is_told = tell is not None
        self.presences = Presences(self)

    # What happened

    def say(self, what: str) -> None:
        if self._tell is not None:
            self._tell(f"{trio.current_time():8.3f} {what}")

    def fail(self, what: str) -> None:
        self.failures.append(f"{trio.current_time():8.3f} {what}")
        self.say(f"!!! {what}")
        if len(self.failures) >= FAILURES_MAX:
            self.nursery.cancel_scope.cancel()

    def heard_gone(self, witness: Device, room: str, user: str, known_since: float) -> None:
        """A member is told that another is gone: that one must have been away for the grace period."""
        if not self.presences.was_away(user, room, known_since) and not self.presences.is_excused(user):
            witness.fail(f"is told that {user} is gone from {room}, who was not away for {self.settings.grace_s} s")

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        self.clock.at(trio.current_time() + seconds, do)

    # Instances

    def pick(self) -> Node | None:
        """An instance that a load balancer would choose."""
        accepting = [node for node in self.nodes if node is not None and node.accepting]
        return self.rng.choice(accepting) if accepting else None

    async def _keep_running(self, slot: int) -> None:
        """One instance after another, until the end."""
        for life in itertools.count(1):
            node = self.nodes[slot] = Node(self, f"node{slot}.{life}", self.settings)
            await node.run()
            self.nodes[slot] = None
            await trio.sleep(0.1 if self.calm else self.rng.choice((0.1, 3.0, 25.0)))

    # The run

    async def run(self) -> None:
        async with trio.open_nursery() as self.nursery:
            for slot in range(NODES):
                self.nursery.start_soon(self._keep_running, slot)
            await trio.sleep(0.1)
            for device in self.devices:
                self.nursery.start_soon(device.run)
            self.nursery.start_soon(checker.watch_strangers, self)
            self.nursery.start_soon(self._break_things)
            await trio.sleep_until(self.ends_at)
            await self._calm_down()
            await trio.sleep(self.settings.lease_s + self.settings.grace_s + MARGIN_S)
            checker.check(self)
            self.nursery.cancel_scope.cancel()

    async def _break_things(self) -> None:
        while True:
            await trio.sleep(self.rng.choice((0.2, 2.0, 6.0)) * self.rng.random())
            if self.calm:
                return
            FAULTS[self.rng.choice(self.faults)](self)

    async def _calm_down(self) -> None:
        self.say("the faults end")
        self.calm = True
        self.network.faults = Faults()
        self.network.heal()
        self.store.away = False
        for node in self._alive():
            self._heal(node)
        with trio.move_on_after(CALM_S):
            while not self._settled():  # noqa: ASYNC110 - in virtual time; there is nobody to set an event
                await trio.sleep(1.0)
        if not self._settled():
            late = [device.label for device in self.devices if device.staying and not device.settled]
            self.fail(f"not in their rooms {CALM_S:g} s after the last fault: {late}")

    def _settled(self) -> bool:
        serving = all(node is not None and node.accepting for node in self.nodes)
        return serving and all(device.settled for device in self.devices if device.staying)

    def _alive(self) -> list[Node]:
        return [node for node in self.nodes if node is not None and node.alive]

    def _heal(self, node: Node) -> None:
        if node.alive and node.troubled:
            self.say(f"{node.name} reaches the store as ever")
            node.path.cut = False
            node.path.failing = 0.0
            node.path.slow_s = PATH_S
            node.troubled, node.troubled_until = False, trio.current_time()

    # Faults

    def _one_alive(self) -> Node | None:
        alive = self._alive()
        return self.rng.choice(alive) if alive else None

    def cut_a_connection(self) -> None:
        self.rng.choice(self.devices).cut(self.rng.choice((0.0, 0.1, 5.0, 20.0)))

    def cut_a_storm(self) -> None:
        for device in self.devices:
            if self.rng.random() < 0.7:
                device.cut(self.rng.choice((0.0, 5.0)))

    def end_a_device(self) -> None:
        if self.rng.random() < 0.2:
            device = self.rng.choice(self.devices)
            device.staying = False
            device.cut(self.rng.choice((0.0, 5.0)))

    def kill_an_instance(self) -> None:
        node = self._one_alive()
        if node is not None and self.rng.random() < 0.4:
            node.kill()

    def drain_an_instance(self) -> None:
        node = self._one_alive()
        if node is not None and node.accepting and self.rng.random() < 0.4:
            node.nursery.start_soon(node.drain)

    def disturb_the_mirror(self) -> None:
        self.network.faults = Faults(
            drop=self.rng.choice((0.0, 0.1, 0.5)),
            duplicate=self.rng.choice((0.0, 0.3)),
            reorder=self.rng.choice((0.0, 0.3)),
            delay_s=self.rng.choice((0.0, 0.2, 3.0)),
        )
        self.say(f"mirror: {self.network.faults}")

    def part_an_instance(self) -> None:
        """It loses Redis; or there are two of them, each for some of the instances."""
        node = self._one_alive()
        if node is None:
            return
        name = node.instance.id
        if self.rng.random() < 0.5:
            self.say(f"{node.name} has no mirror")
            self.network.away(name)
            self.later(self.rng.uniform(0, 20), lambda: self.network.back(name))
        else:
            self.say(f"{node.name} is parted from the others")
            self.network.partition({name})
            self.later(self.rng.uniform(0, 20), self.network.heal)

    def part_all(self) -> None:
        self.say("the mirror is away")
        self.network.away()
        self.later(self.rng.uniform(0, 20), self.network.heal)

    def trim_the_mirror(self) -> None:
        node = self._one_alive()
        if node is not None:
            self.network.trim(node.instance.id)

    def cut_the_path(self) -> None:
        node = self._one_alive()
        if node is not None:
            self.say(f"{node.name} is cut off from the store")
            node.path.cut = True
            node.troubled = True
            self.later(self.rng.uniform(0, 40), lambda: self._heal(node))

    def close_a_room(self) -> None:
        """As an operator does, whom no instance hears of."""
        room = self.store._rooms.shelf.by_id.get(CLOSED)
        if room is not None and not room.closed and self.rng.random() < 0.2:
            self.say(f"{CLOSED} is closed")
            self.closed.add(CLOSED)
            self.store._rooms.execute(CloseRoom(number=room.number))

    def store_outage(self) -> None:
        self.say("the store is away")
        self.store.away = True

        def back() -> None:
            if self.store.away:
                self.say("the store is back")
                self.store.away = False

        self.later(self.rng.choice((1.0, 8.0, 30.0)) * self.rng.random(), back)

    def disturb_the_path(self) -> None:
        node = self._one_alive()
        if node is not None:
            node.path.failing = self.rng.choice((0.0, 0.1, 0.4))
            node.path.slow_s = self.rng.choice((0.02, 0.5, 2.0))
            node.troubled = True
            self.say(f"{node.name}: store fails {node.path.failing}, up to {node.path.slow_s} s")


FAULTS: dict[str, Callable[[World], None]] = {
    "connections": World.cut_a_connection,
    "storms": World.cut_a_storm,
    "ends": World.end_a_device,
    "kills": World.kill_an_instance,
    "drains": World.drain_an_instance,
    "mirror": World.disturb_the_mirror,
    "trimmed": World.trim_the_mirror,
    "parted": World.part_an_instance,
    "mirror away": World.part_all,
    "paths": World.cut_the_path,
    "store away": World.store_outage,
    "slow store": World.disturb_the_path,
    "closes": World.close_a_room,
}


class _Drawn:
    """In the place of `secrets`: ids and codes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(f"codes {seed}").choice
        self._count = itertools.count(1)

    def token_urlsafe(self, size: int) -> str:
        return f"{next(self._count)}"


class _Wall:
    """In the place of `time`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def time_ns(self) -> int:
        return int((STARTED_AT + self._clock.current_time()) * 1e9)


@contextmanager
def _repeatable(seed: int, virtual: VirtualClock) -> Iterator[None]:
    """Everything that is drawn, and every order that nobody decides, comes from the seed (and from the hash seed of
    strings, which is the caller's)."""
    scheduler: Any = trio._core._run
    scheduler._r.seed(seed)
    random.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(codes, "secrets", _Drawn(seed))
        patch.setattr(clock, "time", _Wall(virtual))
        patch.setattr(socket, "gethostname", lambda: "host")
        patch.setattr(instance, "SHARE_S", 3600.0)  # nobody is limited, and looking for it costs a sixth of the time
        # The server keeps sessions in sets, which are gone through in the order of these.
        patch.setattr(Participant, "__hash__", lambda self: hash(self.session))
        patch.setattr(NativeSession, "__hash__", lambda self: hash(self.participant))
        yield


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
    """Run one seed; what went wrong. The same seed gives the same run, with the same hash seed of strings."""
    world = World(seed, tell)
    with _repeatable(seed, world.clock), without_events():
        try:
            trio.run(world.run, clock=world.clock)
        except Exception as error:
            world.failures.append(f"the run failed: {error!r}")
            if tell is not None:
                raise
    return [f"faults: {', '.join(world.faults)}", *world.failures] if world.failures else []
