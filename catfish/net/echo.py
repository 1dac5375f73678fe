"""A WebSocket echo server made of the same listener and connections as Catfish, for conformance tools and measurements.

    python -m catfish.net.echo --port 9001 [--host 127.0.0.1] [--no-limits] [--no-deflate] [--set NAME=VALUE ...]

Text stays text, binary stays binary; compressed are the answers to clients that negotiated it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import cattrs
import trio

from catfish.config import Settings
from catfish.errors import GOING_AWAY, Close
from catfish.net.connection import Connection
from catfish.net.handoff import ReplayStream
from catfish.net.listener import Listener, serve
from catfish.net.outgoing import Outgoing
from catfish.wire.http import HttpRefusal, RequestHead
from catfish.wire.websocket.frames import BINARY, TEXT

UNLIMITED: Final[dict[str, Any]] = {
    "message_bytes_max": 1 << 30,
    "fragments_max": 1 << 30,
    "outbox_bytes_max": 1 << 40,
    "outbox_age_s_max": 1e6,
    "heartbeat_s": 1e6,
    "connections_max": 1 << 30,
}
"""What `--no-limits` sets."""


class Echo:
    """Sends back what it receives."""

    def __init__(self, connection: Connection, deflate_bytes_min: int) -> None:
        self._connection = connection
        self._deflate_bytes_min = deflate_bytes_min

    def receive(self, message: str | bytes) -> None:
        """Send it back."""
        connection = self._connection
        if isinstance(message, str):
            outgoing = Outgoing(message.encode(), TEXT, self._deflate_bytes_min)
        else:
            outgoing = Outgoing(message, BINARY, self._deflate_bytes_min)
        connection.send(outgoing.frame(connection.compresses))

    def closed(self, close: Close) -> None:
        """Nothing is to be cleaned up."""

    async def run(self) -> None:
        """Nothing has to wait."""


class EchoEndpoint:
    """Every path leads here."""

    subprotocols: Sequence[str] = ()
    heartbeat = True

    def __init__(self, settings: Settings) -> None:
        self.message_bytes_max = settings.message_bytes_max
        self._deflate_bytes_min = settings.deflate_bytes_min

    def check(self, head: RequestHead, address: str) -> None:
        """Everyone may come in."""

    def open(self, connection: Connection) -> Echo:
        """An echo for this connection."""
        return Echo(connection, self._deflate_bytes_min)


async def answer_http(stream: ReplayStream) -> None:
    """Whatever is no upgrade gets an answer that says what this is."""
    await stream.send_all(HttpRefusal(426, "This is a WebSocket echo server.", (("Upgrade", "websocket"),)).response())
    await stream.aclose()


async def serve_echo(settings: Settings, *, task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; see `listener.serve`."""
    endpoint = EchoEndpoint(settings)
    await serve(settings, lambda head: endpoint, answer_http, task_status=task_status)


async def run_until_signal(settings: Settings) -> None:
    """Serve, say where, and drain on SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            listener: Listener = await nursery.start(partial(serve_echo, settings))
            sys.stdout.write(f"echo on {' '.join(listener.addresses)}\n")
            sys.stdout.flush()
            async for _ in signals:
                break
            listener.stop_accepting()
            await listener.drain(GOING_AWAY, settings.drain_grace_s)
            nursery.cancel_scope.cancel()


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Settings of the command line. Exits with a message when it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m catfish.net.echo", description="WebSocket echo server")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--no-limits", action="store_true", help="sizes, rates and silence without limits")
    parser.add_argument("--no-deflate", action="store_true", help="never agree on permessage-deflate")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting by its name")
    parsed = parser.parse_args(arguments)
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    values: dict[str, Any] = {"bind": [f"{host}:{parsed.port}"]}
    if parsed.no_limits:
        values |= UNLIMITED
    if parsed.no_deflate:
        values["deflate"] = False
    for text in parsed.set:
        name, _, value = text.partition("=")
        values[name] = value
    try:
        return cattrs.Converter(forbid_extra_keys=True).structure(values, Settings)
    except Exception as error:  # noqa: BLE001 - cattrs raises groups of whatever the fields raise
        parser.error("; ".join(cattrs.transform_error(error)))


def main() -> None:
    """The program."""
    logging.basicConfig(level=logging.INFO)
    trio.run(run_until_signal, parse_settings(sys.argv[1:]))


if __name__ == "__main__":
    main()
