"""Nobody waits for a stranger while another waits.

Who asks for a stranger is put to one who waits. But somebody may come to wait in another way: the partner left, or was
lost with its instance. Such a one waits in its room for the next who comes; if nobody has come for `rematch_s`, the
store is asked whether another waits elsewhere, and if so the one moves into the other's room: its sessions here hear
that their room was closed, who their partner is, and that the new room is ready.
"""

from __future__ import annotations

from typing import Any

import trio

from catfish.errors import Rejected
from catfish.net.timers import Timers
from catfish.rooms.commands import Matched, Rematch
from catfish.rooms.events import MemberJoined, RoomReady
from catfish.rooms.room import LiveRoom
from catfish.server.departures import Departures
from catfish.server.journal import Doubtful, Journal
from catfish.server.supervisor import RETRY_S, RoomSupervisor


class Rematching:
    """Of one instance."""

    def __init__(
        self,
        instance: str,
        supervisor: RoomSupervisor,
        journal: Journal,
        departures: Departures,
        timers: Timers,
        rematch_s: float,
    ) -> None:
        self._instance = instance
        self._supervisor = supervisor
        self._journal = journal
        self._departures = departures
        self._timers = timers
        self._rematch_s = rematch_s
        self._alone: dict[int, float] = {}
        """Rooms in which somebody waits, and since when that is known."""
        self._asked: set[int] = set()

    async def run(self) -> None:
        """Look on behalf of those who wait here, again and again."""
        while True:
            await trio.sleep(self._rematch_s / 2)
            now = trio.current_time()
            alone = {
                live.number: live for live in self._supervisor.rooms if live.is_of_strangers and len(live.members) == 1
            }
            self._alone = {number: self._alone.get(number, now) for number in alone}
            for number, since in self._alone.items():
                if now - since >= self._rematch_s:
                    self._look(alone[number])

    def _look(self, live: LiveRoom) -> None:
        """Somebody waits alone in this room, and perhaps another elsewhere."""
        user = next(iter(live.members))
        if live.number not in self._asked and live.members[user].listeners:
            self._asked.add(live.number)
            live.pins += 1
            self._ask(live, user)

    def _ask(self, live: LiveRoom, user: str) -> None:
        def done(answer: Any) -> None:
            if isinstance(answer, Doubtful):
                # It may have been moved all the same; then it is in the other's room, and nobody here knows.
                self._timers.call_later(RETRY_S, lambda: self._ask(live, user))
                return
            self._asked.discard(live.number)
            live.pins -= 1
            # Another refusal is no loss: it is asked again if it is still alone.
            if answer is not None and not isinstance(answer, Rejected):
                self._move(live, user, answer)

        try:
            self._journal.submit(Rematch(number=live.number, user=user, instance=self._instance), done)
        except Rejected as refusal:
            done(refusal)

    def _move(self, former: LiveRoom, user: str, answer: Matched) -> None:
        member, peer = answer.member, answer.peer
        assert peer is not None
        live, met = self._supervisor.bring_together(answer.record, [peer, member], answer.stamp)
        sessions = [listener for listener in former.listeners() if listener.user == user]
        if met:
            origin = next((session.origin_in(former.id) for session in sessions), None)
            self._supervisor.tell(live, MemberJoined(room=live.id, member=member, stamp=answer.stamp, origin=origin))
        for session in sessions:
            session.follow(former, live, answer.record.revision, peer)
        if met and live.is_full_pair:
            self._supervisor.tell_ready(live)
        elif live.is_full_pair:
            live.deliver_to(user, RoomReady(room=live.id))
        if not live.members[user].listeners:
            self._departures.moved(former, live, user)
        self._supervisor.forget(former)
        # Devices of the user on other instances are not moved, and look for a stranger again.
        self._supervisor.tell_closed(former.number, former.id)
