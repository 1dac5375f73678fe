"""The composition root: builds every part, owns the outermost nursery, and ends the parts in the right order.

    private Postgres                 ended last: whatever else ends still writes to it
      store, timers, instance        journal, rooms, lease
        HTTP application
          listener                   ended first

On SIGTERM or SIGINT: nothing is accepted any more, every client is told to come back, what was accepted is stored and
answered, connections are closed, members are handed over. All of that within `drain_grace_s`; then what is left is cut.
A second signal cuts at once. SIGHUP does the same here; where there are several workers their parent has another use
for it (`catfish.workers`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any, Final, Literal, Protocol, cast

import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from catfish import log as logs
from catfish import systemd
from catfish.config import Settings
from catfish.contracts.placement import Placement
from catfish.errors import GOING_AWAY, SERVICE_RESTART, Close
from catfish.http.api import Stores, build_api
from catfish.http.asgi import Receive, Scope, Send
from catfish.http.forwarded import Forwarded
from catfish.http.health import Health
from catfish.http.observed import HttpFigures, Observed
from catfish.http.paths import Paths
from catfish.http.secure import Secure
from catfish.mirror.outlet import Outlet
from catfish.mirror.redis_mirror import RedisMirror
from catfish.net.connection import Endpoint
from catfish.net.handoff import HypercornHandoff
from catfish.net.listener import Listener
from catfish.net.listener import serve as listen
from catfish.net.neighbours import Neighbours
from catfish.net.plain_http import PlainHttp
from catfish.net.proxies import Proxies
from catfish.net.timers import Timers
from catfish.server.accounts import Accounts
from catfish.server.engineio import EngineServer
from catfish.server.engineio.server import draw_sid
from catfish.server.instance import Instance
from catfish.server.native import NativeEndpoint
from catfish.server.origins import ANY
from catfish.server.recovery import SessionRecovery
from catfish.server.socketio import SocketIOServer
from catfish.server.vocabularies import RoomsNamespace
from catfish.store.database import open_database, prepare_schema
from catfish.store.outlet import PostgresTail
from catfish.store.postgres import PostgresStore
from catfish.telemetry.loop import LoopLag
from catfish.telemetry.otel import open_tracing
from catfish.telemetry.readings import Sources
from catfish.telemetry.scrape import Reply, Scrape
from catfish.telemetry.sentry import open_sentry
from catfish.wire.http import RequestHead

log = logging.getLogger(__name__)

NATIVE_PATH: Final = "/ws"
FINISH_S: Final = 1.0
"""Of `drain_grace_s`, kept for handing the members over once the connections are gone."""
CLOSES: Final = {signal.SIGTERM: SERVICE_RESTART, signal.SIGHUP: SERVICE_RESTART, signal.SIGINT: GOING_AWAY}
"""A service manager's signal mostly precedes a restart; somebody at the keyboard stops the server."""


