"""Strangers: devices that are matched in pairs, and look for another one when they are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from catfish.wire.native import Refusal
from tests.simulation.device import Device, Lost, View

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDED = frozenset(("forbidden", "room_closed", "no_such_room"))
"""What is answered when the room of a stranger is there no more."""


PATIENCE_S = 10.0
"""After which one who waits looks again: somebody may have come, and waits as well, while this one was away."""


class Stranger(Device):
    def __init__(self, world: World, user: str) -> None:
        super().__init__(world, user, user, [])
        self.alone = False
        """Somebody was there, or would have come, and is not there: time to look for another one."""
        self.waits_since: float | None = None

    async def come_back(self) -> None:
        await super().come_back()
        if not self.wanted:
            await self._look("room:match")

    async def act(self) -> None:
        if self.waits_since is not None and trio.current_time() - self.waits_since > PATIENCE_S:
            self.alone = True
        if self.alone:
            await self._pause(self.rng.choice((0.0, 0.1, 2.0)))
            if self.alone:
                await self._look("room:next")
            return
        if self.world.calm or self.rng.random() < 0.9:
            await super().act()
            self.settled = self.settled and not self.alone
        else:
            await self._pause(self.rng.choice((0.1, 3.0)))
            await self._look("room:next")

    async def _leave_for_a_while(self, room: str) -> None:
        await self._look("room:next")

    async def _look(self, event: str) -> None:
        for room in self.wanted:
            self.world.leaves(self, room)
        self.settled = False
        answer = await self.ask(event, {})
        if isinstance(answer, Refusal):
            self.fail(f"{event} is refused: {answer}")
            raise Lost

    def refused(self, room: str, refusal: Refusal) -> None:
        if refusal.code not in ENDED:
            super().refused(room, refusal)
        self.views[room].pending.clear()
        self.wanted.remove(room)

    def _send_again(self, view: View) -> None:
        if view.room in self.wanted:
            super()._send_again(view)

    def replied(self, event: str, data: Any) -> None:
        if event not in ("room:match", "room:next"):
            super().replied(event, data)
            if event == "room:join":
                self.alone = len(self.views[data["room"]["id"]].members) == 1
            return
        room = data["room"]["id"]
        peer = data.get("peer")
        for old in [view for name, view in self.views.items() if name != room]:
            self.world.left(self, old.room)
            del self.views[old.room]
        view = self.views[room] = self.views.get(room) or View(room)
        if view.seq is None:
            view.seq = data["room"]["seq"]
        else:
            view.seq = data["room"]["seq"]  # came in again without asking for what it missed
            view.messages.clear()
        view.inside = True
        view.pending.clear()
        view.members = {self.user} | ({peer["user"]} if peer is not None else set())
        self.wanted = [room]
        self.alone = False
        self.waits_since = trio.current_time() if peer is None else None
        self.say(f"is in {room} with {peer and peer['user']}")
        if data["matched"] != (peer is not None) or (peer is not None and peer["user"] == self.user):
            self.fail(f"a pairing that is none: {data}")
        self.world.entered(self, room)

    def send_refused(self, view: View, client_id: str, refusal: Refusal) -> None:
        """It looks for another room already; or both were taken for gone, with an instance that could not be reached,
        and the room is closed."""
        view.pending.pop(client_id, None)
        if refusal.code not in ("room_closed", "not_in_room"):
            super().send_refused(view, client_id, refusal)

    def follow(self, room: str) -> View | None:
        """Two who waited are brought together: the room of one is closed, and it hears of the other in another one."""
        if not self.alone:
            return None
        view = self.views[room] = View(room)
        view.inside = True
        view.torn = True  # what was sent there before is not told
        view.members = {self.user}
        self.wanted = [room]
        self.world.entered(self, room)
        return view

    def _hear(self, name: str, data: Any) -> None:
        if name == "room:closed" and data["room"] in self.views:
            self.views[data["room"]].pending.clear()
            self.views[data["room"]].inside = False
            self.world.leaves(self, data["room"])
            self.world.left(self, data["room"])
            self.alone = True
            return
        super()._hear(name, data)
        if name == "room:joined":
            self.alone = False
            self.waits_since = None

    def heard_left(self, view: View, data: dict[str, Any]) -> None:
        super().heard_left(view, data)
        self.alone = True
