"""One server process: what its sessions share, and how it stops."""

from __future__ import annotations

import logging
import os
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final, Protocol

import trio

from catfish import __version__
from catfish.auth.tokens import TokenVerifier
from catfish.config import Settings
from catfish.errors import UNAUTHORIZED
from catfish.net.timers import Timers
from catfish.rooms.codes import draw_id
from catfish.rooms.events import Event, Invited, LimitsSpent, UserDisconnected, UsersApart
from catfish.rooms.policy import Policy
from catfish.rooms.ports import Figures, Store, StoreUnavailable
from catfish.server.archive import Archive
from catfish.server.departures import Departures
from catfish.server.journal import Journal, database_dependency
from catfish.server.lease import Lease
from catfish.server.limits import SHARE_S, TOLD_MAX, Limits
from catfish.server.publisher import Publisher
from catfish.server.registry import Registry
from catfish.server.rematching import Rematching
from catfish.server.supervisor import RoomSupervisor
from catfish.server.users import Users

log = logging.getLogger(__name__)

USER_TAKEN: Final = UNAUTHORIZED._replace(reason="user_taken: that user signs in with a token")


class Session(Protocol):
    """What the instance knows of each session."""

    def drain(self, reconnect_after_ms: int) -> None:
        """Tell the client that the server is about to stop, and when to come back."""
        ...


class Instance:
    """Args:
    settings: of the whole server.
    store: where durable state is.
    timers: run by the caller.
    """

    def __init__(self, settings: Settings, store: Store, timers: Timers) -> None:
        self.id = draw_id(f"i-{socket.gethostname()[:40]}")
        self.settings = settings
        self.store = store
        self.timers = timers
        self.policy = Policy(settings)
        self.tokens = TokenVerifier(settings)
        self.supervisor = RoomSupervisor(store, settings)
        self.database = database_dependency()
        self.journal = Journal(store, settings, self.supervisor.compare_all, self.database)
        self.departures = Departures(self.id, self.supervisor, self.journal, timers)
        self.rematching = Rematching(
            self.id, self.supervisor, self.journal, self.departures, timers, settings.rematch_s
        )
        self.publisher = Publisher(self.journal, self.supervisor, self.policy)
        self.archive = Archive(store, self.supervisor, self.policy)
        self.admits: Callable[[str, str], Awaitable[bool]] | None = None
        """Whether a user may enter a room, by their ids, besides what the room itself says; None: always."""
        self.limits = Limits(settings)
        self.is_vouched: Callable[[str], Awaitable[bool]] | None = None
        """Whether the user is an account for which a provider vouches; None: there are none."""
        self.users = Users()
        self.registry = Registry()
        self.registry.appeared = self._end_guests_elsewhere
        self.supervisor.on_order = self._obey
        self.sessions: set[Session] = set()
        self.refusals: Counter[str] = Counter()
        """Requests that were refused, by the code that the client was told."""
        self.draining = False
        self.count_connections: Callable[[], int] = lambda: len(self.sessions)
        """Set by the one who knows the transports better."""
        self.measure_lag_ms: Callable[[], int | None] = lambda: None
        """Of the mirror; set by the one who has one."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, until cancelled. Returns from `start` once the instance is known to the store."""
        lease = Lease(
            self.id,
            self.store,
            self.supervisor,
            self.departures,
            self.settings,
            self.figures,
            self.database,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(lease.run)
            await nursery.start(self.journal.run)
            await nursery.start(self.supervisor.run)
            await nursery.start(self.registry.run)
            nursery.start_soon(self.rematching.run)
            if self.supervisor.mirror is not None:
                nursery.start_soon(self._share_limits)
            task_status.started()

    def disconnect(self, user: str) -> int:
        """End all sessions of a user, here and on the other instances; how many there were here."""
        self.supervisor.tell_instances(UserDisconnected(room="", user=user))
        return self.users.disconnect(user)

    def order(self, event: Event) -> None:
        """Have every instance do something, this one too."""
        self._obey(event)
        self.supervisor.tell_instances(event)

    def _obey(self, order: Event) -> None:
        match order:
            case UserDisconnected(user=user, guests=True):
                self.users.end_guests(user, USER_TAKEN)
            case UserDisconnected(user=user):
                self.users.disconnect(user)
            case LimitsSpent(spent=spent):
                self.limits.charge(spent)
            case UsersApart(user=user, other=other, on=on):
                self.users.set_apart(user, other, on)
            case Invited(user=user):
                self.users.tell(order, user)

    async def _share_limits(self) -> None:
        self.limits.share()
        while True:
            await trio.sleep(SHARE_S)
            spent = iter(self.limits.collect().items())
            while part := dict(islice(spent, TOLD_MAX)):
                self.supervisor.tell_instances(LimitsSpent(room="", spent=part))

    def recognised(self, user: str) -> None:
        """The user came with a token: whoever has the same id without one has it no longer."""
        if self.registry.note(user):
            self.users.end_guests(user, USER_TAKEN)

    def _end_guests_elsewhere(self, users: set[str]) -> None:
        for user in users:
            self.supervisor.tell_instances(UserDisconnected(room="", user=user, guests=True))

    def figures(self) -> Figures:
        """What `catfish instances` shows of this one."""
        return Figures(
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            connections=self.count_connections(),
            rooms=self.supervisor.statistics().rooms,
            journal_waiting=self.journal.statistics().waiting,
            mirror=self.supervisor.mirror_condition,
            mirror_lag_ms=self.measure_lag_ms(),
        )

    def announce_draining(self) -> None:
        """Tell every session that the server stops, each with a time of its own to come back, so that they do not all
        come at once."""
        self.draining = True
        spread_ms = round(self.settings.drain_spread_s * 1000)
        for session in list(self.sessions):
            session.drain(random.randint(0, spread_ms))  # spreads load; guards nothing

    async def finish(self) -> None:
        """Answer what was accepted, and hand the members over: whoever comes first after us may take them at once."""
        await self.journal.flush()
        try:
            await self.store.end_lease(self.id)
        except StoreUnavailable as error:
            log.warning("the lease could not be ended; it will expire", extra={"error": str(error)})
