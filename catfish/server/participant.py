"""One session as vocabularies and rooms see it: its identity, its rooms, and what it can do in them.

The transport behind it (a native WebSocket, a Socket.IO namespace) sets `push` and `emit`, feeds the vocabulary, and
calls `settle` behind each request and `end` when the connection is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from catfish.contracts.interface import Entry, Origin, Pairing
from catfish.errors import INTERNAL_ERROR, Close, Rejected
from catfish.rooms.codes import draw_id, normalise_code
from catfish.rooms.commands import (
    Join,
    Joined,
    Match,
    Matched,
    RoomRecord,
)
from catfish.rooms.events import (
    Event,
    MemberJoined,
    MemberLeft,
    RoomClosed,
    RoomReady,
)
from catfish.rooms.model import Access, Member, Message, Room, RoomKind
from catfish.rooms.permissions import Facts, Right, banned_address, check, check_granted, is_granted
from catfish.rooms.policy import bad_request
from catfish.rooms.ports import Page
from catfish.rooms.room import Audience, LiveRoom
from catfish.server.archive import available
from catfish.server.inbox import Gauge
from catfish.server.instance import Instance
from catfish.server.limits import Meter
from catfish.server.speaking import Speaking


class Attendance:
    """A room that the session is in."""

    __slots__ = ("entered_at", "fresh", "grace_s", "live", "origin", "removed")

    def __init__(self, live: LiveRoom, revision: int, grace_s: float, origin: Origin | None) -> None:
        self.live = live
        self.entered_at = revision
        """The newest durable change when the room was entered."""
        self.fresh = True
        """Entered by the request that is being answered."""
        self.grace_s = grace_s
        self.origin = origin
        self.removed = False
        """The user was removed; the vocabulary learns it when it asks for the room."""

    @property
    def over(self) -> bool:
        """The room was closed, or the user was removed from it."""
        return self.removed or self.live.closed


class Participant(Speaking):
    """Implements `contracts.interface.Participant` and `rooms.room.Listener`.

    Args:
        audience: the form in which the session gets events.
        gauge: counts what waits for the journal.
        address: the client's; see `Connection.address`.
        meter: of how much it does; None: nothing limits it.
        push: queues what the audience encoded.
        emit: sends an event to this session alone.
        hang_up: ends the connection.
    """

    __slots__ = (
        "_moved",
        "_rooms",
        "address",
        "audience",
        "emit",
        "push",
        "state",
    )

    def __init__(
        self,
        instance: Instance,
        audience: Audience,
        gauge: Gauge,
        address: str,
        meter: Meter | None,
        push: Callable[[Any], None],
        emit: Callable[..., None],
        hang_up: Callable[[Close], None],
    ) -> None:
        super().__init__(instance, gauge, meter, hang_up)
        self.audience = audience
        self.address = address
        self.push = push
        self.emit = emit
        self.state: Any = None
        self._rooms: dict[str, Attendance] = {}
        self._moved: tuple[str, str] | None = None
        """From which room to which, when the vocabulary is still to learn of that."""
        instance.users.add(self)

    @property
    def is_in_rooms(self) -> bool:
        return bool(self._rooms)

    def fail(self) -> None:
        self.hang_up(INTERNAL_ERROR)

    # Rooms

    @property
    def rooms(self) -> Sequence[str]:
        return [room for room, attendance in self._rooms.items() if not attendance.over]

    @property
    def attendances(self) -> Sequence[Attendance]:
        """The rooms, with what was agreed on entering them."""
        return [attendance for attendance in self._rooms.values() if not attendance.over]

    def positions(self) -> dict[int, int]:
        """How far the session has been told what happens in each of its rooms: revisions by room number."""
        positions = {}
        for attendance in self.attendances:
            live = attendance.live
            arrival = live.arriving.get(self)
            positions[live.number] = live.told if arrival is None else arrival.revision
        return positions

    def live(self, room: str) -> LiveRoom:
        attendance = self._rooms.get(room)
        if attendance is None or attendance.removed:
            raise Rejected("not_in_room", f"room: not in room {room[:128]!r}")
        if attendance.live.closed:
            raise Rejected("room_closed", "room: it was closed")
        return attendance.live

    async def create(
        self,
        *,
        kind: RoomKind | None,
        access: Access | None = None,
        name: str | None = None,
        capacity: int | None = None,
    ) -> Room:
        self._check_rate("joining")
        id = draw_id("r")
        check_granted(Right.JOIN, id, self.grants)
        publisher = self._instance.publisher
        record = await publisher.create(kind=kind, access=access, name=name, capacity=capacity, user=self.user, id=id)
        return record.room

    def hosted(self, *, room: str | None = None, code: str | None = None) -> LiveRoom | None:
        return self._instance.supervisor.find(room, code)

    async def find(self, *, room: str | None = None, code: str | None = None) -> tuple[int, Room]:
        return await self._instance.archive.find(room=room, code=code)

    async def join(
        self,
        *,
        room: str | None = None,
        code: str | None = None,
        create: bool = True,
        grace_s: float | None = None,
        origin: Origin | None = None,
    ) -> Entry:
        self._check_rate("joining")
        if (room is None) == (code is None):
            raise bad_request("room", "either room or code is needed, and not both")
        if room is not None:
            self.policy.room(room)
        if code is not None:
            code = normalise_code(self.policy.code(code))
        supervisor = self._instance.supervisor
        hosted = supervisor.find(room, code)
        if not (hosted is not None and hosted.id in self._rooms):
            self._check_rooms()
        admits = self._instance.admits
        if room is not None and admits is not None and not await admits(room, self.user):
            check(Right.JOIN, Facts(Access.PUBLIC, outsider=True))
        command = Join(
            room=room,
            code=code,
            create=create,
            user=self.user,
            name=self.name,
            instance=self._instance.id,
            with_members=hosted is None,
            grants=self.grants,
            address=banned_address(self.address),
        )

        def joined(answer: Joined) -> Entry:
            known = supervisor.get(answer.record.number)
            live = supervisor.host(answer.record, answer.members, answer.stamp)
            # A join that was committed without our hearing of it is no first one when it is repeated.
            first = answer.first or (known is not None and self.user not in live.members)
            # Who compared the room with the store meanwhile has told of it already.
            here = known is None or self.user not in known.members
            live.enter(answer.member, answer.stamp)
            if first:
                event = MemberJoined(
                    room=live.id,
                    member=answer.member,
                    stamp=answer.stamp,
                    returning=answer.returning,
                    origin=origin,
                )
                supervisor.tell_joined(live, event, here=here)
            live.mute(self.user, answer.muted_until)
            self.apart = frozenset(answer.apart)
            revision = self._attend(live, answer.record.revision, grace_s, origin)
            if first and live.is_full_pair:
                live.tell_arriving(self, RoomReady(room=live.id))  # the other was told
            return Entry(
                room=self._view(live, answer.record),
                member=answer.member,
                first=first,
                returning=answer.returning,
                revision=revision,
                members=live.list_members(self.policy.settings.members_listed_max),
                live=live,
            )

        with supervisor.pinned(hosted):
            disown = self._instance.departures.disown
            entry = await self._instance.journal.perform(command, joined, lambda: disown(command))
        if entry.live.revision < entry.revision:
            await available(supervisor.fill(entry.live))
        return entry

    async def match(
        self,
        interests: Sequence[str] = (),
        *,
        again: bool = False,
        grace_s: float | None = None,
        origin: Origin | None = None,
    ) -> Pairing:
        self._check_rate("matching")
        for attendance in self.attendances:
            if attendance.live.is_of_strangers and attendance.live.is_full_pair:
                raise Rejected("already_in_room", "the session is with a stranger already; room:next looks for another")
        self._check_rooms()
        supervisor = self._instance.supervisor
        command = Match(
            user=self.user,
            name=self.name,
            instance=self._instance.id,
            interests=tuple(interests),
            new_room=draw_id("m"),
            pause_ms=0 if again else round(self.policy.settings.partner_pause_s * 1000),
        )
        check_granted(Right.JOIN, command.new_room, self.grants)

        def matched(answer: Matched) -> tuple[Pairing, LiveRoom, int]:
            peer, member = answer.peer, answer.member
            members = [member] if peer is None else [peer, member]
            live, met = supervisor.bring_together(answer.record, members, answer.stamp)
            if met:
                joined = MemberJoined(room=live.id, member=member, stamp=answer.stamp, origin=origin)
                supervisor.tell(live, joined)
            newcomer = met or not live.members[self.user].listeners
            self.apart = frozenset(answer.apart)
            revision = self._attend(live, answer.record.revision, grace_s, origin)
            changed = not self.ended and self._hear_since(live, peer)
            if live.is_full_pair:
                if met:
                    supervisor.tell_ready(live)
                elif changed or (newcomer and not self.ended):
                    live.tell_arriving(self, RoomReady(room=live.id))
            return Pairing(room=self._view(live, answer.record), peer=peer), live, revision

        disown = self._instance.departures.disown
        performing = self._instance.journal.perform(command, matched, lambda: disown(command))
        pairing, live, revision = await performing
        if live.revision < revision:
            await available(supervisor.fill(live))
        return pairing

    def _hear_since(self, live: LiveRoom, peer: Member | None) -> bool:
        """Who came to the room or left it since the store answered that `peer` is there, which others of this instance
        have been told; whether anybody did."""
        known = {self.user}
        changed = False
        if peer is not None:
            known.add(peer.user)
            if peer.user not in live.members:
                live.tell_arriving(self, MemberLeft(room=live.id, user=peer.user, user_name=peer.name, reason="gone"))
                changed = True
        for user, presence in live.members.items():
            if user not in known:
                live.tell_arriving(self, MemberJoined(room=live.id, member=presence.member))
                changed = True
        return changed

    async def leave(self, room: str) -> None:
        attendance = self._rooms.pop(room, None)
        if attendance is None:
            raise Rejected("not_in_room", f"room: not in room {room[:128]!r}")
        if attendance.over:
            return
        await self._instance.departures.leave(attendance.live, self, attendance.origin)

    def origin_in(self, room: str) -> Origin | None:
        attendance = self._rooms.get(room)
        return None if attendance is None else attendance.origin

    def follow(self, former: LiveRoom, live: LiveRoom, revision: int, peer: Member) -> None:
        attendance = self._rooms.pop(former.id, None)
        if attendance is None:
            return
        unanswered = self in former.arriving
        former.detach(self)
        self._moved = former.id, live.id
        self._attend(live, revision, attendance.grace_s, attendance.origin)
        told: list[tuple[Event, LiveRoom]] = [
            (RoomClosed(room=former.id), former),
            (MemberJoined(room=live.id, member=peer), live),
        ]
        for event, room in told:
            if unanswered:
                live.tell_arriving(self, event)  # behind the answer, which says that it is in the former room
            elif (outgoing := self.audience.encode(event, room)) is not None:
                self.push(outgoing)
        self._hear_since(live, peer)
        if not unanswered:
            live.settle(self)
            self._remember_move()

    def removed(self, live: LiveRoom) -> None:
        attendance = self._rooms.get(live.id)
        if attendance is not None:
            attendance.removed = True
        if self.state == live.id:
            self.state = None  # vocabularies of one room remember which one it is

    def _check_rooms(self) -> None:
        rooms_max = self.policy.settings.rooms_per_session_max
        if len(self._rooms) >= rooms_max:
            self._rooms = {attendance.live.id: attendance for attendance in self.attendances}
        if len(self._rooms) >= rooms_max:
            raise Rejected("too_many_rooms", f"a session may be in {rooms_max} rooms")

    @staticmethod
    def _view(live: LiveRoom, record: RoomRecord) -> Room:
        """The room for the answer: as it was committed, or as it is here, which may be newer."""
        view = record.room
        view.seq = max(view.seq, live.seq)
        view.members_count = len(live.members)
        return view

    def _attend(self, live: LiveRoom, revision: int, grace_s: float | None, origin: Origin | None) -> int:
        """Listen from now on. Returns the newest change that the answer has to show: others of this instance may have
        been told what was committed after the join, before the answer to the join was here."""
        revision = max(revision, live.revision)
        departures = self._instance.departures
        grace_s = self.policy.settings.grace_s if grace_s is None else grace_s
        departures.returned(live, self.user)
        live.attach(self, revision)
        if self.ended:
            # The connection went away while the store was at it.
            departures.lose(live, self, grace_s, origin)
        else:
            before = self._rooms.get(live.id)
            self._rooms[live.id] = attendance = Attendance(live, revision, grace_s, origin)
            attendance.fresh = before is None or before.fresh
        return revision

    def settle(self) -> None:
        """A request is answered: what happened in rooms that it entered follows now."""
        for attendance in self._rooms.values():
            if attendance.live.arriving:
                attendance.live.settle(self)
                attendance.fresh = False
        self._remember_move()

    def _remember_move(self) -> None:
        """Vocabularies of matched rooms remember which one it is."""
        if self._moved is not None:
            former, room = self._moved
            self._moved = None
            if self.state == former:
                self.state = room

    def withdraw(self) -> None:
        """A request is refused, although it may have entered a room (what was to be in the answer could not be read):
        the client does not know that it is there, so it is not. Before `settle`."""
        for id, attendance in list(self._rooms.items()):
            if self not in attendance.live.arriving:
                continue
            if attendance.fresh:
                del self._rooms[id]
                self._instance.departures.lose(attendance.live, self, attendance.grace_s, attendance.origin)
            else:
                # It was there before, and knows no longer how far it has been told.
                self.fail()

    def move(self, audience: Audience, push: Callable[[Any], None]) -> None:
        """The session gets events in another form from now on."""
        for attendance in self._rooms.values():
            attendance.live.move(self, audience)
        self.audience = audience
        self.push = push

    def end(self) -> None:
        """The connection is gone: nothing is heard any more, and the grace period runs."""
        self.ended = True
        self._forget_expiry()
        if self.meter is not None:
            self.meter.end()
        self._instance.users.remove(self, self.user)
        attendances, self._rooms = self._rooms, {}
        for attendance in attendances.values():
            if attendance.over:
                continue  # the members have left it already
            self._instance.departures.lose(attendance.live, self, attendance.grace_s, attendance.origin)

    # Reading

    async def history(
        self, number: int, *, before: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Page:
        if not self._reads(number):
            return Page(messages=[], more=False)
        return await self._instance.archive.history(number, before=before, after=after, limit=limit)

    async def changed_since(self, number: int, seq: int) -> list[Message]:
        return await self._instance.archive.changed_since(number, seq) if self._reads(number) else []

    def _reads(self, number: int) -> bool:
        """Whether the token lets it read the room, which it is in."""
        live = self._instance.supervisor.get(number)
        return self.grants is None or (live is not None and is_granted(Right.READ, live.id, self.grants))
