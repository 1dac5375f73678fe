"""The forms of a Redis URL; Sentinel and Cluster with real servers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
import trio
from redis.cluster import RedisCluster
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError

from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.addresses import Addresses
from catfish.mirror.private_redis import find_program
from catfish.mirror.redis_mirror import RedisMirror
from tests.mirror.conftest import SETTINGS
from tests.mirror.world import Site, until


def arguments_of(url: str) -> tuple[type, dict[str, Any]]:
    (server,) = Addresses(url).locate(["s"], 1.0)
    assert server.streams == ("s",)
    return server.connection_class, server.arguments


@pytest.mark.parametrize(
    ("url", "kind", "arguments"),
    [
        ("redis://r", Connection, {"host": "r"}),
        ("redis://u:p%40ss@r:1/2", Connection, {"host": "r", "port": 1, "db": 2, "username": "u", "password": "p@ss"}),
        ("redis://[::1]:7?db=3&socket_timeout=9&max_connections=1", Connection, {"host": "::1", "port": 7, "db": 3}),
        ("rediss://r?ssl_cert_reqs=none", SSLConnection, {"host": "r", "ssl_cert_reqs": "none"}),
        ("unix:///a%20b/c.sock?db=1", UnixDomainSocketConnection, {"path": "/a b/c.sock", "db": 1}),
    ],
)
def test_one_server(url: str, kind: type, arguments: dict[str, Any]) -> None:
    assert arguments_of(url) == (kind, arguments)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://r", "unknown scheme"),
        ("redis+mirror://r", "unknown scheme"),
        ("redis+sentinel://a:1,b:2", "name of the master"),
        ("redis+cluster://a/3", "database 0 only"),
        ("redis+cluster://a:x", "a host that is none"),
        ("redis+cluster://a,,b", "names no host"),
        ("redis://r?colour=blue", "wrong parameter"),
    ],
)
def test_a_url_of_no_known_form_is_refused_without_repeating_it(url: str, complaint: str) -> None:
    secret = url.replace("://", "://u:pa55word@")
    with pytest.raises(StartError, match=complaint) as caught:
        RedisMirror(Settings(), "a", Site("a"), url=secret)
    assert "pa55word" not in str(caught.value)


def test_every_form_is_one_that_the_settings_take() -> None:
    for scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"):
        Settings(redis_url=f"{scheme}://h:1/name")


# Real ones


def free_ports(count: int) -> list[int]:
    """Ports below those that the kernel gives away, and with room for the cluster bus 10,000 above."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in range(21_000, 22_000):
            if len(ports) == count:
                break
            pair = [stack.enter_context(socket.socket()) for _ in range(2)]
            try:
                pair[0].bind(("127.0.0.1", port))
                pair[1].bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            ports.append(port)
    return ports


@contextmanager
def redis_process(directory: Path, *arguments: object) -> Iterator[None]:
    command: list[str | Path] = [
        find_program(),
        *map(str, arguments),
        "--save",
        "",
        "--daemonize",
        "no",
        "--bind",
        "127.0.0.1",
    ]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def answers(port: int) -> None:
    def ping() -> bool:
        with redis.Redis(port=port, socket_timeout=1) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False

    await until(ping)


async def hear_each_other(nursery: trio.Nursery, settings: Settings, url: str) -> list[Site]:
    sites = [Site(name) for name in "ab"]
    for site in sites:
        mirror = site.mirror = RedisMirror(settings, site.name, site, url=url)
        await nursery.start(mirror.run)
    a, b = sites
    for number in range(6):
        a.say(str(number), number=number)
    await until(lambda: len(b.heard) == 6)
    assert a.states == b.states == [True]
    return sites


async def test_a_cluster_holds_the_streams_on_its_nodes(redis_dir: Path) -> None:
    ports = free_ports(3)
    with contextlib.ExitStack() as stack:
        for port in ports:
            (redis_dir / str(port)).mkdir()
            stack.enter_context(
                redis_process(redis_dir / str(port), "--port", port, "--cluster-enabled", "yes", "--appendonly", "no")
            )
        for port in ports:
            await answers(port)
        for i, port in enumerate(ports):
            with redis.Redis(port=port) as client:
                slots = range(16_384 * i // 3, 16_384 * (i + 1) // 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        await until(lambda: all(cluster_is_ok(port) for port in ports))
        settings = attrs.evolve(SETTINGS, mirror_streams=6)
        url = "redis+cluster://" + ",".join(f"localhost:{port}" for port in [1, *ports])
        async with trio.open_nursery() as nursery:
            await hear_each_other(nursery, settings, url)
            nursery.cancel_scope.cancel()
        held = []
        for port in ports:
            with redis.Redis(port=port) as client:
                held.append(len(client.keys("catfish:mirror:*")))
        assert sum(held) == 6
        assert sum(1 for count in held if count) > 1, "they are spread"


def cluster_is_ok(port: int) -> bool:
    with redis.Redis(port=port) as client:
        info: Any = client.execute_command("CLUSTER", "INFO")
    if b"cluster_state:ok" not in info or b"cluster_known_nodes:3" not in info:
        return False
    cluster = RedisCluster(host="127.0.0.1", port=port)
    cluster.close()
    return True


async def test_sentinels_tell_where_the_master_is_and_where_it_has_moved(redis_dir: Path) -> None:
    first, second, watch = free_ports(3)
    (redis_dir / "sentinel.conf").write_text(
        f"sentinel monitor chat 127.0.0.1 {first} 1\nsentinel down-after-milliseconds chat 60000\n"
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis_process(redis_dir, "--port", first))
        stack.enter_context(redis_process(redis_dir, "--port", second, "--replicaof", "127.0.0.1", first))
        await answers(second)
        stack.enter_context(redis_process(redis_dir, "sentinel.conf", "--sentinel", "--port", watch))
        await answers(watch)
        with redis.Redis(port=watch) as sentinel:
            await until(lambda: any(state["flags"] == "slave" for state in replicas(sentinel)))
            async with trio.open_nursery() as nursery:
                a, b = await hear_each_other(nursery, SETTINGS, f"redis+sentinel://localhost:1,localhost:{watch}/chat")
                sentinel.execute_command("SENTINEL", "FAILOVER", "chat")
                await until(lambda: master_port(sentinel) == second)

                def heard() -> bool:
                    a.say("moved", number=7)
                    return b.texts(7) != []

                await until(heard)
                with redis.Redis(port=second) as client:
                    await until(lambda: client.execute_command("ROLE")[0] == b"master")
                assert len(b.texts(7)) >= 1
                nursery.cancel_scope.cancel()


def replicas(sentinel: redis.Redis) -> list[Any]:
    return list(sentinel.sentinel_slaves("chat"))


def master_port(sentinel: redis.Redis) -> int:
    masters: Any = sentinel.sentinel_masters()
    return int(masters["chat"]["port"])
