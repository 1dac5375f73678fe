"""A room in memory: who is in it, who listens, and what they are told, in which order.

Theory of operation. A `LiveRoom` exists on every instance that has listeners in the room. `members` is the instance's
copy of the member list in the store. `audiences` holds the listeners, grouped by the form in which they want events, so
that an event is encoded once per form and the same bytes go to everyone in the group.

Durable events carry the room's revision. They are delivered in that order, without gaps and without repeats: one that
was delivered is dropped, one that comes early waits in `early` until the gap was filled from the store (`gap` says that
there is one). Ephemeral events are delivered as they come.

A listener that is still arriving (its join waits for the history it asked for) gets nothing directly: its events are
kept back in order and released behind the answer to the join, so that history and live events meet without a hole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Protocol

from catfish.errors import Rejected
from catfish.rooms.commands import RoomRecord
from catfish.rooms.events import DurableEvent, Event, MessageSent, Signal
from catfish.rooms.model import Access, Media, Member, Room, RoomKind

EARLY_MAX = 10_000
"""Durable events that may wait for a gap to be filled; beyond that the newest are left to the filling."""


ARRIVAL_EVENTS_MAX = 10_000
"""Events kept back for a listener that arrives; with more its session ends, and it comes back and resumes."""
DEPARTED_MAX = 1_000
"""Users whose leaving is remembered."""


UNKNOWN_STAMP = -1
"""Of the coming of somebody whom the store was found to have as a member; it has a stamp, which was not told."""


class Audience(Protocol):
    """A form in which events leave: a vocabulary, a codec and a transport's framing."""

    def encode(self, event: Event, room: LiveRoom, /) -> Any:
        """The form that `Listener.push` takes, the same object each time for the same event; None: not for them."""
        ...


class Listener(Protocol):
    """One session as a room sees it."""

    @property
    def user(self) -> str: ...

    @property
    def audience(self) -> Audience: ...

    def push(self, outgoing: Any, /) -> None:
        """Queue what the audience encoded. Neither blocks nor raises, and never changes a room."""
        ...

    def origin_in(self, room: str) -> tuple[str, Any] | None:
        """What goes with the news of its coming to that room; see `rooms.events.Event.origin`."""
        ...

    def follow(self, former: LiveRoom, live: LiveRoom, revision: int, peer: Member) -> None:
        """Its user was moved from one matched room to another, where `peer` is: hear of that, and listen there.

        When the answer that it is in the former room is still under way, it hears of that behind the answer.
        """
        ...

    @property
    def address(self) -> str | None:
        """Where it comes from, without a port; None, or what is no address, when nobody knows."""
        ...

    @property
    def apart(self) -> Collection[str]:
        """Users whom its user has blocked, and those who have blocked it."""
        ...

    def removed(self, live: LiveRoom) -> None:
        """Its user was removed from the room; it has heard so, and listens there no more."""
        ...

    def fail(self) -> None:
        """The room is of no use any more: end the session, so that it comes back and resumes."""
        ...


class Presence:
    """A member, and the sessions of its user on this instance."""

    __slots__ = ("listeners", "member", "stamp")

    def __init__(self, member: Member, stamp: int) -> None:
        self.member = member
        self.stamp = stamp
        """Of its coming; see `rooms.commands.Joined`."""
        self.listeners: set[Listener] = set()


class Arrival:
    """What a listener will be told once its join is answered."""

    __slots__ = ("kept", "revision")

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.kept: list[tuple[Event, int]] = []
        """Events, each with the room's revision at its time."""


