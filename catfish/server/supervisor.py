"""The rooms that this instance has in memory: who hosts them, tells them, and fills what they have not heard.

Theory of operation. A room is hosted from the first join here until it had no listeners for `room_idle_s`. What is told
to a room here is also published to the mirror, and what other instances publish is told to the rooms hosted here. The
mirror may lose, repeat or reorder; so durable events go by their revision and comings and goings by their stamp, and

* an event that comes early waits; when what is before it has not come within `EARLY_S`, it is read from the store;
* when the mirror says that something may be lost, or the database was away, every hosted room is compared with the
  store: its revision, and its members;
* what was told while a room came into memory here was not heard, so each is compared once when it is there;
* while the mirror is away, that comparison is repeated every `poll_s`. So durable events still cross, and later.

Rooms are closed in the store, also by those who are no instance (an operator's command), so the instances look for
closed rooms with every renewal of their lease. Whoever finds that one of its rooms was closed reads what was sent until
then, tells its members the end, and drops the room; with a mirror it tells the other instances as well.

A fault while telling one room (a bug in some encoding, say) ends that room's listeners here with 1011 and drops the
room from memory. They come back and resume from the store; other rooms notice nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from catfish.config import Settings
from catfish.rooms.codes import normalise_code
from catfish.rooms.commands import RoomRecord
from catfish.rooms.events import (
    DurableEvent,
    Event,
    MediaToggled,
    MemberJoined,
    MemberLeft,
    MemberMuted,
    RoomClosed,
    RoomReady,
)
from catfish.rooms.model import Member
from catfish.rooms.ports import Mirror, MirrorState, Store, StoreUnavailable
from catfish.rooms.room import UNKNOWN_STAMP, Listener, LiveRoom
from catfish.server.overlooked import Overlooked

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Until the store is asked again."""
EARLY_S = 0.05
"""For how long an event that came early waits for those before it to come by themselves."""
EVERYWHERE = 0
"""No room's number: what is told to the instances themselves goes by it."""
REMOVALS = frozenset(("kicked", "banned"))
CHANGES_PER_READ = 500
ROOMS_PER_COMPARISON = 1_000


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    rooms: int
    gaps_filled: int
    rooms_failed: int
    mirrored: bool | None
    """Whether other instances hear what happens here; None: there is no mirror."""


