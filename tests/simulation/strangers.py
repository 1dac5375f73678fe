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


class Stranger(Device):
    def __init__(self, world: World, user: str) -> None:
        super().__init__(world, user, user, [])
        self.alone = False
        """Somebody was there and is not there any more."""
        self.impatient = world.rng.random() < 0.5
        """Looks for another one then; others leave it to the server to bring them to one who waits."""
        self.homeless = False
        """The room was closed. If the server has brought it to another one, it hears of that next."""

    async def come_back(self) -> None:
        await super().come_back()
        if not self.wanted:
            await self._look("room:match")

    async def act(self) -> None:
        if self.homeless or (self.alone and self.impatient):
            await self._pause(self.rng.choice((0.0, 0.1, 2.0)))
            if self.homeless or self.alone:
                await self._look("room:next")
            return
        if self.world.calm or self.rng.random() < (0.5 if self.world.crowded else 0.9):
            await super().act()
            self.settled = self.settled and not self.homeless
        else:
            await self._pause(self.rng.choice((0.1, 3.0)))
            await self._look("room:next")

    async def _leave_for_a_while(self, room: str) -> None:
        await self._look("room:next")

    async def _look(self, event: str) -> None:
        for room in self.wanted:
            self.world.presences.leaves(self, room)
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

    def _send_again(self, room: str) -> None:
        if room in self.wanted:
            super()._send_again(room)

    def replied(self, event: str, data: Any) -> None:
        if event not in ("room:match", "room:next"):
            super().replied(event, data)
            if event == "room:join":
                self.alone = len(self.views[data["room"]["id"]].members) == 1
            return
        room = data["room"]["id"]
        peer = data.get("peer")
        for old in [view for name, view in self.views.items() if name != room]:
            self.world.presences.leaves(self, old.room)
            del self.views[old.room]
        view = self.views[room] = self.views.get(room) or View(room)
        if view.seq is None:
            view.seq = data["room"]["seq"]
        else:
            view.seq = data["room"]["seq"]  # came in again without asking for what it missed
            view.messages.clear()
        view.inside = True
        view.pending.clear()
        users = [self.user, *([] if peer is None else [peer["user"]])]
        view.members = dict.fromkeys(users, trio.current_time())
        self.wanted = [room]
        self.alone = self.homeless = False
        self.say(f"is in {room} with {peer and peer['user']}")
        if data["matched"] != (peer is not None) or (peer is not None and peer["user"] == self.user):
            self.fail(f"a pairing that is none: {data}")
        self.enter(room)

    def send_refused(self, view: View, client_id: str, refusal: Refusal) -> None:
        """It looks for another room already; or both were taken for gone, with an instance that could not be reached,
        and the room is closed."""
        view.pending.pop(client_id, None)
        if refusal.code not in ("room_closed", "not_in_room"):
            super().send_refused(view, client_id, refusal)

    def follow(self, room: str) -> View | None:
        """Two who waited are brought together: the room of one is closed, and it hears of the other in another one."""
        if not self.homeless:
            return None
        self.homeless = False
        view = View(room)
        self.views = {room: view}
        view.inside = True
        view.members = {self.user: trio.current_time()}
        self.wanted = [room]
        self.enter(room)
        return view

    def _hear(self, name: str, data: Any) -> None:
        if name == "room:closed" and data["room"] in self.views:
            self.views[data["room"]].pending.clear()
            self.views[data["room"]].inside = False
            self.world.presences.leaves(self, data["room"])
            self.homeless = True
            return
        super()._hear(name, data)
        if name == "room:joined":
            self.alone = False

    def heard_left(self, view: View, user: str, reason: str, known_since: float) -> None:
        super().heard_left(view, user, reason, known_since)
        self.alone = True
