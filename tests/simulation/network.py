"""Instances that live and die, and connections to them that take time and break."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from catfish.config import Settings
from catfish.errors import GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART, Close, PeerError
from catfish.net.timers import Timers
from catfish.server.instance import Instance
from catfish.server.native import NativeEndpoint, NativeSession
from catfish.wire.http import RequestHead
from catfish.wire.native import MSGPACK
from tests.server.harness import payload_of
from tests.simulation.faults import StorePath

if TYPE_CHECKING:
    from tests.simulation.world import World

log = logging.getLogger(__name__)


class Node:
    """One life of an instance."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.world = world
        self.name = name
        say = (lambda what: world.say(f"{name} {what}")) if world.is_told else None
        self.path = StorePath(world.store, world.rng, world.clock, say)
        self.timers = Timers()
        self.instance = Instance(settings, self.path, self.timers)
        supervisor = self.instance.supervisor
        self.mirror = world.network.mirror(settings, self.instance.id, supervisor)
        supervisor.mirror = self.mirror
        self.endpoint = NativeEndpoint(self.instance)
        self.links: dict[Link, None] = {}
        self.accepting = False
        self.alive = True
        self.troubled = False
        """Its way to the store is cut, or slow, or fails now and then."""
        self.troubled_until = float("-inf")
        self.nursery: trio.Nursery

    async def run(self) -> None:
        """Live until `kill`."""
        try:
            async with trio.open_nursery() as self.nursery:
                await self.nursery.start(self.timers.run)
                await self.nursery.start(self.mirror.run)
                await self.nursery.start(self._serve)
                self.accepting = True
                self.world.say(f"{self.name} serves as {self.instance.id}")
                await trio.sleep_forever()
        finally:
            self.alive = self.accepting = False
            self.world.network.back(self.instance.id)
            for link in list(self.links):
                link.break_off()

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        while True:
            try:
                await self.instance.run(task_status=task_status)
            except Exception as error:
                if self.accepting:
                    raise
                # As a service manager does with one that cannot start because the store is away.
                self.world.say(f"{self.name} cannot start yet: {error!r}")
                await trio.sleep(1)

    def is_troubled_since(self, since: float) -> bool:
        """Whether something was wrong with its way to the store after that."""
        return self.troubled or self.troubled_until > since

    def kill(self) -> None:
        """As `kill -9` does: nothing is said to anybody."""
        self.world.say(f"{self.name} is killed")
        self.alive = self.accepting = False
        self.world.network.away(self.instance.id)
        self.mirror._settle_state()  # what waits in it is lost
        self.path.cut = True
        for link in list(self.links):
            link.break_off()
        self.nursery.cancel_scope.cancel()

    async def drain(self) -> None:
        """As SIGTERM does; see `catfish.app.drain`."""
        self.world.say(f"{self.name} drains")
        self.accepting = False
        with trio.move_on_after(self.instance.settings.drain_grace_s):
            self.instance.announce_draining()
            await self.instance.journal.flush()
            for link in list(self.links):
                link.close(SERVICE_RESTART)
            await trio.sleep(0.5)
            await self.instance.finish()
        self.world.say(f"{self.name} has drained")
        self.nursery.cancel_scope.cancel()


class Link:
    """A connection; what a session sees of it (`net.connection.Connection`), and what its client does."""

    subprotocol = MSGPACK.name
    compresses = False
    address = "unix"
    """From where nobody is limited by rate."""
    head = RequestHead("GET", "/ws", "/ws", "", (1, 1), {})

    def __init__(
        self, node: Node, receive: Callable[[Any], None], lost: Callable[[], None], on_missed: Callable[[], None]
    ) -> None:
        """`lost` is called when the client notices that the connection is gone, `on_missed` as soon as either side may
        notice."""
        self._world = node.world
        self.node = node
        self._receive = receive
        self._lost = lost
        self._on_missed = on_missed
        self.missed = False
        # A generator of its own: the server goes through sets of sessions, in an order that no seed decides.
        self._rng = Random(self._world.rng.random())
        self._latency_s = self._rng.choice((0.0, 0.01, 0.3))
        self._broken = False
        """For the client: nothing arrives and nothing is sent any more."""
        self._closed = False
        """For the server."""
        self._up_at = self._down_at = 0.0
        self.session: NativeSession = node.endpoint.open(self)  # type: ignore[arg-type]
        node.links[self] = None
        self._scope = trio.CancelScope()
        node.nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            try:
                await self.session.run()
            except Exception as error:  # noqa: BLE001 - the crash boundary of a connection's task
                self._world.fail(f"a session crashed: {error!r}")
                self.close(INTERNAL_ERROR)
        self.node.links.pop(self, None)

    def _miss(self) -> None:
        if not self.missed:
            self.missed = True
            self._on_missed()

    # The client's side

    def ask(self, event: str, data: Any, id: int) -> None:
        """Send a request."""
        message = MSGPACK.encode_request(event, data, id)
        self._up_at = max(self._up_at, trio.current_time() + self._rng.uniform(0, self._latency_s))
        self._world.clock.at(self._up_at, lambda: self._deliver_up(message))

    def cut(self, unnoticed_s: float) -> None:
        """The client loses the connection; the server notices after so many seconds."""
        self._broken = True
        self._miss()
        self._world.later(unnoticed_s, lambda: self._end(GOING_AWAY))

    def _deliver_up(self, message: bytes) -> None:
        if self._broken or self._closed or not self.node.alive:
            return
        try:
            self.session.receive(message)
        except PeerError as error:
            self.close(error.close)
        except Exception as error:  # noqa: BLE001 - the crash boundary of the hub
            self._world.fail(f"a request crashed: {error!r}")
            self.close(INTERNAL_ERROR)

    # The server's side

    def send(self, frame: bytes) -> None:
        if self._closed or self._broken:
            return
        self._down_at = max(self._down_at, trio.current_time() + self._rng.uniform(0, self._latency_s))
        self._world.clock.at(self._down_at, lambda: self._deliver_down(frame))

    def close(self, close: Close) -> None:
        if not self._closed:
            self._world.clock.at(self._down_at, self._lose)
            self._end(close)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def _deliver_down(self, frame: bytes) -> None:
        if not self._broken:
            self._receive(MSGPACK.decode(payload_of(frame)))

    def break_off(self) -> None:
        """The server is gone."""
        self._closed = True
        self._miss()
        self._world.later(self._rng.uniform(0, 1), self._lose)

    def _lose(self) -> None:
        if not self._broken:
            self._broken = True
            self._lost()

    def _end(self, close: Close) -> None:
        if self._closed or not self.node.alive:
            return
        self._closed = True
        self._miss()
        self.session.closed(close)
        self._world.later(5.0, self._scope.cancel)
