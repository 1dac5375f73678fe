"""The parent: does what `supervision` decides, and owns what the workers share."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import attrs
import msgspec
import trio

from catfish import systemd
from catfish.app import feed_watchdog
from catfish.config import Settings
from catfish.errors import StartError
from catfish.mirror.private_redis import open_redis
from catfish.net.binds import Bound, open_binds
from catfish.store.database import open_database, prepare_schema
from catfish.workers.board import Board
from catfish.workers.control import FROM_WORKER, Alive, Lines, Ready, Serving, build_line
from catfish.workers.directory import open_directory
from catfish.workers.orders import VARIABLE, Orders
from catfish.workers.states import Phase, State
from catfish.workers.supervision import Limits, Order, Send, Start, Supervision, Word, Worker
from catfish.workers.tags import draw_tag

log = logging.getLogger(__name__)

OVERTIME_S: Final = 5.0
"""Beyond `drain_grace_s`, for a worker that was told to stop."""
REAP_S: Final = 5.0
"""For workers to end that are killed because the parent itself must end."""
NOT_FOR_WORKERS: Final = frozenset(
    ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
)
"""Variables by which the service manager speaks to the parent."""
FIXED: Final = ("workers", "bind", "backlog", "state_dir", "database_url", "redis_url")
"""Settings that a reload does not change: what they say is done by the parent, once."""

Announce = Callable[[str], None]
Reload = Callable[[], Settings]
"""Reads the settings again. Raises `StartError` when they are wrong."""


async def serve(settings: Settings, *, announce: Announce, reload: Reload) -> None:
    """Run the workers until a signal ends them, or nothing else is left.

    SIGTERM and SIGINT drain all of them; the second one cuts. SIGHUP reads the settings and replaces the workers, one
    after the other.

    Args:
        announce: told one line when all accept connections, and one when all have stopped.

    Raises:
        StartError: it cannot start, or cannot go on; the message says why.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with open_database(settings) as database_url, open_redis(settings) as redis_url:
            await trio.to_thread.run_sync(prepare_schema, settings, database_url)
            urls = attrs.evolve(settings, database_url=database_url, redis_url=redis_url, migrate=False)
            bounds = await open_binds(settings)
            try:
                with open_directory(settings) as directory, tempfile.TemporaryFile() as file:
                    entries = 2 * settings.workers + 2
                    Board.prepare(file.fileno(), entries)
                    with Board(file.fileno(), entries) as board:
                        parent = Parent(settings, urls, bounds, directory, board, file.fileno(), announce, reload)
                        await parent.run(signals)
            finally:
                for bound in bounds:
                    bound.close()
    announce("catfish has stopped")
    if parent.failure is not None:
        raise StartError(parent.failure)


@attrs.define(eq=False)
class Running:
    """A worker's process, as far as it was started."""

    tag: str
    process: trio.Process | None = None
    signals: list[signal.Signals] = attrs.field(factory=list)
    """Sent before there was a process."""
    told: tuple[str, ...] | None = None
    """The last that it heard of who serves."""


