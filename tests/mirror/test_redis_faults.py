"""The mirror over a Redis that is killed, paused, emptied, trimmed, or cuts its connections: all of it for real."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest
import trio

from catfish.mirror import incoming, link, redis_mirror
from catfish.mirror.redis_mirror import RedisMirror
from catfish.rooms.events import Event
from tests.mirror.conftest import SETTINGS
from tests.mirror.world import RedisWorld, Site, until


async def join_all(world: RedisWorld, names: str = "abc") -> list[Site]:
    sites = [await world.join(name) for name in names]
    await until(lambda: all(site.mirror.statistics().peers == len(names) - 1 for site in sites))
    return sites


async def chatter(site: Site, total: int, pause_s: float = 0.001) -> list[str]:
    """Many small batches; the texts."""
    for i in range(total):
        site.say(f"{site.name}{i}", number=i % 4)
        await trio.sleep(pause_s)
    return [f"{site.name}{i}" for i in range(total)]


def in_order_and_once(site: Site, speaker: Site) -> bool:
    """Whether what was heard, and of every room, came in its order and never twice."""
    for room in range(4):
        numbers = [int(text[1:]) for text in site.texts(room) if text.startswith(speaker.name)]
        if numbers != sorted(set(numbers)):
            return False
    return True


async def heard_again(speaker: Site, others: list[Site]) -> None:
    """What is said now reaches the others, however often it must be said until they are back."""

    def heard() -> bool:
        speaker.say(f"{speaker.name}999999", number=50)
        return all(site.texts(50) for site in others)

    await until(heard)


async def test_killed_and_back_empty_it_is_noticed_and_left_again(real: RedisWorld) -> None:
    sites = a, b, c = await join_all(real)
    gaps = [site.gaps for site in sites]
    async with trio.open_nursery() as nursery:
        for site in sites:
            nursery.start_soon(chatter, site, 300)
        await trio.sleep(0.1)
        os.kill(real.pid(), signal.SIGKILL)
    await heard_again(a, [b, c])
    await heard_again(c, [a, b])
    await until(lambda: all(site.gaps > before for site, before in zip(sites, gaps, strict=True)))
    for site in sites:
        assert all(in_order_and_once(site, other) for other in sites)
        assert site.states in ([True], [True, False, True])  # away, or back before it could be told


async def test_a_paused_redis_counts_as_away_until_it_goes_on(
    real: RedisWorld, caplog: pytest.LogCaptureFixture
) -> None:
    sites = a, b, c = await join_all(real)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chatter, a, 1500)
        await until(lambda: len(b.heard) > 10)
        os.kill(real.pid(), signal.SIGSTOP)
        try:
            await until(lambda: all(site.states == [True, False] for site in sites))
            dropped = a.mirror.statistics().dropped_ephemeral
            await until(lambda: a.mirror.statistics().dropped_ephemeral > dropped)
            gaps = [site.gaps for site in sites]
        finally:
            os.kill(real.pid(), signal.SIGCONT)
        await until(lambda: all(site.states == [True, False, True] for site in sites))
    await heard_again(a, [b, c])
    await until(lambda: all(site.gaps > before for site, before in zip(sites, gaps, strict=True)))
    assert in_order_and_once(b, a)
    assert in_order_and_once(c, a)
    for told in ("Redis is away", "events are mirrored"):
        lines = [record for record in caplog.records if told in record.message and record.levelno == logging.WARNING]
        assert len(lines) == 3, "every instance says it once"


async def test_while_redis_is_paused_what_waits_is_bounded(real: RedisWorld) -> None:
    a, _ = await join_all(real, "ab")
    waiting_max = SETTINGS.mirror_waiting_items_max
    os.kill(real.pid(), signal.SIGSTOP)
    try:
        published = 0
        while a.states == [True]:
            for _ in range(500):
                a.say("x")
            published += 500
            assert a.mirror.statistics().waiting <= waiting_max
            await trio.sleep(0.02)
    finally:
        os.kill(real.pid(), signal.SIGCONT)
    statistics = a.mirror.statistics()
    assert statistics.published + statistics.dropped_ephemeral == published
    assert statistics.waiting == statistics.waiting_bytes == 0


async def test_cut_connections_lose_nothing(real: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_mirror, "STABLE_S", 0.0)
    a, b, c = await join_all(real)
    gaps = b.gaps
    texts: list[str] = []

    async def talk() -> None:
        texts.extend(await chatter(a, 800))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        for _ in range(6):
            await trio.sleep(0.1)
            await real.ask("CLIENT", "KILL", "TYPE", "normal")
    for site in (b, c):
        await until(lambda site=site: len(site.heard) >= 800)  # type: ignore[misc]
        assert sorted(site.texts(), key=lambda text: int(text[1:])) == texts
        assert in_order_and_once(site, a)
        assert site.states == [True]
    assert b.mirror.statistics().reconnects >= 1
    await until(lambda: b.gaps > gaps)


async def test_emptied_streams_are_noticed_without_a_lost_connection(real: RedisWorld) -> None:
    a, b = await join_all(real, "ab")
    await until(lambda: a.mirror.statistics().entries_received > 3)
    gaps = b.gaps
    # In one step, so that what is published just before is lost for certain.
    await real.ask("EVAL", "redis.call('XADD', KEYS[1], '*', 'b', 'x') redis.call('FLUSHALL')", 1, "catfish:mirror:{1}")
    a.say("after")
    await until(lambda: b.texts() == ["after"])
    assert b.gaps >= gaps
    assert a.states == b.states == [True]


async def test_streams_made_anew_with_lower_ids_are_noticed(real: RedisWorld) -> None:
    """As when the clock of Redis's machine was put back."""
    a, b = await join_all(real, "ab")
    gaps = b.gaps
    await real.ask("XADD", "catfish:mirror:{1}", "99999999999999-0", "b", "not one of ours")
    await until(lambda: a.mirror.statistics().unreadable == b.mirror.statistics().unreadable == 1)
    await real.ask("DEL", "catfish:mirror:{1}")

    def heard() -> bool:
        a.say("again", number=1)
        return "again" in b.texts(1)

    await until(heard)
    await until(lambda: b.gaps > gaps)


