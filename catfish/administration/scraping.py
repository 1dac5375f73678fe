"""Reading the metrics of running servers, and what became of them between two looks."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 3.0
"""For a server to answer."""
ANSWER_BYTES_MAX: Final = 16_777_216
_URL: Final = re.compile(r"(?:(?P<scheme>https?)://(?P<authority>[^/\s?#@]+)/?|unix:(?P<path>/.+))", re.IGNORECASE)

Labels = frozenset[tuple[str, str]]
Samples = Mapping[tuple[str, Labels], float]


class Unreachable(Exception):
    """The server's numbers could not be had; the message says why."""


@attrs.frozen
class Look:
    """The numbers of one server at one moment."""

    at: float
    """Seconds, of a clock that only goes on."""
    samples: Samples

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels among theirs; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for (each, has), value in self.samples.items() if each == name and wanted <= has)

    def values(self, name: str, **labels: str) -> list[float]:
        wanted = set(labels.items())
        return [value for (each, has), value in self.samples.items() if each == name and wanted <= has]

    @property
    def workers(self) -> list[str]:
        found = {value for _, has in self.samples for key, value in has if key == "worker"}
        return sorted(found, key=lambda each: (len(each), each))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def check_url(url: str) -> str:
    """The same. Raises: ValueError."""
    if _URL.fullmatch(url) is None:
        raise ValueError(f"{url!r} is neither http://HOST:PORT, https://HOST:PORT nor unix:/PATH")
    return url


def look(url: str, api_key: str | None) -> Look:
    """Ask a server for its numbers; blocks.

    Args:
        url: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
        api_key: of the server API, where the address alone is not trusted.

    Raises:
        Unreachable.
    """
    match = _URL.fullmatch(url)
    assert match is not None, "`check_url` has seen it"
    connection: http.client.HTTPConnection
    if match["path"] is not None:
        connection = _UnixConnection(match["path"])
    elif match["scheme"].lower() == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(match["authority"], timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(match["authority"], timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics", headers={} if api_key is None else {"X-Api-Key": api_key})
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
        if answer.status == 401:
            raise Unreachable("it wants the API key (CATFISH_API_KEY)")
        if answer.status != 200:
            raise Unreachable(f"it answered {answer.status}")
        return Look(time.monotonic(), parse(text))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def parse(text: str) -> Samples:
    """Samples of an exposition. Raises: ValueError."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@attrs.frozen(kw_only=True)
class Row:
    """One worker of one server between two looks; rates are per second."""

    server: str
    worker: str
    connections: int
    rooms: int
    received: float
    """Messages."""
    sent: float
    bytes: float
    """In both directions."""
    commit_ms: float | None
    """Mean of the journal's transactions; None: there was none."""
    loop_ms: float
    """The worst lag of the event loop in the last minute."""
    mirror_ms: float | None
    """None: there is no mirror, or nothing is known yet."""
    cpu: float
    """Of one processor, in percent."""
    resident: float
    """Bytes."""
    refusals: float
    away: tuple[str, ...]
    """What it misses: database, redis."""


def compare(server: str, before: Look, now: Look) -> list[Row]:
    """A row for each worker. What a worker counts starts anew with its process; then it is taken from there."""
    return [_row(server, worker, before, now) for worker in now.workers]


def _row(server: str, worker: str, before: Look, now: Look) -> Row:
    seconds = max(now.at - before.at, 0.001)

    def grown(name: str) -> float:
        was, is_now = before.total(name, worker=worker), now.total(name, worker=worker)
        return is_now - was if is_now >= was else is_now

    commits = grown("catfish_journal_commit_seconds_count")
    lag = now.values("catfish_mirror_lag_seconds", worker=worker)
    return Row(
        server=server,
        worker=worker,
        connections=int(now.total("catfish_connections", worker=worker)),
        rooms=int(now.total("catfish_rooms", worker=worker)),
        received=grown("catfish_messages_received_total") / seconds,
        sent=grown("catfish_messages_sent_total") / seconds,
        bytes=(grown("catfish_bytes_received_total") + grown("catfish_bytes_sent_total")) / seconds,
        commit_ms=grown("catfish_journal_commit_seconds_sum") / commits * 1000 if commits else None,
        loop_ms=now.total("catfish_event_loop_lag_worst_seconds", worker=worker) * 1000,
        mirror_ms=lag[0] * 1000 if lag else None,
        cpu=grown("process_cpu_seconds_total") / seconds * 100,
        resident=now.total("process_resident_memory_bytes", worker=worker),
        refusals=grown("catfish_refusals_total") / seconds,
        away=tuple(_away(now, worker)),
    )


def _away(now: Look, worker: str) -> Iterable[str]:
    for (name, labels), value in sorted(now.samples.items(), key=lambda each: sorted(each[0][1])):
        if name == "catfish_dependency_up" and ("worker", worker) in labels and not value:
            yield dict(labels)["dependency"]