class Parent:
    """Args:
    settings: as they were given.
    urls: the same, with the databases that are in use.
    bounds: the listening sockets; closed as soon as the server stops.
    directory: of the workers' sockets.
    board: over `board_fd`.
    announce, reload: see `serve`.
    """

    def __init__(
        self,
        settings: Settings,
        urls: Settings,
        bounds: list[Bound],
        directory: Path,
        board: Board,
        board_fd: int,
        announce: Announce,
        reload: Reload,
    ) -> None:
        self._given = settings
        self._bounds = bounds
        self._addresses = " ".join(bound.address for bound in bounds)
        self._descriptors = tuple(bound.sock.fileno() for bound in bounds)
        self._fixed = {name: getattr(urls, name) for name in FIXED} | {
            "bind": tuple(f"fd:{descriptor}" for descriptor in self._descriptors),
            "migrate": False,
        }
        if settings.redis_url is None:
            self._fixed["outlet_entries_max"] = 0  # nobody else reads a Redis of ours
        self._settings = attrs.evolve(settings, **self._fixed)
        self._directory = directory
        self._board = board
        self._board_fd = board_fd
        self._announce = announce
        self._reload = reload
        self._mind = Supervision(settings.workers, limits_of(settings))
        self._running: dict[Worker, Running] = {}
        self._spawning = 0
        self._free = set(range(board.entries))
        self._tags: set[str] = set()
        self._serving: tuple[str, ...] = ()
        self._changed = trio.Event()  # who serves
        self._woken = trio.Event()
        self._nursery: trio.Nursery

    @property
    def failure(self) -> str | None:
        """Why it stopped, if nobody had asked for it."""
        return self._mind.failure

    async def run(self, signals: AsyncIterator[int]) -> None:
        """Supervise until no process is left. When cancelled, they are killed."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._hear_signals, signals)
            self._nursery.start_soon(feed_watchdog)
            self._mind.begin(trio.current_time())
            self._obey()
            while self._mind.phase is not Phase.STOPPED:
                with trio.move_on_at(self._mind.due):
                    await self._woken.wait()
                self._woken = trio.Event()
                self._mind.tick(trio.current_time())
                self._obey()
            self._nursery.cancel_scope.cancel()

    async def _hear_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._read_settings()
            else:
                self._mind.stop(signal.Signals(number), trio.current_time())
            self._obey()

    def _read_settings(self) -> None:
        """Use the settings as they are now for every worker that is started from now on, and replace the workers."""
        try:
            settings = self._reload()
        except StartError as error:
            log.error("the settings are wrong, so nothing is reloaded", extra={"why": str(error)})
            return
        changed = [name for name in FIXED if getattr(settings, name) != getattr(self._given, name)]
        if changed:
            log.warning("some settings change only with another start", extra={"settings": ", ".join(changed)})
        self._settings = attrs.evolve(settings, **self._fixed)
        self._mind.reload(trio.current_time())

    # Orders

    def _obey(self) -> None:
        """Do what has been decided."""
        for order in self._mind.take():
            self._do(order)
        serving = tuple(sorted(self._running[worker].tag for worker in self._mind.serving))
        if serving != self._serving:
            self._serving = serving
            changed, self._changed = self._changed, trio.Event()
            changed.set()
        self._woken.set()

    def _do(self, order: Order) -> None:
        match order:
            case Start(worker):
                self._running[worker] = Running(self._draw_tag())
                self._nursery.start_soon(self._live, worker)
            case Send(worker, number, why):
                level = logging.ERROR if number is signal.SIGKILL else logging.DEBUG
                fields = {"worker": worker.index, "signal": number.name, "why": why}
                log.log(level, "a worker is sent a signal", extra=fields)
                running = self._running[worker]
                if running.process is None:
                    running.signals.append(number)
                else:
                    running.process.send_signal(number)
            case Word.READY:
                self._announce(f"catfish listens on {self._addresses}")
                self._notify(systemd.READY)
            case Word.RELOADING:
                log.info("the workers are replaced, one after the other")
                systemd.notify(*systemd.reloading())
            case Word.RELOADED:
                log.info("all workers were replaced")
                self._notify(systemd.READY)
            case Word.RELOAD_FAILED:
                log.error("a new worker does not start: those that were not replaced yet go on as they are")
                self._notify(systemd.READY)
            case Word.STOPPING:
                systemd.notify(systemd.STOPPING)
                self._close_bounds()
                if self.failure is not None:
                    log.error("the server stops", extra={"why": self.failure})
                self._announce("catfish stops; a second signal stops it at once")

    def _close_bounds(self) -> None:
        """Stop listening once the server stops; not while a process is being started that inherits the sockets."""
        if self._mind.phase in (Phase.STOPPING, Phase.STOPPED) and not self._spawning:
            for bound in self._bounds:
                bound.close()

    def _notify(self, state: str) -> None:
        systemd.notify(state, systemd.status(f"{self._given.workers} workers listen on {self._addresses}"))

    def _draw_tag(self) -> str:
        tag = draw_tag()
        while tag in self._tags:
            tag = draw_tag()
        self._tags.add(tag)
        return tag

    # The life of one worker

    async def _live(self, worker: Worker) -> None:
        running = self._running[worker]
        entry = self._free.pop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                orders = Orders(
                    index=worker.index,
                    tag=running.tag,
                    directory=self._directory,
                    control=theirs.fileno(),
                    board=self._board_fd,
                    board_entries=self._board.entries,
                    entry=entry,
                    settings=self._settings,
                )
                how = await self._start(worker, running, orders)
            if running.process is not None:
                how = await self._watch(worker, running, running.process, ours)
        finally:
            ours.close()
            self._board.clear(entry)
            self._free.add(entry)
            (self._directory / running.tag).unlink(missing_ok=True)
        if worker.state is State.DRAINING:
            log.info("a worker has stopped", extra={"worker": worker.index})
        else:
            log.error("a worker is lost", extra={"worker": worker.index, "how": how})
        self._mind.exited(worker, how, trio.current_time())
        self._obey()
        del self._running[worker]

    async def _start(self, worker: Worker, running: Running, orders: Orders) -> str:
        """Start the process. Returns why there is none, if so."""
        if worker.state is not State.STARTING:
            return "was told to stop before it was started"
        flags = ["-P"] if sys.flags.safe_path else []
        # The last argument is for people who look at a list of processes.
        command = [sys.executable, *flags, "-m", "catfish.workers", f"worker-{orders.index}"]
        environ = {name: value for name, value in os.environ.items() if name not in NOT_FOR_WORKERS}
        self._spawning += 1
        try:
            running.process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                env=environ | {VARIABLE: orders.encode()},
                pass_fds=(orders.control, orders.board, *self._descriptors),
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
            )
        except OSError as error:
            return f"could not be started: {error}"
        finally:
            self._spawning -= 1
            self._close_bounds()
        log.info("a worker is started", extra={"worker": worker.index, "pid": running.process.pid})
        for number in running.signals:
            running.process.send_signal(number)
        return ""

    async def _watch(self, worker: Worker, running: Running, process: trio.Process, sock: socket.socket) -> str:
        """Wait for its end, and hear what it says. Returns how it ended."""
        try:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as control, trio.open_nursery() as talk:
                talk.start_soon(self._hear, worker, control)
                talk.start_soon(self._tell, running, control)
                status = await process.wait()
                talk.cancel_scope.cancel()
        finally:
            if process.returncode is None:  # we are cancelled
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_S):
                    await process.wait()
        return how_it_ended(status)

    async def _hear(self, worker: Worker, control: trio.SocketStream) -> None:
        lines = Lines(control, FROM_WORKER)
        try:
            while (message := await lines.next()) is not None:
                match message:
                    case Ready():
                        self._mind.ready(worker, trio.current_time())
                    case Alive():
                        self._mind.heard(worker, trio.current_time())
                self._obey()
        except msgspec.DecodeError:
            log.exception("a worker cannot be understood", extra={"worker": worker.index})

    async def _tell(self, running: Running, control: trio.SocketStream) -> None:
        try:
            while True:
                changed = self._changed
                if running.told != self._serving:
                    running.told = self._serving
                    await control.send_all(build_line(Serving(self._serving)))
                else:
                    await changed.wait()
        except trio.BrokenResourceError:
            pass  # its end is awaited elsewhere


def how_it_ended(status: int) -> str:
    """The exit status of a process in words that follow "it"."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def limits_of(settings: Settings) -> Limits:
    return Limits(
        start_s=settings.worker_start_s,
        silence_s=settings.worker_silence_s,
        drain_s=settings.drain_grace_s + OVERTIME_S,
        steady_s=settings.worker_steady_s,
        backoff_s_max=settings.worker_backoff_s_max,
        failures_max=settings.worker_failures_max,
    )
