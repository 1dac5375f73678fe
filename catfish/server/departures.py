"""Members who leave, and those whose connection is lost.

Theory of operation. A member whose last connection here is lost is *absent*: the store is told that it is away, and a
timer runs for the grace period. If the user comes back (on any device here) the timer is cancelled; else the store
removes the member, unless its row says that it is back, and the room is told, on every instance. The store may be away
meanwhile: both steps are repeated until they are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio

from catfish.contracts.interface import Origin
from catfish.errors import Rejected
from catfish.net.timers import Timer, Timers
from catfish.rooms.commands import Away, Join, Joined, Leave, Left, Match
from catfish.rooms.events import LeaveReason, MemberJoined, MemberLeft
from catfish.rooms.permissions import banned_address
from catfish.rooms.ports import Taken
from catfish.rooms.room import Listener, LiveRoom
from catfish.server.journal import Journal
from catfish.server.supervisor import RETRY_S, RoomSupervisor

log = logging.getLogger(__name__)

LEAVING_AT_ONCE = 100
"""Members of a closed room whose leaving waits for the journal; it has others to serve."""
RETRIED = frozenset(("busy", "unavailable"))
"""Refusals after which the same command may succeed."""

Key = tuple[int, str]
"""A room's number and a user."""


class _Absence:
    """A member of this instance without a connection."""

    __slots__ = ("away_since", "live", "name", "origin", "room", "timer")

    def __init__(self, live: LiveRoom | None, room: str, name: str, timer: Timer, origin: Origin | None) -> None:
        self.live = live
        """Kept in memory meanwhile, if it was there when the absence began."""
        self.room = room
        self.name = name
        self.timer = timer
        self.origin = origin
        self.away_since: int | None = None
        """By the store's clock; None until the store knows of it, 0 when it knows no such member."""


