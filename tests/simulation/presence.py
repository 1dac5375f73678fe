"""Who is in which room in truth, and whether it was right to call somebody gone.

Truth is a little kinder than the server: a user is away from the moment at which its last connection could first be
missed (the client cut it, or the server closed it, or died) until the client is told that it is in the room again. So
whoever was not away for the grace period by this account was not away for it by the server's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from tests.simulation.device import Device
    from tests.simulation.world import World

Key = tuple[str, str]
"""A user and a room."""
ROUNDING_S = 0.01
"""The store counts milliseconds."""
NEWS_S = 10.0
"""For how long news of a going may be on its way. What a member is told may be that old, so somebody whom it has just
seen in the room may have been away before that."""
RECOVERY_S = 15.0
"""After which an instance that reaches the store again has entered its members again, which others took over."""


@attrs.define
class Absence:
    since: float
    """-inf: it left of its own will, or was not there yet. Members who do not hear of a leaving are told later that the
    one is gone."""
    until: float = float("inf")


class Presences:
    def __init__(self, world: World) -> None:
        self._world = world
        self._inside: dict[Key, dict[Device, None]] = {}
        self._absences: dict[Key, list[Absence]] = {}

    def entered(self, device: Device, room: str) -> None:
        """A device is told that it is in a room."""
        key = device.user, room
        absences = self._absences.setdefault(key, [Absence(float("-inf"))])
        if not self._inside.setdefault(key, {}):
            absences[-1].until = trio.current_time()
        self._inside[key][device] = None

    def leaves(self, device: Device, room: str) -> None:
        """A device asks to leave."""
        self._remove(device, room, float("-inf"))

    def lost(self, device: Device, room: str) -> None:
        """The connection of a device is gone, or it was told that it is not in the room any more."""
        self._remove(device, room, trio.current_time())

    def _remove(self, device: Device, room: str, since: float) -> None:
        key = device.user, room
        inside = self._inside.setdefault(key, {})
        if device in inside:
            del inside[device]
            if not inside:
                self._absences[key].append(Absence(since))

    def was_away(self, user: str, room: str, known_since: float) -> bool:
        """Whether it was right to tell somebody, who knew it as a member since then, that it is gone."""
        now, grace_s = trio.current_time(), self._world.settings.grace_s
        return any(
            min(absence.until, now) >= known_since - NEWS_S
            and min(absence.until, now) - absence.since >= grace_s - ROUNDING_S
            for absence in self._absences.get((user, room), (Absence(float("-inf")),))
        )

    def is_excused(self, user: str) -> bool:
        """Whether the user was connected to an instance that could not reach the store, so that its lease ended and the
        others rightly took it for dead."""
        settings = self._world.settings
        since = trio.current_time() - settings.lease_s - settings.grace_s - RECOVERY_S
        return any(
            until > since and node.is_troubled_since(since)
            for device in self._world.devices
            if device.user == user
            for node, until in device.nodes.items()
        )