class Place(Neighbours, Protocol):
    """The place of this server among several that share their addresses and the sessions of their clients."""

    @property
    def others_serve(self) -> bool:
        """Whether the server goes on when this one stops."""

    def count_handovers(self) -> dict[str, int]:
        """Requests that went from worker to worker, by what became of them."""

    def describe(self) -> dict[str, Any]:
        """What `/health` says about it."""

    def draw_sid(self) -> str:
        """An id for an Engine.IO session, which says that it is ours."""

    async def relay(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """See `http.paths.Relay`."""

    @property
    def index(self) -> int:
        """The number of this worker."""

    reply: Callable[[str], bytes]
    """What other workers are told when they ask."""

    async def ask(self, question: str) -> list[Reply | None]:
        """What each of the other workers replies; None: it does not."""

    async def run(self, listener: Listener, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take what others hand over, for `listener` to serve, until cancelled."""


async def serve(settings: Settings, *, announce: Callable[[str], None], place: Place | None = None) -> None:
    """Run a server until a signal ends it.

    Args:
        announce: told one line when connections are accepted, and one when the server has stopped.
        place: among others; None: it is alone.

    Raises:
        StartError: it cannot start; the message says why.
    """
    placement = Placement(settings.contracts, settings.socketio_namespaces)
    if ANY in settings.origins:
        log.warning("origins is *: the pages of EVERY site may connect, and read every answer that their visitors may")
    with trio.open_signal_receiver(*CLOSES) as signals:
        async with open_database(settings) as url, PostgresStore(url, settings) as store:
            await trio.to_thread.run_sync(prepare_schema, settings, url)
            await _serve(settings, url, store, placement, signals, announce, place)
    announce("catfish has stopped")


async def _serve(
    settings: Settings,
    url: str,
    store: PostgresStore,
    placement: Placement,
    signals: AsyncIterator[int],
    announce: Callable[[str], None],
    place: Place | None,
) -> None:
    timers = Timers()
    instance = Instance(settings, store, timers)
    accounts = Accounts(instance, store.accounts)
    stores = Stores(
        administration=store.administration, answers=store.answers, directory=store.directory, logins=store.logins
    )
    if instance.tokens.required:
        instance.admits = accounts.admits
    native = NativeEndpoint(instance)
    started_at = trio.current_time()

    mirror = None
    if settings.redis_url is not None:
        mirror = instance.supervisor.mirror = RedisMirror(settings, instance.id, instance.supervisor)
        instance.measure_lag_ms = partial(_measure_lag_ms, mirror)
    recovery = None
    if settings.recovery_s:
        recovery = SessionRecovery(instance, store.sessions, placement.vocabularies)
    engines = socketio_engines(instance, placement, recovery, draw_sid if place is None else place.draw_sid)

    def route(head: RequestHead) -> Endpoint | None:
        return native if head.path == NATIVE_PATH else paths.endpoint(head)

    def count_connections() -> int:
        return len(listener.connections) + sum(engine.statistics().polling for engine in engines.values())

    def health() -> Health:
        journal = instance.journal.statistics()
        details: dict[str, Any] = {
            "draining": instance.draining,
            "database": instance.database.state,
            "mirror": instance.supervisor.mirror_condition,
            "journal": {"waiting": journal.waiting, "committed": journal.committed},
            "connections": count_connections(),
            "rooms": instance.supervisor.statistics().rooms,
        }
        if place is not None:
            details |= place.describe()
        stopping = instance.draining and (place is None or not place.others_serve)
        ready = not (stopping or instance.database.away)
        return Health(ready, trio.current_time() - started_at, details)

    loop = LoopLag(logs.flush)
    figures = HttpFigures(instance.refusals)
    sources = Sources(
        instance=instance, http=figures, loop=loop, engines=engines, mirror=mirror, store=store.statistics
    )
    sources.limits = lambda: instance.limits.refused
    scrape = Scrape(sources, place)
    if place is not None:
        place.reply = scrape.reply
        sources.handovers = place.count_handovers
    paths = Paths(
        engines, build_api(instance, accounts, stores, health, scrape), None if place is None else place.relay
    )
    observed = Observed(paths, figures, polls=paths.polls, logs_all=settings.log_requests)
    web = Forwarded(Secure(observed, settings), Proxies(settings))
    hypercorn = HypercornHandoff(cast("ASGIFramework", web), _http_config(settings))
    http = PlainHttp(web, hypercorn, settings)

    def time_delivery(accepted_at: float) -> None:
        listener.tell_written(lambda: sources.delivery.observe(trio.current_time() - accepted_at))

    async with (
        open_tracing(settings, instance.id) as tracing,
        open_sentry(settings, instance.id),
        trio.open_nursery() as nursery,
    ):
        observed.tracing = instance.journal.tracing = tracing
        if mirror is not None:
            mirror.tracing = tracing
        await nursery.start(timers.run)
        await nursery.start(instance.run)
        if mirror is not None:
            await nursery.start(mirror.run)
            if settings.outlet_entries_max:
                sources.outlet = Outlet(settings, PostgresTail(url, settings))
                nursery.start_soon(sources.outlet.run)
        if recovery is not None:
            await nursery.start(recovery.run)
        for engine in engines.values():
            await nursery.start(engine.run)
        await nursery.start(http.run)
        listener: Listener = await nursery.start(partial(listen, settings, route, http, neighbours=place))
        if place is not None:
            await nursery.start(place.run, listener)
        instance.count_connections = count_connections
        instance.journal.on_answered = time_delivery
        sources.listener = listener
        nursery.start_soon(loop.run)
        nursery.start_soon(feed_watchdog)
        announce(f"catfish listens on {' '.join(listener.addresses)}")
        systemd.notify(systemd.READY, systemd.status(f"listening on {' '.join(listener.addresses)}"))
        close = CLOSES[signal.Signals(await anext(signals))]
        systemd.notify(systemd.STOPPING)
        announce("catfish stops; a second signal stops it at once")
        async with trio.open_nursery() as draining:
            draining.start_soon(_cut_at_second_signal, signals, draining.cancel_scope)
            await drain(instance, listener, http, engines.values(), close)
            if recovery is not None:
                await recovery.finish()
            draining.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


def _measure_lag_ms(mirror: RedisMirror) -> int | None:
    return mirror.statistics().lag_ms


def socketio_engines(
    instance: Instance,
    placement: Placement,
    recovery: SessionRecovery | None,
    draw_sid: Callable[[], str] = draw_sid,
) -> dict[str, EngineServer]:
    """Socket.IO with our vocabularies, by path."""
    settings = instance.settings
    engines: dict[str, EngineServer] = {}
    parsers: dict[Literal["json", "msgpack"], tuple[str, ...]] = {
        "json": settings.socketio_paths,
        "msgpack": settings.socketio_msgpack_paths,
    }
    for parser, paths in parsers.items():
        for path in paths:
            namespaces = [
                RoomsNamespace(instance, name, vocabularies, recovery)
                for name, vocabularies in placement.on(path).items()
            ]
            app = SocketIOServer(settings, namespaces, parser)
            admission = instance.limits.admit_request
            engines[path] = EngineServer(settings, instance.timers, app, draw_sid=draw_sid, admission=admission)
    return engines


async def drain(
    instance: Instance, listener: Listener, http: PlainHttp, engines: Iterable[EngineServer], close: Close
) -> None:
    """End gently, within `drain_grace_s`."""
    settings = instance.settings
    with trio.move_on_after(settings.drain_grace_s) as grace:
        listener.stop_accepting()
        await http.terminate()
        instance.announce_draining()
        await instance.journal.flush()
        for engine in engines:
            engine.close_all(close)
        cut = await listener.drain(close, max(0.0, grace.deadline - trio.current_time() - FINISH_S))
        if cut:
            log.warning("connections did not end in time and were cut", extra={"connections": cut})
        await instance.finish()
    if grace.cancelled_caught:
        log.warning(
            "not everything ended within drain_grace_s", extra={"waiting": instance.journal.statistics().waiting}
        )


async def _cut_at_second_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    log.warning("a second signal: whatever is still open is cut")
    scope.cancel()


async def feed_watchdog() -> None:
    """Tell the service manager that the event loop turns."""
    interval_s = systemd.watchdog_s()
    while interval_s is not None:
        systemd.notify(systemd.WATCHDOG)
        await trio.sleep(interval_s)


def _http_config(settings: Settings) -> Config:
    config = Config()
    config.keep_alive_timeout = settings.http_keep_alive_s
    config.h11_max_incomplete_size = settings.request_head_bytes_max
    config.include_server_header = False
    config.accesslog = config.errorlog = None
    return config
