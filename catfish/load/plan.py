"""What is to be measured, checked before anything is opened. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import attrs

from catfish.load.errors import PlanError

URL_DEFAULT: Final = "ws://127.0.0.1:8080"
CONNECTIONS_MAX: Final = 20_000
"""Of one run; one address has some 28,000 ports for connections to one other address."""
SECONDS_MAX: Final = 600.0
RATE_MAX: Final = 100_000.0
CONTENT_BYTES_MAX: Final = 5_000
"""Of a chat message, as the server's setting `content_chars_max` has it by default."""
EPHEMERAL_BYTES_MAX: Final = 60_000
"""Of what is echoed or emitted; the server's setting `data_bytes_max` is 65,536 by default."""
ROOM_OF_CHAT: Final = 10
"""Members of a room in `chat`, `cross` and `idle`."""

PROTOCOLS: Final = ("native", "native-msgpack", "socketio", "socketio-peer")


class Scenario(NamedTuple):
    """What a scenario is by default, and what it can be."""

    n: int
    n_min: int
    multiple: int
    """`n` must be one of this."""
    stores: bool
    """Its messages are stored, so they are limited like chat messages."""
    meaning: str
    n_max: int = CONNECTIONS_MAX


SCENARIOS: Final = {
    "echo": Scenario(200, 1, 1, False, "every connection keeps one acknowledged request in flight"),
    "fan": Scenario(500, 2, 1, False, "one room; one sender keeps four broadcasts in flight"),
    "pair": Scenario(400, 2, 2, False, "rooms of two; every message is answered by the partner"),
    "chat": Scenario(200, 10, 10, True, "rooms of ten; every connection keeps one stored message in flight"),
    "idle": Scenario(3_000, 1, 1, False, "connections that do nothing, before and after each entered a room"),
    "storm": Scenario(1_000, 1, 1, False, "connections opened and made ready as fast as possible"),
    "cross": Scenario(100, 10, 10, True, "rooms of ten, sender on the first --url, the others on the second", 5_000),
}


class Target(NamedTuple):
    """Where a server is."""

    host: str
    port: int
    path: str
    """Empty when the URL names none: the protocol has a usual one."""

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Plan:
    """One measurement; made by `make_plan`."""

    scenario: str
    targets: tuple[Target, ...]
    n: int
    """Connections."""
    seconds: float
    """Of each measured phase."""
    size: int
    """Bytes of text in each message."""
    protocol: str
    pids: tuple[int, ...]
    """Roots of the process trees that are measured; empty: those that listen on the targets' ports."""
    rate: float
    """Messages per second over all rooms (`cross`)."""
    token: str
    """Makes the names of this run's rooms and users its own; of the same length in every run."""


def make_plan(
    scenario: str,
    *,
    urls: Sequence[str] = (),
    n: int | None = None,
    seconds: float = 4.0,
    size: int = 100,
    protocol: str = "native",
    pids: Sequence[int] = (),
    rate: float = 1_000.0,
) -> Plan:
    """Check the arguments, and fill in the scenario's own defaults.

    Raises:
        PlanError: they make no measurement.
    """
    if scenario not in SCENARIOS:
        raise PlanError(f"there is no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
    if protocol not in PROTOCOLS:
        raise PlanError(f"--protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
    kind = SCENARIOS[scenario]
    count = kind.n if n is None else n
    if not kind.n_min <= count <= kind.n_max or count % kind.multiple:
        step = f", a multiple of {kind.multiple}" if kind.multiple > 1 else ""
        raise PlanError(f"--n is {count}; for {scenario} it must be {kind.n_min} to {kind.n_max}{step}")
    if not 0.1 <= seconds <= SECONDS_MAX:
        raise PlanError(f"--seconds is {seconds:g}; it must be 0.1 to {SECONDS_MAX:g}")
    size_max = CONTENT_BYTES_MAX if kind.stores else EPHEMERAL_BYTES_MAX
    if not 1 <= size <= size_max:
        raise PlanError(f"--size is {size}; for {scenario} it must be 1 to {size_max} bytes")
    if not 1 <= rate <= RATE_MAX:
        raise PlanError(f"--rate is {rate:g}; it must be 1 to {RATE_MAX:g} messages per second")
    if any(pid < 1 for pid in pids):
        raise PlanError("--pid must be the id of a process")
    targets = tuple(parse_url(url) for url in urls or (URL_DEFAULT,))
    if scenario == "cross":
        if len(targets) != 2 or targets[0] == targets[1]:
            raise PlanError("cross needs two --url: the senders' instance, then the receivers'")
        if len(pids) not in (0, 2):
            raise PlanError("cross takes two --pid, in the order of the --url, or none")
        if not protocol.startswith("native"):
            raise PlanError("cross speaks the native protocol only")
    elif len(targets) != 1:
        raise PlanError(f"{scenario} takes one --url")
    return Plan(scenario, targets, count, seconds, size, protocol, tuple(pids), rate, os.urandom(4).hex())


def parse_url(url: str) -> Target:
    """Take `ws://host:port[/path]` apart; `http://` means the same.

    Raises:
        PlanError: it is something else. TLS is not spoken: its cost would be the client's as much as the server's.
    """
    problem = f"--url is {url!r}; it must be ws://HOST:PORT[/PATH]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PlanError(problem) from None
    if parts.scheme in ("wss", "https"):
        raise PlanError(f"--url is {url!r}; TLS is not measured here, so name the plain address behind it")
    if parts.scheme not in ("ws", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise PlanError(problem)
    if any(not "!" <= character <= "~" for character in parts.path):
        raise PlanError(problem)
    return Target(parts.hostname, 80 if port is None else port, "" if parts.path == "/" else parts.path)
