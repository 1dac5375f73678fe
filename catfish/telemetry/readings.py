"""Every number of one server process, read from those who count it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import attrs

from catfish import __version__
from catfish.errors import CLOSES
from catfish.histogram import SECONDS, Histogram
from catfish.http.observed import HttpFigures
from catfish.mirror.outlet import Outlet
from catfish.mirror.redis_mirror import RedisMirror
from catfish.net.listener import Listener
from catfish.server.engineio import EngineServer
from catfish.server.instance import Instance
from catfish.store.postgres import StoreStatistics
from catfish.telemetry.families import Families, Family
from catfish.telemetry.loop import LoopLag
from catfish.telemetry.process import add_process

KNOWN_CLOSES = frozenset({close.code for close in CLOSES} | {1000, 1001, 1005, 1006})
"""Codes that are told apart; peers may close with any number, and each would be a time series of its own."""


@attrs.define(kw_only=True)
class Sources:
    """Those who count. Whatever is None is not there."""

    instance: Instance
    http: HttpFigures
    loop: LoopLag
    engines: Mapping[str, EngineServer] = attrs.field(factory=dict)
    listener: Listener | None = None
    mirror: RedisMirror | None = None
    outlet: Outlet | None = None
    store: Callable[[], StoreStatistics] | None = None
    handovers: Callable[[], Mapping[str, int]] | None = None
    limits: Callable[[], Mapping[str, int]] | None = None
    """Requests that a limit refused, by the limit's name."""
    delivery: Histogram = attrs.field(factory=lambda: Histogram(SECONDS))
    started_at: float = attrs.field(factory=time.time)


def read(sources: Sources) -> list[Family]:
    """All of them, at this moment. Takes time in proportion to the connections; changes nothing."""
    families = Families()
    _add_instance(families, sources)
    if sources.listener is not None:
        _add_network(families, sources, sources.listener)
    _add_journal(families, sources)
    _add_store(families, sources)
    _add_mirror(families, sources)
    _add_http(families, sources.http)
    families.histogram(
        "catfish_event_loop_lag_seconds", "How late the event loop woke a task that slept.", sources.loop.seconds
    )
    families.gauge("catfish_event_loop_lag_worst_seconds", "The most of the last minute.", sources.loop.worst_s)
    add_process(families)
    return families.all


def _add_instance(families: Families, sources: Sources) -> None:
    instance = sources.instance
    supervisor = instance.supervisor.statistics()
    families.info("catfish_info", "What runs here.", {"version": __version__, "id": instance.id})
    families.gauge("catfish_start_time_seconds", "When the server started; since the epoch.", sources.started_at)
    families.gauge("catfish_draining", "1 while the server stops.", instance.draining)
    families.gauge("catfish_sessions", "Sessions of clients, on whatever transport.", len(instance.sessions))
    families.gauge("catfish_rooms", "Rooms in memory.", supervisor.rooms)
    families.counter("catfish_rooms_failed", "Rooms that ended here by a fault of ours.", supervisor.rooms_failed)
    families.counter("catfish_gaps_filled", "Gaps in rooms, read from the database.", supervisor.gaps_filled)
    families.counters(
        "catfish_refusals", "Requests that were refused, by the code that was told.", "code", instance.refusals
    )
    if sources.limits is not None:
        families.counters("catfish_limits_hit", "Requests that a limit refused.", "limit", sources.limits())
    families.gauges(
        "catfish_dependency_up",
        "Whether it answers: 0 is a degraded mode. Redis only where it is configured.",
        "dependency",
        _dependencies(instance),
    )
    families.histogram(
        "catfish_delivery_seconds",
        "From a message's acceptance until it was offered to the sockets of its room here; one of each batch, the "
        "oldest.",
        sources.delivery,
    )
    if sources.handovers is not None:
        families.counters("catfish_handovers", "Requests that went from worker to worker.", "kind", sources.handovers())


def _dependencies(instance: Instance) -> dict[str, float]:
    found: dict[str, float] = {"database": not instance.database.away}
    if instance.supervisor.mirror is not None:
        found["redis"] = instance.supervisor.mirror_condition == "ok"
    return found


