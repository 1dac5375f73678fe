"""One run: instances, clients and faults, all drawn from one seed; see `simulate`."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from catfish.config import Settings
from tests.doubles.memory_mirror import Faults, MemoryNetwork
from tests.doubles.memory_store import MemoryStore
from tests.simulation import checker
from tests.simulation.device import Device
from tests.simulation.network import Node
from tests.simulation.strangers import Stranger

NODES = 3
CALM_S = 240.0
"""Within which everybody must be back in their rooms once the faults have ended."""
MARGIN_S = 10.0
FAILURES_MAX = 20


class World:
    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.rng = rng = random.Random(seed)
        self.failures: list[str] = []
        self.acknowledged: dict[tuple[str, str, str], int] = {}
        """Sequence numbers by room, user and client id."""
        self.calm = False
        """The faults have ended."""
        self.page = rng.choice((None, 3))
        """Messages that a device asks for at once when it comes back; None: as many as the server gives."""
        self.settings = Settings(
            grace_s=rng.choice((2.0, 10.0, 10.0)),
            lease_s=rng.choice((6.0, 15.0)),
            room_idle_s=rng.choice((0.5, 60.0)),
            journal_wait_s_max=rng.choice((3.0, 15.0)),
        )
        self.store = MemoryStore()
        self.store._clock_start = (1_700_000_000.0, 0.0)  # the same in every run
        self.network = MemoryNetwork(seed)
        self.nodes: list[Node | None] = [None] * NODES
        rooms = ["lobby", "den"]
        self.devices: list[Device] = []
        for index in range(5):
            user = f"user{index}"
            for device in "ab" if index < 2 else "a":
                self.devices.append(Device(self, user, f"{user}{device}", rng.sample(rooms, rng.choice((1, 2)))))
        self.strangers = [Stranger(self, f"stranger{index}") for index in range(rng.choice((0, 3, 4)))]
        self.devices += self.strangers
        self.faults = rng.sample(list(FAULTS), rng.choice((1, 2, 3, len(FAULTS))))
        """The kinds of faults of this run."""
        self.ends_at = rng.choice((30.0, 60.0, 90.0))
        self.nursery: trio.Nursery
        self._tell = tell
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        self._scope = trio.CancelScope()
        self._inside: dict[tuple[str, str], set[Device]] = {}
        self._absent_since: dict[tuple[str, str], float] = {}
        self._longest_absence: dict[tuple[str, str], float] = {}
        self._lost_at: dict[str, list[float]] = {}

    # What happened

    def say(self, what: str) -> None:
        if self._tell is not None:
            self._tell(f"{trio.current_time():8.3f} {what}")

    def fail(self, what: str) -> None:
        self.failures.append(f"{trio.current_time():8.3f} {what}")
        self.say(f"!!! {what}")
        if len(self.failures) >= FAILURES_MAX:
            self.nursery.cancel_scope.cancel()

    def entered(self, device: Device, room: str) -> None:
        """A device is told that it is in a room."""
        key = device.user, room
        if not self._inside.setdefault(key, set()):
            since = self._absent_since.pop(key, math.inf)
            self._longest_absence[key] = max(self._longest_absence.get(key, 0.0), trio.current_time() - since)
        self._inside[key].add(device)

    def leaves(self, device: Device, room: str) -> None:
        """A device leaves of its own will; members who do not hear of it are told later that its user is gone."""
        self._longest_absence[device.user, room] = math.inf

    def left(self, device: Device, room: str) -> None:
        """A device has left a room, or has lost its connection."""
        key = device.user, room
        inside = self._inside.setdefault(key, set())
        if device in inside:
            inside.discard(device)
            self._lost_at.setdefault(device.user, []).append(trio.current_time())
            if not inside:
                self._absent_since[key] = trio.current_time()

    def heard_left(self, witness: Device, room: str, user: str, reason: str) -> None:
        """A member is told that another is gone: that one must have been away for the grace period."""
        key = user, room
        if reason != "gone" or key not in self._longest_absence:
            return
        longest = self._longest_absence[key]
        lost = [at for at in self._lost_at.get(user, ()) if at > trio.current_time() - self.settings.grace_s * 1.5]
        if len(lost) > 1:
            # Known: a second instance that is lost within one grace period does not begin it anew.
            return
        if key in self._absent_since:
            longest = max(longest, trio.current_time() - self._absent_since[key])
        if longest < self.settings.grace_s * 0.9 and not self.excused:
            witness.fail(f"is told that {user} is gone from {room}, who was never away for longer than {longest:.1f} s")

    excused = False
    """An instance has been cut off from the store, so that the others rightly took it for dead."""

    # Time

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a point in time; what is due at the same time is done in the order of the calls."""
        heapq.heappush(self._heap, (when, next(self._counter), do))
        if when < self._scope.deadline:
            self._scope.deadline = when

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(trio.current_time() + seconds, do)

    async def _run_heap(self) -> None:
        while True:
            while self._heap and self._heap[0][0] <= trio.current_time():
                heapq.heappop(self._heap)[2]()
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()

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
            self.nursery.start_soon(self._run_heap)
            for slot in range(NODES):
                self.nursery.start_soon(self._keep_running, slot)
            await trio.sleep(0.1)
            for device in self.devices:
                self.nursery.start_soon(device.run)
            self.nursery.start_soon(checker.watch_pairs, self)
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
        if node.alive:
            node.path.cut = False
            node.path.failing = 0.0
            node.path.slow_s = 0.02

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
            self.excused = True
            self.say(f"{node.name} is cut off from the store")
            node.path.cut = True
            self.later(self.rng.uniform(0, 40), lambda: self._heal_path(node))

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
            self.excused = True
            node.path.failing = self.rng.choice((0.0, 0.1, 0.4))
            node.path.slow_s = self.rng.choice((0.02, 0.5, 2.0))
            self.say(f"{node.name}: store fails {node.path.failing}, up to {node.path.slow_s} s")

    def _heal_path(self, node: Node) -> None:
        if node.alive:
            self.say(f"{node.name} reaches the store again")
            node.path.cut = False


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
}


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
    """Run one seed; what went wrong. The same seed gives the same run (with the same hash seed of strings)."""
    scheduler: Any = trio._core._run
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    random.seed(seed)
    world = World(seed, tell)
    try:
        trio.run(world.run, clock=trio.testing.MockClock(autojump_threshold=0))
    except Exception as error:
        world.failures.append(f"the run failed: {error!r}")
        if tell is not None:
            raise
    return [f"faults: {', '.join(world.faults)}", *world.failures] if world.failures else []
