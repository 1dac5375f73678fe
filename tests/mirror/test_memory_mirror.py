"""The double's faults, in virtual time: they happen, they are the same for the same seed, and none goes unnoticed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from catfish.config import Settings
from tests.doubles.memory_mirror import Faults, MemoryNetwork
from tests.mirror.world import Site

SETTINGS = Settings(mirror_streams=2)
BAD = Faults(drop=0.1, duplicate=0.2, reorder=0.2, delay_s=0.05)


class Watched(Site):
    """Remembers what it had heard at each gap."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.log: list[str] = []

    def mirrored(self, *told: object) -> None:
        super().mirrored(*told)  # type: ignore[arg-type]
        self.log.append(self.texts()[-1])

    def mirror_gap(self) -> None:
        super().mirror_gap()
        self.log.append("gap")


async def three(nursery: trio.Nursery, network: MemoryNetwork) -> list[Watched]:
    sites = [Watched(name) for name in "abc"]
    for site in sites:
        mirror = site.mirror = network.mirror(SETTINGS, site.name, site)
        await nursery.start(mirror.run)
    await trio.sleep(3)
    return sites


async def talk(sites: list[Watched], total: int) -> None:
    for i in range(total):
        for site in sites:
            site.say(f"{site.name}{i}", number=i % 3)
        await trio.sleep(0.01)


async def play(seed: int, faults: Faults) -> list[Watched]:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(seed, faults)
        sites = await three(nursery, network)
        for site in sites:
            site.log.clear()
        await talk(sites, 60)
        network.faults = Faults()
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    return sites


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_is_lost_leaves_a_gap_behind_it(autojump_clock: trio.abc.Clock, seed: int) -> None:
    for site in await play(seed, BAD):
        heard = [text for text in site.log if text != "gap"]
        for speaker in "abc".replace(site.name, ""):
            for room in range(3):
                numbers = [int(text[1:]) for text in heard if text[0] == speaker and int(text[1:]) % 3 == room]
                assert numbers == sorted(set(numbers)), "in order, and once"
            missing = [i for i in range(60) if f"{speaker}{i}" not in heard]
            if missing:
                behind = [f"{speaker}{i}" for i in range(missing[-1])]
                last = max((place for place, text in enumerate(site.log) if text in behind), default=-1)
                assert "gap" in site.log[last + 1 :]


async def test_without_faults_nothing_is_lost(autojump_clock: trio.abc.Clock) -> None:
    for site in await play(1, Faults()):
        assert len(site.heard) == 120
        assert "gap" not in site.log


def test_the_faults_happen_and_the_seed_repeats_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)

    def run(seed: int) -> list[Watched]:
        # As pytest-trio's and Hypothesis's integrations do: the order of tasks is drawn from here.
        trio._core._run._r.seed(seed)
        return trio.run(play, seed, BAD, clock=trio.testing.MockClock(autojump_threshold=0))

    first, again, other = run(3), run(3), run(4)
    for site in first:
        statistics = site.mirror.statistics()
        assert statistics.stale > 0
        assert statistics.gaps > 1
        assert len(site.heard) < 120
    for room in range(3):
        assert [site.texts(room) for site in first] == [site.texts(room) for site in again]
        assert [site.texts(room) for site in first] != [site.texts(room) for site in other]


async def test_sides_of_a_partition_do_not_hear_each_other_and_notice_afterwards(
    autojump_clock: trio.abc.Clock,
) -> None:
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        a, b, c = await three(nursery, network)
        network.partition({"a"}, {"b", "c"})
        gaps = a.gaps, b.gaps
        a.say("from a")
        b.say("from b")
        await trio.sleep(1)
        assert (a.texts(), b.texts(), c.texts()) == ([], [], ["from b"])
        network.heal()
        await trio.sleep(3)
        assert a.gaps > gaps[0]
        assert b.gaps > gaps[1]
        a.say("again")
        await trio.sleep(1)
        assert (b.texts(), c.texts()) == (["again"], ["from b", "again"])
        nursery.cancel_scope.cancel()


async def test_one_alone_may_be_away(autojump_clock: trio.abc.Clock) -> None:
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        a, b, c = await three(nursery, network)
        network.away("a")
        b.say("missed by a")
        await trio.sleep(1)
        assert (a.states, b.states) == ([True, False], [True])
        assert (a.texts(), c.texts()) == ([], ["missed by a"])
        network.back("a")
        gaps = a.gaps
        await trio.sleep(3)
        assert a.states == [True, False, True]
        assert a.gaps > gaps
        nursery.cancel_scope.cancel()