def _add_network(families: Families, sources: Sources, listener: Listener) -> None:
    figures = listener.statistics()
    connections, traffic = figures.connections, figures.traffic
    engines = [engine.statistics() for engine in sources.engines.values()]
    websocket = sum(each.websocket for each in engines)
    families.gauges(
        "catfish_connections",
        "Open connections, by what they are for; polling: sessions without a WebSocket.",
        "transport",
        {
            "native": max(0, connections.open - websocket),
            "socketio": websocket,
            "polling": sum(each.polling for each in engines),
            "http": figures.http,
        },
    )
    families.counter("catfish_accepted", "Connections that were accepted.", figures.accepted)
    families.counter("catfish_overloaded", "Connections that were refused: too many were open.", figures.overloaded)
    families.counter(
        "catfish_unannounced", "Connections of proxies without a proper PROXY header.", figures.unannounced
    )
    families.counter("catfish_opened", "WebSocket handshakes that succeeded.", connections.opened)
    closes: dict[str, float] = {}
    for code, count in connections.closes.items():
        key = str(code) if code in KNOWN_CLOSES else "other"
        closes[key] = closes.get(key, 0) + count
    families.counters("catfish_closed", "WebSocket connections that ended, by the close code.", "code", closes)
    families.counter(
        "catfish_slow_disconnects", "Connections that ended because nobody read what waited.", connections.slow
    )
    families.counters(
        "catfish_requests_refused",
        "Requests and handshakes that were refused before they reached an application.",
        "status",
        {str(status): count for status, count in figures.refused.items()},
    )
    families.gauge("catfish_outbox_bytes", "Bytes that wait for their readers, of all.", connections.bytes_waiting)
    families.counter("catfish_messages_received", "Frames of WebSocket clients, pings too.", traffic.frames_received)
    families.counter(
        "catfish_messages_sent", "Frames to WebSocket clients, pings and handshakes too.", traffic.frames_sent
    )
    families.counter("catfish_bytes_received", "Bytes from WebSocket clients.", traffic.bytes_received)
    families.counter("catfish_bytes_sent", "Bytes to WebSocket clients.", traffic.bytes_sent)


def _add_journal(families: Families, sources: Sources) -> None:
    journal = sources.instance.journal
    figures = journal.statistics()
    families.gauge("catfish_journal_waiting", "Commands that wait to be stored.", figures.waiting)
    families.gauge("catfish_journal_waiting_bytes", "Their bytes.", figures.waiting_bytes)
    families.counter("catfish_journal_committed", "Commands that were stored.", figures.committed)
    families.counters(
        "catfish_journal_refused",
        "Commands that were not stored: busy, too many waited; unavailable, the database was away for too long.",
        "reason",
        {"busy": figures.refused_busy, "unavailable": figures.refused_unavailable},
    )
    families.histogram("catfish_journal_batch_commands", "Commands in one transaction.", journal.sizes)
    families.histogram("catfish_journal_commit_seconds", "How long a transaction took.", journal.seconds)


def _add_store(families: Families, sources: Sources) -> None:
    if sources.store is None:
        return
    figures = sources.store()
    families.gauges(
        "catfish_database_connections",
        "Connections for reading, by what they do.",
        "state",
        {"idle": figures.pool.idle + figures.reads.idle, "busy": figures.pool.busy + figures.reads.busy},
    )
    waiting = figures.pool.waiting + figures.reads.waiting
    families.gauge("catfish_database_waiting", "Reads that wait for a connection.", waiting)
    families.counter(
        "catfish_database_conflicts", "Transactions repeated because of another one.", figures.commits.conflicts
    )


def _add_mirror(families: Families, sources: Sources) -> None:
    if sources.mirror is None:
        return
    figures = sources.mirror.statistics()
    lag = [] if figures.lag_ms is None else [figures.lag_ms / 1000]
    families.gauge("catfish_mirror_lag_seconds", "How long the newest entry took from here to here.", *lag)
    families.gauge("catfish_mirror_peers", "Other instances that are heard.", figures.peers)
    families.counter("catfish_mirror_published", "Events that crossed to Redis.", figures.published)
    families.counter("catfish_mirror_received", "Events of others for rooms that are hosted here.", figures.received)
    families.counters(
        "catfish_mirror_dropped",
        "Events that did not cross: ephemeral ones never will, durable ones cross by the database.",
        "kind",
        {"ephemeral": figures.dropped_ephemeral, "durable": figures.dropped_durable},
    )
    families.gauge("catfish_mirror_waiting", "Events that wait for Redis.", figures.waiting)
    families.gauge("catfish_mirror_waiting_bytes", "Their bytes.", figures.waiting_bytes)
    families.counter("catfish_mirror_gaps", "How often all rooms were compared with the database.", figures.gaps)
    families.counter("catfish_mirror_reconnects", "Connections that were made anew.", figures.reconnects)
    if sources.outlet is not None:
        outlet = sources.outlet.statistics()
        families.gauge("catfish_outlet_leading", "1 on the instance that feeds the stream for others.", outlet.leading)
        families.counter("catfish_outlet_sent", "Messages that were added to that stream.", outlet.sent)
        families.counter("catfish_outlet_refills", "How often it had lost messages, and was filled.", outlet.refills)


def _add_http(families: Families, http: HttpFigures) -> None:
    families.counters(
        "catfish_http_requests",
        "Requests that were answered, by status; long polling is counted beside.",
        "status",
        {str(status): count for status, count in http.statuses.items()},
    )
    families.counter("catfish_http_polls", "Requests of long polling that were answered.", http.polls)
    families.gauge("catfish_http_requests_open", "Requests that are being answered, polls included.", http.open)
    families.histogram(
        "catfish_http_request_seconds", "From a request's head to its answer, without long polling.", http.seconds
    )