class Stuck(Site):
    """An instance in a thread of its own, whose event loop stands still at the first event until `hold` is set."""

    def __init__(self, url: str) -> None:
        super().__init__("s")
        self.url = url
        self.started, self.reached, self.hold, self.done = (threading.Event() for _ in range(4))
        self.thread = threading.Thread(target=trio.run, args=(self._run,), name="stuck instance")

    def mirrored(self, number: int, event: Event, to: str | None) -> None:
        self.reached.set()
        self.hold.wait()
        super().mirrored(number, event, to)

    async def _run(self) -> None:
        mirror = self.mirror = RedisMirror(SETTINGS, self.name, self, url=self.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(mirror.run)
            self.started.set()
            while not self.done.is_set():  # noqa: ASYNC110 - of a thread
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_who_falls_behind_a_trimmed_stream_hears_what_is_left_and_of_a_gap(real: RedisWorld) -> None:
    a = await real.join("a")
    slow = Stuck(real.server.url)
    slow.thread.start()
    try:
        await until(slow.started.is_set)
        a.say("first", number=1)
        await until(slow.reached.is_set)
        gaps = slow.gaps
        await chatter(a, 400, pause_s=0.004)
        await until(lambda: a.mirror.statistics().published == 401)
        for stream in range(3):
            await real.ask("XTRIM", f"catfish:mirror:{{{stream}}}", "MAXLEN", 10)
        slow.hold.set()
        await until(lambda: "a399" in slow.texts())
        assert len(slow.heard) < 350
        assert in_order_and_once(slow, a)
        await until(lambda: slow.gaps > gaps)
    finally:
        slow.hold.set()
        slow.done.set()
        await trio.to_thread.run_sync(slow.thread.join)


async def test_rooms_that_an_instance_does_not_host_do_not_wake_it(
    real: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await join_all(real, "ab")
    monkeypatch.setattr(link, "QUIET_S", math.inf)
    rung = 0
    ring = link.Link._ring

    def count(self: link.Link) -> None:
        nonlocal rung
        rung += 1
        ring(self)

    monkeypatch.setattr(link.Link, "_ring", count)
    a.say("first")
    await until(lambda: b.texts() == ["first"])
    before = rung
    for i in range(30):
        a.say(str(i), number=1_000 + i)
        await trio.sleep(0.002)
    await until(lambda: a.mirror.statistics().published >= 31)
    a.say("last")
    await until(lambda: b.texts() == ["first", "last"])
    assert rung == before + 1
    statistics = b.mirror.statistics()
    assert (statistics.received, statistics.stale) == (2, 0)
    assert statistics.entries_received > 2, "what was passed over is counted all the same"


async def test_streams_are_trimmed_to_about_their_limit(real: RedisWorld) -> None:
    real.settings = attrs.evolve(SETTINGS, mirror_entries_max=100, mirror_streams=1, mirror_interval_ms=0.0)
    a, b = await join_all(real, "ab")
    await chatter(a, 1_000)
    await until(lambda: a.mirror.statistics().published == 1_000)
    length = await real.ask("XLEN", "catfish:mirror:{0}")
    assert isinstance(length, int)
    assert 100 <= length <= 300
    await until(lambda: "a999" in b.texts())


async def test_an_instance_that_falls_silent_leaves_a_gap_to_the_others(
    real: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "SILENCE_S", 2.0)
    _, b, c = await join_all(real)
    gaps = b.gaps, c.gaps
    real.scopes["a"].cancel()
    await until(lambda: b.mirror.statistics().peers == c.mirror.statistics().peers == 1)
    await until(lambda: b.gaps > gaps[0] and c.gaps > gaps[1])


async def test_what_was_published_before_an_instance_stops_still_crosses(real: RedisWorld) -> None:
    a, b = await join_all(real, "ab")
    for i in range(100):
        a.say(f"a{i}")
    real.scopes["a"].cancel()
    await until(lambda: len(b.heard) == 100)


async def test_instances_that_spread_rooms_over_different_numbers_of_streams_hear_each_other(real: RedisWorld) -> None:
    real.settings = attrs.evolve(SETTINGS, mirror_streams=1)
    narrow = await real.join("n")
    real.settings = attrs.evolve(SETTINGS, mirror_streams=4)
    wide = await real.join("w")
    wide.say("wide", number=0)
    await until(lambda: narrow.mirror.statistics().peers == 1)
    for number in range(4):

        def heard(number: int = number) -> bool:
            wide.say("wide", number=number)
            return narrow.texts(number) != []

        await until(heard)
        narrow.say("narrow", number=number)
    await until(lambda: wide.texts() == ["narrow"] * 4)
    assert narrow.states == [True]


LEAVES = """
import sys, trio
from catfish.config import Settings
from catfish.mirror import link
from catfish.mirror.redis_mirror import RedisMirror
from tests.mirror.world import Site

link.BLOCK_S_MAX = 1000.0  # what a read waits in Redis must be nobody's concern

async def main():
    mirror = RedisMirror(Settings(mirror_timeout_s=3000.0), "x", Site("x"), url=sys.argv[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(mirror.run)
        print("started", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()
    print("ended", flush=True)

trio.run(main)
"""


async def line_of(stream: trio.abc.ReceiveStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = await stream.receive_some()
        assert part, line
        line += part
    return line


async def test_a_read_that_waits_in_redis_keeps_no_process_from_ending(real: RedisWorld) -> None:
    """Nor one that Redis will never answer."""
    command = [sys.executable, "-W", "error", "-c", LEAVES, real.server.url]
    root = Path(__file__).parents[2]
    for paused in (False, True):
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with trio.fail_after(20):
                assert await line_of(process.stdout) == b"started\n"
                if paused:
                    os.kill(real.pid(), signal.SIGSTOP)
                await process.stdin.send_all(b"\n")
                assert await line_of(process.stdout) == b"ended\n"
                assert await process.wait() == 0
            assert await process.stderr.receive_some() == b""
        finally:
            os.kill(real.pid(), signal.SIGCONT)
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()


async def test_starting_beside_a_paused_redis_does_not_wait_for_it(real: RedisWorld) -> None:
    os.kill(real.pid(), signal.SIGSTOP)
    try:
        a = await real.join("a")
        assert a.states == [False]
    finally:
        os.kill(real.pid(), signal.SIGCONT)
    await until(lambda: a.states == [False, True])


async def test_a_redis_that_takes_no_entries_counts_as_away(real: RedisWorld, caplog: pytest.LogCaptureFixture) -> None:
    await real.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await real.ask("CONFIG", "SET", "maxmemory", "1kb")
    a = await real.join("a")
    assert a.states == [False]
    assert "maxmemory" in str([vars(record) for record in caplog.records])
    await real.ask("CONFIG", "SET", "maxmemory", "512mb")
    await until(lambda: a.states == [False, True])


async def test_the_lag_is_that_of_an_entry_from_here_to_here(real: RedisWorld) -> None:
    a = await real.join("a")
    a.say("x")
    await until(lambda: a.mirror.statistics().lag_ms is not None)


async def test_an_account_with_the_documented_rights_is_enough(real: RedisWorld) -> None:
    rights = ["~catfish:*", "-@all", "+xadd", "+xread", "+xrevrange", "+del", "+client"]
    await real.ask("ACL", "SETUSER", "cat", "on", ">pa55word", *rights)
    sites = [Site(name) for name in "ab"]
    url = real.server.url.replace("unix://", "unix://cat:pa55word@")
    async with trio.open_nursery() as nursery:
        for site in sites:
            mirror = site.mirror = RedisMirror(SETTINGS, site.name, site, url=url)
            await nursery.start(mirror.run)
        sites[0].say("hello")
        await until(lambda: sites[1].texts() == ["hello"])
        nursery.cancel_scope.cancel()
    denied = Site("c")
    mirror = denied.mirror = RedisMirror(SETTINGS, "c", denied, url=url.replace("pa55word", "wrong"))
    async with trio.open_nursery() as nursery:
        await nursery.start(mirror.run)
        assert denied.states == [False]
        nursery.cancel_scope.cancel()