class Departures:
    """Of one instance."""

    def __init__(self, instance: str, supervisor: RoomSupervisor, journal: Journal, timers: Timers) -> None:
        self._instance = instance
        self._supervisor = supervisor
        self._journal = journal
        self._timers = timers
        supervisor.restore = self.restore
        self._absent: dict[Key, _Absence] = {}
        supervisor.on_closed = self._room_closed

    @property
    def absent_count(self) -> int:
        """Members whose grace period runs here."""
        return len(self._absent)

    def returned(self, live: LiveRoom, user: str) -> None:
        """A session of the user is in the room (again)."""
        self._forget((live.number, user))

    async def leave(self, live: LiveRoom, listener: Listener, origin: Origin | None) -> None:
        """The session leaves of its own will. When the store does not take it, the leaving is stored later."""
        if not self._detach(live, listener):
            return
        stored = trio.Event()
        # Also when the session ends meanwhile, and nobody waits any more.
        self.leave_at_once(live, listener.user, origin, "left", stored.set)
        await stored.wait()

    def lose(self, live: LiveRoom, listener: Listener, grace_s: float, origin: Origin | None) -> None:
        """The session's connection is gone."""
        user = listener.user
        if self._detach(live, listener) and user in live.members:
            live.members[user].member.away = True
            if grace_s > 0:
                self._absence(live, user, grace_s, origin)
            else:
                self.leave_at_once(live, user, origin)

    def take(self, taken: Taken, grace_s: float, away_s_max: float) -> None:
        """A member of an instance that died is ours now: it has what is left of its grace period. It cannot have been
        away for longer than `away_s_max`."""
        number, user = taken.record.number, taken.member.user
        live = self._supervisor.get(number)
        if live is not None and user in live.members and live.members[user].listeners:
            self.restore(live, user)  # its row says that it is away
            return
        if live is not None:
            self._supervisor.make_up_for_coming(live, taken.member)
            live.members[user].member.away = True
        left_s = max(grace_s - min(taken.away_ms / 1000, away_s_max), 0.0)
        before = self._absent.get((number, user))
        if before is not None:
            left_s = max(left_s, before.timer.deadline - trio.current_time())  # a grace period of its own may be longer
        origin = None if before is None else before.origin
        self._start((number, user), taken.record.room.id, taken.member.name, left_s, origin)

    def _room_closed(self, live: LiveRoom) -> None:
        """The members who were connected here are in the room no more; they have been told."""
        users = [user for user, presence in live.members.items() if presence.listeners]

        def store_next() -> None:
            if users:
                self._store_leaving(live.number, users.pop(), store_next)

        for _ in range(LEAVING_AT_ONCE):
            store_next()

    def _store_leaving(self, number: int, user: str, stored: Callable[[], None]) -> None:
        """Until the store has taken it; nobody is to be told."""

        def done(answer: Any) -> None:
            if isinstance(answer, Rejected):
                self._timers.call_later(RETRY_S, lambda: self._store_leaving(number, user, stored))
            else:
                stored()

        try:
            self._journal.submit(Leave(number=number, user=user, instance=self._instance), done)
        except Rejected as refusal:
            done(refusal)

    def restore(self, live: LiveRoom, user: str) -> None:
        """The store has lost the row of a member who is connected here: enter it again."""
        presence = live.members[user]
        came = presence.stamp
        command = Join(
            room=live.id,
            code=None,
            create=False,
            user=user,
            name=presence.member.name,
            instance=self._instance,
            with_members=False,
            address=next((banned_address(listener.address) for listener in presence.listeners), None),
            restores=came,
        )

        def again() -> None:
            known = live.members.get(user)
            if known is not None and known.listeners and self._supervisor.get(live.number) is live:
                self.restore(live, user)

        def done(answer: Any) -> None:
            if isinstance(answer, Joined):
                self._restored(live, answer)
            elif answer.code in RETRIED:
                self._timers.call_later(RETRY_S, again)
            elif answer.code == "room_closed":
                self._supervisor.hear_closed(live.number)
            elif answer.code in ("kicked", "banned"):
                # It was removed, and nobody here has heard of it; unless it came back since, elsewhere.
                known = live.members.get(user)
                if known is not None and known.stamp == came:
                    reason: LeaveReason = "kicked" if answer.code == "kicked" else "banned"
                    event = MemberLeft(room=live.id, user=user, user_name=known.member.name, reason=reason)
                    self._supervisor.hear_removed(live, event)
                else:
                    again()
            else:
                # The room admits it no more: its clients hear so when they come back.
                extra = {"user": user, "room": live.id, "code": answer.code}
                log.warning("a member could not be entered again", extra=extra)
                known = live.members.get(user)
                for listener in list(known.listeners) if known is not None else ():
                    listener.fail()

        try:
            self._journal.submit(command, done)
        except Rejected:
            self._timers.call_later(RETRY_S, again)

    def disown(self, command: Join | Match) -> None:
        """The command was refused, and may have been committed all the same: then its user is in a room, and no session
        knows of it. Repeat it to learn which room that is, and let the user leave unless a session came meanwhile."""

        def again() -> None:
            self._timers.call_later(RETRY_S, lambda: self.disown(command))

        def done(answer: Any) -> None:
            if isinstance(answer, Rejected):
                if answer.code in RETRIED:
                    again()
                return
            number, user = answer.record.number, command.user
            live = self._supervisor.get(number)
            # Whoever it is that came, now or unheard of before: nobody has told the others.
            room = answer.record.room.id
            self._supervisor.tell_entered(number, MemberJoined(room=room, member=answer.member, stamp=answer.stamp))
            here = live is not None and user in live.members and live.members[user].listeners
            if not here:
                # Also when it is absent already: what was repeated says that it is back, and is newer than its absence.
                absence = self._absent.get((number, user))
                left_s = 0.0 if absence is None else max(absence.timer.deadline - trio.current_time(), 0.0)
                self._start((number, user), room, answer.member.name, left_s, None)

        try:
            self._journal.submit(command, done)
        except Rejected:
            again()

    def _restored(self, live: LiveRoom, answer: Joined) -> None:
        """The member has its row again; others may have been told that it was gone."""
        user = answer.member.user
        here = user not in live.members
        live.enter(answer.member, answer.stamp)
        if answer.first:
            event = MemberJoined(room=live.id, member=answer.member, stamp=answer.stamp, returning=answer.returning)
            self._supervisor.tell_joined(live, event, here=here)

    def _leave_later(self, live: LiveRoom, user: str, origin: Origin | None) -> None:
        """The store did not take a leaving, or did and could not say so."""
        presence = live.members.get(user)
        if presence is not None and presence.listeners:
            self.restore(live, user)  # it has come back meanwhile
        else:
            self._absence(live, user, 0.0, origin)

    def moved(self, former: LiveRoom, live: LiveRoom, user: str) -> None:
        """The user was moved from one room to another while its last session was leaving, or was lost."""
        absence = self._absent.get((former.number, user))
        if absence is None:
            self.leave_at_once(live, user, reason="left")
        else:
            left_s = max(absence.timer.deadline - trio.current_time(), 0.0)
            self._forget((former.number, user))
            self._absence(live, user, left_s, absence.origin)

    def leave_at_once(
        self,
        live: LiveRoom,
        user: str,
        origin: Origin | None = None,
        reason: LeaveReason = "gone",
        stored: Callable[[], None] = lambda: None,
    ) -> None:
        """Without a grace period there is nothing to be marked as away first. `stored` is called once it was tried."""
        name = self._name(live, user)

        def done(answer: Any) -> None:
            live.pins -= 1
            stored()
            if isinstance(answer, Rejected):
                extra = {"user": user, "room": live.id, "code": answer.code}
                log.info("a leaving is stored later", extra=extra)
                self._leave_later(live, user, origin)
            else:
                self._left(live.number, live.id, user, name, answer, reason, origin)

        live.pins += 1
        try:
            self._journal.submit(Leave(number=live.number, user=user, instance=self._instance), done)
        except Rejected as refusal:
            done(refusal)

    def _detach(self, live: LiveRoom, listener: Listener) -> bool:
        last_here = live.detach(listener)
        if not live.listeners_count:
            live.idle_since = trio.current_time()
        return last_here

    def _absence(self, live: LiveRoom, user: str, grace_s: float, origin: Origin | None) -> None:
        self._start((live.number, user), live.id, self._name(live, user), grace_s, origin)

    def _start(self, key: Key, room: str, name: str, grace_s: float, origin: Origin | None) -> None:
        """Start the grace period of a member that has no connection here."""
        self._forget(key)
        timer = self._timers.call_later(grace_s, lambda: self._grace_ended(key))
        live = self._supervisor.get(key[0])
        absence = self._absent[key] = _Absence(live, room, name, timer, origin)
        if live is not None:
            live.pins += 1
        self._store_away(key, absence)

    def _forget(self, key: Key) -> None:
        absence = self._absent.pop(key, None)
        if absence is not None:
            absence.timer.cancel()
            if absence.live is not None:
                absence.live.pins -= 1

    def _store_away(self, key: Key, absence: _Absence) -> None:
        if self._absent.get(key) is not absence:
            return

        def again(refusal: Rejected) -> None:
            log.debug("an absence is stored later", extra={"user": key[1], "code": refusal.code})
            self._timers.call_later(RETRY_S, lambda: self._store_away(key, absence))

        def done(answer: Any) -> None:
            live = self._supervisor.get(key[0])
            if isinstance(answer, Rejected):
                again(answer)
            elif self._absent.get(key) is absence:
                absence.away_since = answer or 0
            elif live is not None and key[1] in live.members and live.members[key[1]].listeners:
                self.restore(live, key[1])  # it came back while this was on its way, and was stored as away after that

        try:
            self._journal.submit(Away(number=key[0], user=key[1], instance=self._instance), done)
        except Rejected as refusal:
            again(refusal)

    def _grace_ended(self, key: Key) -> None:
        absence = self._absent.get(key)
        if absence is None:
            return

        def again() -> None:
            absence.timer = self._timers.call_later(RETRY_S, lambda: self._grace_ended(key))

        # The order "away, then leave" is what keeps a user who came back in between.
        if absence.away_since is None:
            again()
            return
        number, user = key

        def done(answer: Any) -> None:
            if self._absent.get(key) is not absence:
                return  # came back while this was on its way: the store kept the row
            if isinstance(answer, Rejected):
                again()
                return
            self._forget(key)
            self._left(number, absence.room, user, absence.name, answer, "gone", absence.origin)

        command = Leave(number=number, user=user, instance=self._instance, away_since=absence.away_since)
        try:
            self._journal.submit(command, done)
        except Rejected:
            again()

    def _left(
        self,
        number: int,
        room: str,
        user: str,
        name: str,
        left: Left,
        reason: LeaveReason,
        origin: Origin | None,
    ) -> None:
        live = self._supervisor.get(number)
        if live is not None and user in live.members and live.members[user].listeners:
            # Another of its sessions came in while this was on its way, and its row went with the one that left.
            self.restore(live, user)
        elif left.last:
            event = MemberLeft(room=room, user=user, user_name=name, stamp=left.stamp, reason=reason, origin=origin)
            self._supervisor.tell_left(number, event)

    @staticmethod
    def _name(live: LiveRoom, user: str) -> str:
        presence = live.members.get(user)
        return user if presence is None else presence.member.name