class RoomSupervisor:
    """Implements `rooms.ports.Mirrored`. `mirror` is set by the one who has one."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.mirror: Mirror | None = None
        self.on_closed: Callable[[LiveRoom], None] = lambda live: None
        self.on_order: Callable[[Event], None] = lambda event: None
        """Told of a closed room once its members were told; set by the one who keeps the members in the store."""
        self._connected = False
        self._store = store
        self._settings = settings
        self._rooms: dict[int, LiveRoom] = {}
        self.overlooked = Overlooked(store, self._rooms, self.hear_removed)
        self._by_id: dict[str, LiveRoom] = {}
        self._by_code: dict[str, LiveRoom] = {}
        self._to_fill: dict[int, LiveRoom] = {}
        self._closed: set[int] = set()
        self._compare = False
        self._unsure: dict[int, LiveRoom] = {}
        """Rooms that came into memory just now."""
        self.restore: Callable[[LiveRoom, str], None] = lambda live, user: None
        """Called when the others take a member for gone who is connected here."""
        self._work = trio.Event()
        self._gaps_filled = self._rooms_failed = 0

    def statistics(self) -> SupervisorStatistics:
        return SupervisorStatistics(
            rooms=len(self._rooms),
            gaps_filled=self._gaps_filled,
            rooms_failed=self._rooms_failed,
            mirrored=None if self.mirror is None else self._connected,
        )

    @property
    def mirror_condition(self) -> MirrorState:
        if self.mirror is None:
            return "off"
        return "ok" if self._connected else "away"

    # Rooms in memory

    @property
    def rooms(self) -> list[LiveRoom]:
        return list(self._rooms.values())

    def find(self, room: str | None = None, code: str | None = None) -> LiveRoom | None:
        """The hosted room of that id or code."""
        if room is not None:
            return self._by_id.get(room)
        return self._by_code.get(normalise_code(code)) if code is not None else None

    def get(self, number: int) -> LiveRoom | None:
        """The hosted room of that number."""
        return self._rooms.get(number)

    def host(self, record: RoomRecord, members: list[Member] | None, stamp: int = 0) -> LiveRoom:
        """The room in memory; `members`, as of `stamp`, fills it when it is not there yet."""
        live = self._rooms.get(record.number)
        if live is None:
            live = LiveRoom(record, members or ())
            live.floor = stamp
            live.idle_since = trio.current_time()
            self._rooms[live.number] = live
            self._by_id[live.id] = live
            if live.code is not None:
                self._by_code[live.code] = live
            if self.mirror is not None:
                self._unsure[live.number] = live
                self._work.set()
        return live

    @contextmanager
    def pinned(self, live: LiveRoom | None) -> Iterator[None]:
        """The room stays in memory meanwhile."""
        if live is None:
            yield
            return
        live.pins += 1
        try:
            yield
        finally:
            live.pins -= 1

    def _drop(self, live: LiveRoom) -> None:
        self._rooms.pop(live.number, None)
        self._to_fill.pop(live.number, None)
        self._by_id.pop(live.id, None)
        if live.code is not None:
            self._by_code.pop(live.code, None)

    def _drop_idle(self) -> None:
        since = trio.current_time() - self._settings.room_idle_s
        for live in self.rooms:
            idle = live.idle_since is not None and live.idle_since <= since
            if idle and not live.listeners_count and not live.pins:
                self._drop(live)

    # Telling: here, and on the other instances

    def tell(self, live: LiveRoom, event: Event, skip: Listener | None = None) -> None:
        """An event that is no part of the order of changes, for everyone in the room."""
        self._deliver(live, event, skip)
        if self.mirror is not None:
            self.mirror.publish(live.number, event)

    def tell_one(self, live: LiveRoom, user: str, event: Event) -> None:
        """The same for the devices of one user."""
        self._deliver(live, event, to=user)
        if self.mirror is not None:
            self.mirror.publish(live.number, event, user)

    def tell_joined(self, live: LiveRoom, event: MemberJoined, *, here: bool) -> None:
        """A user is in the room; `here`: the members on this instance do not know that yet."""
        if here:
            self._deliver_joined(live, event)
        if self.mirror is not None:
            self.mirror.publish(live.number, event)

    def tell_entered(self, number: int, event: MemberJoined) -> None:
        """A user is in the room, which need not be hosted here; those who know it are not told again."""
        live = self._rooms.get(number)
        if live is not None and live.hear_joined(event.member, event.stamp):
            self._deliver_joined(live, event)
        if self.mirror is not None:
            self.mirror.publish(number, event)

    def bring_together(self, record: RoomRecord, members: list[Member], stamp: int) -> tuple[LiveRoom, bool]:
        """The room of strangers who were matched just now, the one who came last, at `stamp`; and whether those here
        are still to be told of that one. Whoever of the others has left since then is in the room no more."""
        *others, member = members
        known = self._rooms.get(record.number)
        news = bool(others) and (known is None or member.user not in known.members)
        live = self.host(record, members, stamp)
        self.keep_only(live, {each.user for each in members}, stamp)
        for each in others:
            if live.departed.get(each.user, 0) < stamp:
                live.enter(each)
        live.enter(member, stamp)
        return live, news

    def tell_ready(self, live: LiveRoom) -> None:
        """Both strangers are there. Every instance says so to its own when it hears of the second one: told by itself,
        it might arrive without that one, or before."""
        self._deliver(live, RoomReady(room=live.id))

    def tell_durable(self, number: int, event: DurableEvent) -> None:
        """A durable event that was committed just now, in its turn."""
        self._deliver_durable(number, event, 0.0)
        if self.mirror is not None:
            self.mirror.publish(number, event)

    def tell_room(self, number: int, event: Event, to: str | None = None) -> None:
        """An event from outside the room, for everyone or for one user; the room need not be hosted here."""
        live = self._rooms.get(number)
        if live is not None:
            self._deliver(live, event, to=to)
        if self.mirror is not None:
            self.mirror.publish(number, event, to)

    def tell_instances(self, event: Event) -> None:
        """An event for the other instances themselves; `on_order` of each gets it."""
        if self.mirror is not None:
            self.mirror.publish(EVERYWHERE, event)

    def tell_left(self, number: int, event: MemberLeft) -> None:
        """A user is in the room on no instance any more; the room need not be hosted here."""
        live = self._rooms.get(number)
        if live is not None:
            self._hear_left(live, event)
        if self.mirror is not None:
            self.mirror.publish(number, event)

    def hear_removed(self, live: LiveRoom, event: MemberLeft) -> None:
        """A moderator removed a user, on every instance; its sessions here hear so, and are in the room no more."""
        listeners = live.hear_removed(event.user, event.stamp)
        if listeners is not None:
            self._deliver(live, event)
            live.evict(listeners)
        if not live.listeners_count:
            live.idle_since = trio.current_time()

    def forget(self, live: LiveRoom) -> None:
        """The room is over, and nobody here is in it any more."""
        if not live.listeners_count:
            self._drop(live)

    def _deliver(self, live: LiveRoom, event: Event, skip: Listener | None = None, to: str | None = None) -> None:
        try:
            if to is None:
                live.deliver(event, skip)
            else:
                live.deliver_to(to, event)
        except Exception:  # the crash boundary between rooms
            log.exception("room failed; its members here are disconnected and resume", extra={"room": live.id})
            self._fail(live)

    def _deliver_joined(self, live: LiveRoom, event: MemberJoined) -> None:
        self._deliver(live, event)
        if live.is_full_pair:
            self.tell_ready(live)

    def _deliver_durable(self, number: int, event: DurableEvent, patience_s: float) -> None:
        live = self._rooms.get(number)
        if live is None:
            return
        try:
            gap = live.deliver_durable(event)
        except Exception:  # the crash boundary between rooms
            log.exception("room failed; its members here are disconnected and resume", extra={"room": live.id})
            self._fail(live)
            return
        if gap and number not in self._to_fill:
            live.fill_at = trio.current_time() + patience_s
            self._to_fill[number] = live
            self._work.set()

    def _fail(self, live: LiveRoom) -> None:
        self._rooms_failed += 1
        self._drop(live)
        for listener in live.listeners():
            listener.fail()

    # What other instances tell

    def hosts(self, number: int) -> bool:
        return number in self._rooms or number == EVERYWHERE

    def _hear_left(self, live: LiveRoom, event: MemberLeft) -> None:
        if event.reason in REMOVALS:
            self.hear_removed(live, event)
        elif live.hear_left(event.user, event.stamp):
            self._deliver(live, event)
        elif live.is_contradicted(event.user, event.stamp):
            self.restore(live, event.user)
        elif event.user in live.members and live.members[event.user].stamp == UNKNOWN_STAMP:
            self._unsure[live.number] = live  # it may have come back since, or not
            self._work.set()

    def mirrored(self, number: int, event: Event, to: str | None) -> None:
        if number == EVERYWHERE:
            self.on_order(event)
            return
        live = self._rooms.get(number)
        if live is None:
            return
        match event:
            case DurableEvent():
                self._deliver_durable(number, event, EARLY_S)
            case MemberJoined():
                if live.hear_joined(event.member, event.stamp):
                    self._deliver_joined(live, event)
            case MemberLeft():
                self._hear_left(live, event)
            case MemberMuted():
                live.mute(event.user, event.until)
                self._deliver(live, event)
            case RoomReady():
                pass  # see `tell_ready`; instances of an earlier version say it
            case MediaToggled():
                if event.user in live.members:
                    live.toggle(event.user, event.device, event.on)
                    self._deliver(live, event)
            case RoomClosed():
                self.hear_closed(number)
            case _:
                self._deliver(live, event, to=to)

    def mirror_gap(self) -> None:
        self.compare_all()

    def mirror_state(self, connected: bool) -> None:
        self._connected = connected
        self._work.set()

    # Closed rooms

    async def find_closed(self) -> None:
        """Look whether hosted rooms were closed. Raises: StoreUnavailable."""
        numbers = list(self._rooms)
        for start in range(0, len(numbers), ROOMS_PER_COMPARISON):
            some = numbers[start : start + ROOMS_PER_COMPARISON]
            there = await self._store.revisions(some)
            for number in some:
                if number not in there:
                    self.hear_closed(number)

    def tell_closed(self, number: int, room: str) -> None:
        """The room was closed in the store just now; it need not be hosted here."""
        self.hear_closed(number)
        if self.mirror is not None:
            self.mirror.publish(number, RoomClosed(room=room))

    def hear_closed(self, number: int) -> None:
        """The room was closed in the store."""
        if number in self._rooms:
            self._closed.add(number)
            self._work.set()

    async def _end_closed(self) -> None:
        for number in list(self._closed):
            live = self._rooms.get(number)
            if live is not None and live.listeners_count:
                await self.fill(live)
            if live is not None and self._rooms.get(number) is live:
                self._end(live)
            self._closed.discard(number)

    def _end(self, live: LiveRoom) -> None:
        event, had_listeners = RoomClosed(room=live.id), bool(live.listeners_count)
        self._deliver(live, event)
        self._drop(live)
        live.close()
        self.on_closed(live)
        if self.mirror is not None and had_listeners:
            self.mirror.publish(live.number, event)

    # Gaps

    def compare_all(self) -> None:
        """Changes may have been committed that nobody here has heard of: compare every room with the store."""
        self._compare = True
        self._work.set()

    async def fill(self, live: LiveRoom) -> None:
        """Read and deliver what is missing. Raises: StoreUnavailable."""
        while self._rooms.get(live.number) is live:
            changes = await self._store.changes(live.number, after=live.revision, limit=CHANGES_PER_READ)
            for event in changes:
                self._deliver_durable(live.number, event, 0.0)
            self._gaps_filled += bool(changes)
            if len(changes) < CHANGES_PER_READ:
                return

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the rooms, for ever."""
        task_status.started()
        while True:
            with trio.move_on_after(self._patience_s()):
                await self._work.wait()
            self._work = trio.Event()
            self._drop_idle()
            try:
                if self._compare or (self.mirror is not None and not self._connected):
                    self._compare = False
                    await self.overlooked.find()
                    await self._compare_rooms(list(self._rooms))
                elif self._unsure:
                    await self._compare_rooms(list(self._unsure))
                await self._fill_gaps()
                await self._end_closed()
            except StoreUnavailable as error:
                log.info("rooms are compared with the store later", extra={"error": str(error)})
                self._compare = True
                await trio.sleep(RETRY_S)
                self._work.set()

    def _patience_s(self) -> float:
        """Until there is something to do although nobody says so."""
        if self.mirror is not None and not self._connected:
            return self._settings.poll_s
        soonest = min((live.fill_at for live in self._to_fill.values()), default=float("inf"))
        return max(0.0, min(self._settings.room_idle_s / 2, soonest - trio.current_time()))

    async def _fill_gaps(self) -> None:
        now = trio.current_time()
        for number, live in list(self._to_fill.items()):
            if not live.early and live.fill_at > now:
                del self._to_fill[number]  # what was missing has come
            elif live.fill_at <= now:
                await self.fill(live)
                self._to_fill.pop(number, None)

    async def _compare_rooms(self, numbers: list[int]) -> None:
        for start in range(0, len(numbers), ROOMS_PER_COMPARISON):
            some = numbers[start : start + ROOMS_PER_COMPARISON]
            revisions = await self._store.revisions(some)
            for number in some:
                live = self._rooms.get(number)
                unsure = self._unsure.pop(number, None)
                if live is None:
                    continue
                if number not in revisions:
                    self.hear_closed(number)
                    continue
                if unsure is not None and unsure is not live:
                    self._unsure[number] = live
                if not live.listeners_count and not live.pins:
                    self._drop(live)  # whoever comes next brings it from the store
                    continue
                if live.revision < revisions.get(number, 0):
                    await self.fill(live)
                if self.mirror is not None:
                    await self._compare_members(live)

    def keep_only(self, live: LiveRoom, users: set[str], stamp: int) -> None:
        """As of `stamp` these are all the members: whoever else is thought to be one has left, unheard of here."""
        for user, presence in list(live.members.items()):
            if user not in users and presence.stamp < stamp:
                self._make_up_for_leaving(live, user)

    def make_up_for_coming(self, live: LiveRoom, member: Member, stamp: int = 0) -> None:
        """The store says that it is a member; tell those here who have not heard of its coming."""
        known = member.user in live.members
        live.enter(member, stamp)
        if not known:
            self._deliver_joined(live, MemberJoined(room=live.id, member=member))

    def _make_up_for_leaving(self, live: LiveRoom, user: str) -> None:
        presence = live.members[user]
        if presence.listeners:
            self.restore(live, user)
        else:
            live.exit(user)
            name = presence.member.name
            self._deliver(live, MemberLeft(room=live.id, user=user, user_name=name, reason="gone"))

    async def _compare_members(self, live: LiveRoom) -> None:
        """Make up for comings and goings that nobody here has heard of."""
        before = {user: presence.stamp for user, presence in live.members.items()}
        departed = dict(live.departed)
        stored = await self._store.members(live.number, self._settings.room_capacity_max)
        there = {member.user for member in stored}
        for member in stored:
            user = member.user
            # Who left meanwhile is not to be judged by what was read before that; nor is, below, who came.
            if user not in live.members and user not in before and live.departed.get(user) == departed.get(user):
                self.make_up_for_coming(live, member, UNKNOWN_STAMP)
        for user, stamp in before.items():
            presence = live.members.get(user)
            if user not in there and presence is not None and presence.stamp == stamp:
                self._make_up_for_leaving(live, user)
