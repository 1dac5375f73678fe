"""The instance's sign of life in the store, and what becomes of the members of instances that gave none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from catfish.config import Settings
from catfish.rooms.ports import Figures, Store, StoreUnavailable
from catfish.server.departures import Departures
from catfish.server.dependency import Dependency
from catfish.server.supervisor import RETRY_S, RoomSupervisor

log = logging.getLogger(__name__)

TAKE_OVER_MAX = 1_000
"""Members taken over from dead instances in one visit to the store."""


class Lease:
    """Of one instance; `figures` are what it says of itself with every renewal."""

    def __init__(
        self,
        instance: str,
        store: Store,
        supervisor: RoomSupervisor,
        departures: Departures,
        settings: Settings,
        figures: Callable[[], Figures],
        database: Dependency,
    ) -> None:
        self._instance = instance
        self._store = store
        self._supervisor = supervisor
        self._departures = departures
        self._settings = settings
        self._figures = figures
        self._database = database

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew it, for ever. Returns from `start` once the lease is in the store. Raises: StoreUnavailable."""
        await self._renew()
        task_status.started()
        settings = self._settings
        # If the store was away until just now, those who are alive have yet to renew theirs.
        take_over_from = trio.current_time() + settings.lease_s / 3
        reached_since = trio.current_time()
        while True:
            asked_at = trio.current_time()
            try:
                held = await self._renew()
                # While the store was away nobody could renew a lease: give those who are alive the time to do so.
                if not held or trio.current_time() - asked_at > settings.lease_s / 3:
                    take_over_from = trio.current_time() + settings.lease_s
                await self._supervisor.find_closed()
                await self._supervisor.overlooked.find()
                taken = await self._store.take_over(
                    self._instance, TAKE_OVER_MAX, stopped_only=trio.current_time() < take_over_from
                )
            except StoreUnavailable as error:
                take_over_from = trio.current_time() + settings.lease_s
                self._database.failed("lease", error)
                await trio.sleep(RETRY_S)
                reached_since = trio.current_time()
                continue
            self._database.works("lease")
            if not held:
                self._come_back()
            # Leases end while nobody can renew them; whoever died in an outage may have lived until its end.
            away_s_max = trio.current_time() - reached_since
            for each in taken:
                self._departures.take(each, self._settings.grace_s, away_s_max)
            if len(taken) < TAKE_OVER_MAX:
                await trio.sleep(self._settings.lease_s / 3)

    async def _renew(self) -> bool:
        return await self._store.renew_lease(self._instance, self._settings.lease_s, self._figures())

    def _come_back(self) -> None:
        """We were taken for dead, so others may have taken our members over: enter those who are connected again."""
        log.warning("the lease had ended before it was renewed; the members here are entered again")
        for live in self._supervisor.rooms:
            for user, presence in list(live.members.items()):
                if presence.listeners:
                    self._departures.restore(live, user)
        self._supervisor.compare_all()