class LiveRoom:
    __slots__ = (
        "access",
        "arriving",
        "audiences",
        "capacity",
        "closed",
        "code",
        "created_at",
        "created_by",
        "departed",
        "early",
        "fill_at",
        "floor",
        "id",
        "idle_since",
        "kind",
        "listeners_count",
        "members",
        "muted",
        "name",
        "number",
        "pins",
        "revision",
        "seq",
        "told",
    )

    def __init__(self, record: RoomRecord, members: Iterable[Member]) -> None:
        room = record.room
        self.number = record.number
        self.id = room.id
        self.kind = room.kind
        self.access = room.access
        self.code = room.code
        self.name = room.name
        self.capacity = room.capacity
        self.created_at = room.created_at
        self.created_by = record.created_by
        self.closed = False
        """Its listeners were told so, and are told nothing any more."""
        self.seq = room.seq
        self.revision = record.revision
        self.told = record.revision
        """The newest revision that those whom an event is being encoded for have been told, that event included."""
        self.members: dict[str, Presence] = {member.user: Presence(member, 0) for member in members}
        self.muted: dict[str, int] = {}
        """Until when users who are connected here may not speak, in milliseconds since the epoch."""
        self.departed: dict[str, int] = {}
        """Stamps of users who left, so that late news of an earlier coming is not believed."""
        self.floor = 0
        """Comings and goings up to this stamp are in `members` already."""
        self.audiences: dict[Audience, dict[Listener, None]] = {}
        self.arriving: dict[Listener, Arrival] = {}
        self.listeners_count = 0
        self.early: dict[int, DurableEvent] = {}
        self.pins = 0
        """Joins and grace periods under way: while there are any, the room stays in memory."""
        self.idle_since: float | None = None
        self.fill_at = 0.0
        """When the gap before `early` is to be read from the store, in the caller's time."""

    def view(self) -> Room:
        """The room as clients see it."""
        return Room(
            id=self.id,
            kind=self.kind,
            access=self.access,
            code=self.code,
            name=self.name,
            capacity=self.capacity,
            members_count=len(self.members),
            seq=self.seq,
            created_at=self.created_at,
        )

    # Members

    def enter(self, member: Member, stamp: int = 0) -> Presence:
        """The user is in the room: now, again, or on one more device."""
        presence = self.members.get(member.user)
        if presence is None:
            presence = self.members[member.user] = Presence(member, stamp)
        else:
            if stamp > 0:
                presence.stamp = max(presence.stamp, stamp)
            media = presence.member.media
            presence.member = member
            member.media = media
        return presence

    def exit(self, user: str, stamp: int = 0) -> bool:
        """The user is in the room no more; whether it was."""
        if stamp:
            self.departed[user] = stamp
            if len(self.departed) > DEPARTED_MAX:
                for oldest in list(self.departed)[: DEPARTED_MAX // 2]:
                    self.floor = max(self.floor, self.departed.pop(oldest))
        return self.members.pop(user, None) is not None

    def hear_joined(self, member: Member, stamp: int) -> bool:
        """Another instance says that a user came; whether that is news."""
        if stamp <= max(self.floor, self.departed.get(member.user, 0)):
            return False
        news = member.user not in self.members
        self.enter(member, stamp)
        return news

    def hear_left(self, user: str, stamp: int) -> bool:
        """A user is said to be on no instance any more; whether that is news."""
        presence = self.members.get(user)
        if self.is_contradicted(user, stamp):
            return False
        if presence is None or stamp <= max(self.floor, presence.stamp) or presence.stamp == UNKNOWN_STAMP:
            self.departed[user] = max(stamp, self.departed.get(user, 0))
            return False
        return self.exit(user, stamp)

    def hear_removed(self, user: str, stamp: int) -> list[Listener] | None:
        """A moderator removed a user; its sessions here, which are still to be told. None when it came back since, or
        nobody here knew of it. Without a stamp it is so in any case."""
        presence = self.members.get(user)
        if presence is None or 0 < stamp <= max(self.floor, presence.stamp):
            self.departed[user] = max(stamp, self.departed.get(user, 0))
            return None
        self.exit(user, stamp)
        return list(presence.listeners)

    def is_contradicted(self, user: str, stamp: int) -> bool:
        """Whether a user who is said to have left is connected here, and did not come later than that."""
        presence = self.members.get(user)
        return presence is not None and bool(presence.listeners) and stamp > max(self.floor, presence.stamp)

    def list_members(self, limit: int) -> list[Member]:
        """Members in the order in which they entered."""
        members = [presence.member for presence in self.members.values()]
        return members[:limit]

    def member(self, user: str) -> Member:
        presence = self.members.get(user)
        if presence is None:
            raise Rejected("no_such_member", f"{user!r} is not in the room")
        return presence.member

    def toggle(self, user: str, device: str, on: bool) -> None:
        """Remember which devices a member has switched on, for those who come later."""
        member = self.member(user)
        was = member.media
        member.media = Media(
            camera=on if device == "camera" else was.camera,
            mic=on if device == "mic" else was.mic,
            screen=on if device == "screen" else was.screen,
        )

    def mute(self, user: str, until: int) -> None:
        """Let a user not speak until then; 0 lets it."""
        if until:
            self.muted[user] = until
        else:
            self.muted.pop(user, None)

    @property
    def is_of_strangers(self) -> bool:
        """Matching put them together."""
        return self.access is Access.PAIR

    @property
    def is_full_pair(self) -> bool:
        """The room is for two, and both are there."""
        return self.kind is RoomKind.MATCHED and len(self.members) == 2

    # Listeners

    def listeners(self) -> list[Listener]:
        """Every session that listens here."""
        return [*self.arriving, *(listener for group in self.audiences.values() for listener in group)]

    def attach(self, listener: Listener, revision: int) -> None:
        """A session of a member listens from now on; what happens is kept back until `settle`.

        The answer to its join shows the room as of `revision`; durable events up to that one are not repeated.
        """
        self.members[listener.user].listeners.add(listener)
        if not (self._ungroup(listener) or listener in self.arriving):
            self.listeners_count += 1
        self.arriving[listener] = Arrival(revision)
        self.idle_since = None

    def tell_arriving(self, listener: Listener, event: Event) -> None:
        """Something that a session which arrives is to hear behind the answer to its join."""
        self._keep(listener, self.arriving[listener], event)

    def settle(self, listener: Listener) -> None:
        """The answer to the join is out: release what was kept back, in order."""
        arrival = self.arriving.pop(listener, None)
        if arrival is None:
            return
        audience = listener.audience
        for event, revision in arrival.kept:
            if isinstance(event, DurableEvent) and event.revision <= arrival.revision:
                continue
            self.told = max(revision, arrival.revision)
            outgoing = audience.encode(event, self)
            if outgoing is not None:
                listener.push(outgoing)
        self.told = self.revision
        self.audiences.setdefault(audience, {})[listener] = None

    def detach(self, listener: Listener) -> bool:
        """The session listens no more; whether it was the last one of its user here."""
        if self._ungroup(listener) or self.arriving.pop(listener, None) is not None:
            self.listeners_count -= 1
        presence = self.members.get(listener.user)
        if presence is None:
            return True
        presence.listeners.discard(listener)
        return not presence.listeners

    def evict(self, listeners: Iterable[Listener]) -> None:
        """They were told that their user was removed, and listen no more."""
        for listener in listeners:
            is_arriving = listener in self.arriving
            self.detach(listener)
            listener.removed(self)
            if is_arriving:
                listener.fail()  # it is about to be told that it is in the room

    def close(self) -> None:
        """Nobody listens any more; those who are still arriving get what was kept back for them."""
        self.closed = True
        self.audiences.clear()
        self.listeners_count = 0

    def move(self, listener: Listener, audience: Audience) -> None:
        """The session wants another form from now on (its transport was upgraded)."""
        if self._ungroup(listener):
            self.audiences.setdefault(audience, {})[listener] = None

    def _ungroup(self, listener: Listener) -> bool:
        group = self.audiences.get(listener.audience)
        if group is None or listener not in group:
            return False
        del group[listener]
        if not group:
            del self.audiences[listener.audience]
        return True

    # Delivery

    def deliver(self, event: Event, skip: Listener | None = None) -> None:
        """Tell everyone who listens, but for `skip`."""
        for audience, listeners in self.audiences.items():
            outgoing = audience.encode(event, self)
            if outgoing is None:
                continue
            if skip is None:
                for listener in listeners:
                    listener.push(outgoing)
            else:
                for listener in listeners:
                    if listener is not skip:
                        listener.push(outgoing)
        if self.arriving:
            for listener, arrival in self.arriving.items():
                if listener is not skip:
                    self._keep(listener, arrival, event)

    def deliver_to(self, user: str, event: Event) -> None:
        """Tell every session of one member."""
        presence = self.members.get(user)
        if presence is None:
            return
        for listener in presence.listeners:
            if type(event) is Signal and event.user in listener.apart:
                continue
            arrival = self.arriving.get(listener)
            if arrival is not None:
                self._keep(listener, arrival, event)
                continue
            outgoing = listener.audience.encode(event, self)
            if outgoing is not None:
                listener.push(outgoing)

    def _keep(self, listener: Listener, arrival: Arrival, event: Event) -> None:
        if len(arrival.kept) < ARRIVAL_EVENTS_MAX:
            arrival.kept.append((event, self.revision))
        else:
            listener.fail()

    def deliver_durable(self, event: DurableEvent) -> bool:
        """Tell everyone a durable event when its turn has come.

        Returns True when there is a gap before it: the event waits, and the caller fills the gap from the store.
        """
        if event.revision <= self.revision:
            return False
        if event.revision != self.revision + 1:
            if len(self.early) < EARLY_MAX:
                self.early[event.revision] = event
            return True
        while True:
            self.revision = self.told = event.revision
            if isinstance(event, MessageSent):
                self.seq = event.message.seq
            self.deliver(event)
            waiting = self.early.pop(self.revision + 1, None)
            if waiting is None:
                break
            event = waiting
        if self.early:
            self.early = {revision: held for revision, held in self.early.items() if revision > self.revision}
        return bool(self.early)
