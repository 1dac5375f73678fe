"""What a stretch of work cost: the servers' processes, the client, and the clock."""

from __future__ import annotations

from time import perf_counter, process_time

from catfish.load.fleet import Fleet
from catfish.load.plan import Plan
from catfish.load.processes import SERVER, Trees, Usage, find_listeners, spent
from catfish.load.statistics import Figure, difference, per_unit

NO_PROCESS = "no process of the server was found: name one with --pid, on the machine where it runs"
BUSY_CLIENT = "the client was busier than its server: the rate may be the client's limit (CPU per unit still holds)"


class Meter:
    """Measures one stretch: made, then `start`ed and `stop`ped."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._before: Usage | None = None
        self._began = self._client_began = 0.0
        self.seconds = 0.0
        self.client_s = 0.0
        """CPU of this process."""
        self.cpu_s: dict[str, float] = {}
        """CPU of the processes, by name; empty when none could be read."""

    def start(self) -> None:
        self._before = self._trees.read()
        self._began, self._client_began = perf_counter(), process_time()

    def stop(self) -> None:
        self.seconds, self.client_s = perf_counter() - self._began, process_time() - self._client_began
        self.cpu_s = spent(self._before, self._trees.read())

    @property
    def server_s(self) -> float | None:
        return self.cpu_s.get(SERVER)

    def cost(self, units: float, unit: str) -> list[Figure]:
        """CPU for one of so many units of work, the server's and each helper's."""
        figures = [_cost_of(SERVER, self.server_s, units, unit)]
        return figures + [
            _cost_of(name, used, units, unit) for name, used in sorted(self.cpu_s.items()) if name != SERVER
        ]

    def shares(self) -> list[Figure]:
        """How busy the server and this client were, in percent of one core."""
        server, client = per_unit(self.server_s, self.seconds), per_unit(self.client_s, self.seconds)
        return [
            Figure("server_cpu_percent", "server CPU", None if server is None else server * 100, "% of a core", 0),
            Figure("client_cpu_percent", "client CPU", None if client is None else client * 100, "% of a core", 0),
        ]

    def notes(self) -> list[str]:
        if self.server_s is None:
            return [NO_PROCESS]
        return [BUSY_CLIENT] if self.client_s > self.server_s and self.client_s > 0.9 * self.seconds else []


def _cost_of(name: str, used_s: float | None, units: float, unit: str) -> Figure:
    each = per_unit(used_s, units)
    key = f"{name.replace('-', '_')}_cpu_us_per_{unit}"
    return Figure(key, f"{name} CPU per {unit}", None if each is None else each * 1e6, "us", 2)


def trees_of(plan: Plan, fleet: Fleet, place: int = 0) -> Trees:
    """The processes of a fleet's server: those that were named, or those that listen on its port of this machine.

    Args:
        place: of its target in the plan; `cross` names one process for each.
    """
    if plan.pids:
        return Trees(plan.pids[place : place + 1] if len(plan.targets) > 1 else plan.pids)
    return Trees(find_listeners(plan.targets[place].port) if fleet.local else ())


def memory_each(key: str, label: str, before: Usage | None, after: Usage | None, count: int) -> Figure:
    """Growth of the server's resident memory, per connection."""
    grown = difference(after and after.resident_kb, before and before.resident_kb)
    return Figure(key, label, per_unit(grown, count), "KB")
