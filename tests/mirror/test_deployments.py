"""The mirror over every way to run a Redis: TCP, TLS, a Unix socket, Sentinel and Cluster, with real servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import redis
import trio
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from catfish.config import Settings
from catfish.mirror import link
from catfish.mirror.private_redis import find_program
from catfish.mirror.redis_mirror import RedisMirror
from tests.mirror.conftest import SETTINGS
from tests.mirror.world import Site, until

TLS_FILES = Path(__file__).parents[1] / "net" / "tls"


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
def redis_process(directory: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
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
        yield process
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


async def all_hear(a: Site, b: Site, streams: int, text: str) -> None:
    """Whatever stream a room is in, what is said there crosses again."""

    def heard() -> bool:
        missing = [number for number in range(streams) if text not in b.texts(number)]
        for number in missing:
            a.say(text, number=number)
        return not missing

    await until(heard)


# One server


@asynccontextmanager
async def tls_in_front(address: tuple[str, int]) -> AsyncIterator[int]:
    """Something that speaks TLS for a server that does not, as stunnel does; its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS_FILES / "localhost.pem", TLS_FILES / "localhost.key")

    async def serve(stream: trio.SocketStream) -> None:
        async with stream, await trio.open_tcp_stream(*address) as server, trio.open_nursery() as nursery:
            client = trio.SSLStream(stream, context, server_side=True, https_compatible=True)

            async def forward(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                    async for part in source:
                        await sink.send_all(part)
                nursery.cancel_scope.cancel()

            nursery.start_soon(forward, client, server)
            nursery.start_soon(forward, server, client)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_over_tcp_and_over_tls_whose_certificate_is_checked(redis_dir: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(link, "BLOCK_S_MAX", 1_000.0)  # what a read waits must not keep anybody from stopping
    settings = attrs.evolve(SETTINGS, mirror_timeout_s=3_000.0)
    (port,) = free_ports(1)
    with redis_process(redis_dir, "--port", port):
        await answers(port)
        async with tls_in_front(("127.0.0.1", port)) as tls_port:
            trusted = f"rediss://localhost:{tls_port}?ssl_ca_certs={TLS_FILES / 'localhost.pem'}"
            for url in (f"redis://localhost:{port}", trusted):
                async with trio.open_nursery() as nursery:
                    await hear_each_other(nursery, settings, url)
                    nursery.cancel_scope.cancel()
                # The threads have ended as well.
                await until(lambda: not any(named.startswith("catfish:") for named in client_names(port)))
            async with trio.open_nursery() as nursery:
                site = Site("unsure")
                mirror = site.mirror = RedisMirror(settings, "unsure", site, url=f"rediss://localhost:{tls_port}")
                await nursery.start(mirror.run)
                assert site.states == [False], "nobody vouches for that certificate"
                nursery.cancel_scope.cancel()


def client_names(port: int) -> list[str]:
    with redis.Redis(port=port) as client:
        return [each["name"] for each in client.client_list()]


async def test_over_a_unix_socket_with_a_name_and_a_number(redis_dir: Path) -> None:
    path = redis_dir / "a socket"
    with redis_process(redis_dir, "--port", 0, "--unixsocket", path):
        await until(path.exists)
        async with trio.open_nursery() as nursery:
            await hear_each_other(nursery, SETTINGS, f"unix://{str(path).replace(' ', '%20')}?db=3")
            nursery.cancel_scope.cancel()
        with redis.Redis(unix_socket_path=str(path), db=3) as client:
            assert client.exists("catfish:mirror:{0}")


# Cluster


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[tuple[list[int], list[subprocess.Popen[bytes]]]]:
    """Three masters and, last, a replica of the first; their ports and processes."""
    ports = free_ports(4)
    with contextlib.ExitStack() as stack:
        processes = []
        for port in ports:
            (directory / str(port)).mkdir()
            process = redis_process(
                directory / str(port),
                *("--port", port, "--cluster-enabled", "yes", "--appendonly", "no", "--cluster-node-timeout", 1_000),
            )
            processes.append(stack.enter_context(process))
        for port in ports:
            await answers(port)
        for i, port in enumerate(ports):
            with redis.Redis(port=port) as client:
                if i < 3:
                    slots = range(16_384 * i // 3, 16_384 * (i + 1) // 3)
                    client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        await until(lambda: all(cluster_is_ok(port) for port in ports))
        with redis.Redis(port=ports[0]) as first, redis.Redis(port=ports[3]) as replica:
            replica.execute_command("CLUSTER", "REPLICATE", first.execute_command("CLUSTER", "MYID"))
            await until(lambda: replicates(first))
        yield ports, processes


def replicates(master: redis.Redis) -> bool:
    """Whether its replica has caught up."""
    told: Any = master.info("replication")
    return bool(told["connected_slaves"] and told["slave0"]["state"] == "online")


async def test_a_cluster_holds_the_streams_on_its_nodes_and_may_lose_one_of_them(redis_dir: Path) -> None:
    streams = 6
    settings = attrs.evolve(SETTINGS, mirror_streams=streams)
    async with cluster(redis_dir) as (ports, processes):
        url = "redis+cluster://" + ",".join(f"localhost:{port}" for port in [1, *ports[1:3]])
        async with trio.open_nursery() as nursery:
            a, b = await hear_each_other(nursery, settings, url)
            held = []
            for port in ports[:3]:
                with redis.Redis(port=port) as client:
                    held.append(len(client.keys("catfish:mirror:*")))
            assert sum(held) == streams
            assert all(held), "they are spread"
            gaps = b.gaps
            processes[0].kill()
            with redis.Redis(port=ports[3]) as replica:
                await until(lambda: replica.execute_command("ROLE")[0] == b"master")
            await all_hear(a, b, streams, "after")
            await until(lambda: a.states[-1] and b.states[-1] and b.gaps > gaps)
            nursery.cancel_scope.cancel()


def cluster_is_ok(port: int) -> bool:
    with redis.Redis(port=port) as client:
        info: Any = client.execute_command("CLUSTER", "INFO")
    if b"cluster_state:ok" not in info or b"cluster_known_nodes:4" not in info:
        return False
    cluster = RedisCluster(host="127.0.0.1", port=port)
    cluster.close()
    return True


# Sentinel


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
