"""Where Redis is: the forms of its URL, and from them the servers that hold given streams.

    redis://[[user:]password@]host[:port][/db]            one server
    rediss://…                                            the same over TLS
    unix://[[user:]password@]/path/of/the.sock[?db=n]     the same through a Unix socket
    redis+sentinel://[[user:]password@]host[:port][,host[:port]…]/name[/db]
                                                          the master that Sentinels on these hosts know by that name
    redis+cluster://[[user:]password@]host[:port][,host[:port]…]
                                                          a Cluster; some of its nodes are enough

`rediss+sentinel` and `rediss+cluster` are the same over TLS. Parameters behind `?` go to redis-py's connections as
those of `redis://` do (`ssl_ca_certs`, `ssl_cert_reqs`, …); `sentinel_username` and `sentinel_password` go to the
Sentinels. redis-py has no forms for Sentinel and Cluster itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
OURS: Final = frozenset(
    (
        *("client_name", "connection_class", "decode_responses", "health_check_interval", "max_connections"),
        *("protocol", "retry_on_error", "retry_on_timeout", "socket_connect_timeout", "socket_timeout", "timeout"),
    )
)
"""Parameters that a URL may have for other programs and that are ours to choose."""


class Server(NamedTuple):
    """One server, and which of the streams in question it holds."""

    connection_class: type[AbstractConnection]
    arguments: dict[str, Any]
    streams: tuple[str, ...]

    def connection(self, *, client_name: str, timeout_s: float, connect_s: float) -> AbstractConnection:
        """A connection that is not open yet and never tries anything twice.

        Args:
            timeout_s: for every answer.
        """
        return self.connection_class(
            **self.arguments,
            client_name=client_name,
            socket_timeout=timeout_s,
            socket_connect_timeout=connect_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )


class Addresses:
    """
    Raises:
        ValueError: the URL has none of the forms; the message does not contain it, since it may hold a password.
    """

    def __init__(self, url: str) -> None:
        scheme = url.partition("://")[0]
        base, _, self._kind = scheme.partition("+")
        self._hosts: list[tuple[str, int]] = []
        self._service = ""
        self._sentinel_arguments: dict[str, Any] = {}
        if self._kind not in ("", "sentinel", "cluster") or base not in ("redis", "rediss", "unix"):
            raise ValueError("the Redis URL has an unknown scheme")
        if self._kind:
            url = self._split(base, url)
        arguments = {name: value for name, value in parse_url(url).items() if name not in OURS}
        self._connection_class: type[AbstractConnection] = parse_url(url).get("connection_class", Connection)
        self._arguments = arguments
        try:
            Server(self._connection_class, arguments, ()).connection(client_name="", timeout_s=1, connect_s=1)
        except (TypeError, ValueError, RedisError) as error:
            raise ValueError(f"the Redis URL has a wrong parameter: {error}") from None

    def _split(self, base: str, url: str) -> str:
        """Take out what redis-py does not know; what is left is the URL of a single server."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        port = SENTINEL_PORT if self._kind == "sentinel" else PORT
        self._hosts = [_host(text, port) for text in hosts.split(",")]
        path = parts.path.strip("/").split("/") if parts.path.strip("/") else []
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self._kind == "sentinel":
            if not path:
                raise ValueError("a Sentinel URL needs the name of the master behind the hosts: …/name")
            self._service = unquote(path.pop(0))
            for name in ("username", "password"):
                if f"sentinel_{name}" in query:
                    self._sentinel_arguments[name] = query.pop(f"sentinel_{name}")
        elif path and path != ["0"]:
            raise ValueError("a Redis Cluster has the database 0 only")
        login = f"{login}@" if login else ""
        return f"{base}://{login}host/{'/'.join(path)}{'?' + urlencode(query) if query else ''}"

    def locate(self, streams: Sequence[str], timeout_s: float) -> list[Server]:
        """The servers that hold these streams now, each stream at one of them. Blocks.

        Raises:
            RedisError: it cannot be found out at the moment.
        """
        if self._kind == "sentinel":
            host, port = self._master(timeout_s)
            return [self._server(streams, host=host, port=port)]
        if self._kind == "cluster":
            # One command may name keys of one slot only, so every stream is read by itself.
            nodes = self._nodes(streams, timeout_s)
            return [self._server([name], host=host, port=port) for name, (host, port) in nodes.items()]
        return [self._server(streams)]

    def _server(self, streams: Sequence[str], **where: Any) -> Server:
        return Server(self._connection_class, {**self._arguments, **where}, tuple(streams))

    def _master(self, timeout_s: float) -> tuple[str, int]:
        tls = {name: value for name, value in self._arguments.items() if name.startswith("ssl")}
        arguments = {**tls, **self._sentinel_arguments, **self._patience(timeout_s)}
        if self._connection_class is not Connection:
            arguments["ssl"] = True
        sentinel = Sentinel(self._hosts, sentinel_kwargs=arguments)
        try:
            host, port = sentinel.discover_master(self._service)
            return host, port
        finally:
            for client in sentinel.sentinels:
                client.close()

    def _nodes(self, streams: Sequence[str], timeout_s: float) -> dict[str, tuple[str, int]]:
        arguments = {name: value for name, value in self._arguments.items() if name not in ("host", "port", "db")}
        if self._connection_class is not Connection:
            arguments["ssl"] = True
        failure: RedisError = RedisConnectionError("no node of the cluster")
        for host, port in self._hosts:
            try:
                cluster = RedisCluster(host=host, port=port, **arguments, **self._patience(timeout_s))
            except (RedisError, RedisClusterException) as error:
                failure = RedisConnectionError(str(error))
                continue
            try:
                nodes = {name: cluster.get_node_from_key(name) for name in streams}
                return {name: (str(node.host), int(node.port)) for name, node in nodes.items() if node is not None}
            except RedisClusterException as error:
                failure = RedisConnectionError(str(error))
            finally:
                cluster.close()
        raise failure

    def _patience(self, timeout_s: float) -> dict[str, Any]:
        return {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }


def _host(text: str, port: int) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPV6]:PORT."""
    try:
        parts = urlsplit(f"//{text}")
        host, given = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the Redis URL has a host that is none") from None
    if not host:
        raise ValueError("the Redis URL names no host")
    return host, given or port
