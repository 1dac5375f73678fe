"""The rooms that the client is in: which events are handed on, and how a room catches up after it missed some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from catfish.client.events import Events
from catfish.client.rooms import Joined, Page, Paired, RoomView, Verdict, message_seq, seq_of, understand
from catfish.errors import PeerError, Rejected
from catfish.wire.native import Event


class Following:
    """Every room's view, and the tasks that catch up.

    Args:
        events: where events are handed on.
        ask: makes a request on the present connection; waits while the server has no time, raises Rejected for good.
        fail: ends the present connection because of what the server sent.
        held_max: see `Limits`.
    """

    def __init__(
        self,
        events: Events,
        ask: Callable[[str, Any], Awaitable[Any]],
        fail: Callable[[PeerError], None],
        held_max: int,
    ) -> None:
        self.dropped = self.duplicates = self.catch_ups = 0
        self._events = events
        self._ask = ask
        self._fail = fail
        self._held_max = held_max
        self._views: dict[str, RoomView] = {}
        self._user = ""
        self._left_alone = False
        """The matched room was closed just now."""
        self._nursery: trio.Nursery | None = None

    @property
    def rooms(self) -> tuple[str, ...]:
        return tuple(self._views)

    # Called in the reader's turn

    def heard(self, room: str, event: Event) -> None:
        """An event of a room has come."""
        view = self._views.get(room)
        if view is None and event.name == "room:joined" and self._left_alone:
            # Two who waited are brought together: the room of one is closed, and the next that it hears of is another.
            self._left_alone = False
            view = self._views[room] = RoomView.moved(room, self._held_max)
            self._start_to_catch_up(view)
        if view is None:
            self.dropped += 1
            return
        if event.name == "room:closed" and view.kind == "matched":
            self._left_alone = True
        if view.catching_up:
            view.hold(event)
        elif (verdict := view.judge(event)) is Verdict.DUPLICATE:
            self.duplicates += 1
        elif verdict is Verdict.DELIVER and self._events.put_nowait(event):
            self._handed_on(view, event)
        else:
            view.hold(event)
            self._start_to_catch_up(view)

    def joined(self, asked: Any, data: Any) -> None:
        """A room was entered by the user's request; its messages in the reply are handed on by that."""
        reply = understand(data, Joined)
        asked = asked if isinstance(asked, dict) else {}
        known = self._views.get(reply.room.id)
        if known is not None and not known.is_other(reply.room):
            known.code = asked.get("code") or known.code
            known.leaving = False
            return
        seq = reply.seq
        if reply.more and asked.get("since") is not None:
            seq = message_seq(Event("chat:message", reply.messages[-1])) if reply.messages else asked["since"]
        view = RoomView.of(reply.room, seq, asked.get("code"), self._held_max)
        self._views[view.room] = view
        if seq < reply.seq:
            self._start_to_catch_up(view)

    def paired(self, _asked: Any, data: Any) -> None:
        """A matched room was entered. One is in one of them at a time."""
        room = understand(data, Paired).room
        self._left_alone = False
        view = RoomView.of(room, room.seq, None, self._held_max)
        for other in [other for other in self._views.values() if other.kind == view.kind]:
            del self._views[other.room]
        self._views[view.room] = view

    @contextmanager
    def leaving(self, data: Any) -> Iterator[None]:
        """Around a request to leave: from its beginning the room is not entered again after a reconnect."""
        room = data.get("room") if isinstance(data, dict) else None
        view = self._views.get(room) if isinstance(room, str) else None
        if view is None:
            yield
            return
        view.leaving = gone = True
        try:
            yield
        except Rejected as refused:
            gone = refused.code == "not_in_room"
            raise
        finally:
            view.leaving = gone
            if gone:
                self._forget(view)

    def cut(self) -> None:
        """The connection is gone."""
        self._nursery = None
        for view in self._views.values():
            view.cut()

    async def come_back(self, nursery: trio.Nursery, user: str) -> None:
        """Enter every room again on a new connection; returns when the server has answered for each."""
        self._nursery = nursery
        self._user = user
        for view in [view for view in self._views.values() if view.leaving]:
            self._forget(view)
        for back in [self._start_to_catch_up(view) for view in self._views.values()]:
            await back.wait()

    # Catching up

    def _start_to_catch_up(self, view: RoomView) -> trio.Event:
        view.catching_up = True
        back = trio.Event()
        if self._nursery is not None:
            self._nursery.start_soon(self._catch_up, view, back)
        return back

    async def _catch_up(self, view: RoomView, back: trio.Event) -> None:
        """Hand on what was missed in a room, then what was held meanwhile. `back` is set once the room is entered."""
        self.catch_ups += 1
        try:
            while not await self._catch_up_once(view, back):
                pass
        except Rejected as refused:
            if self._forget(view):
                told = {"room": view.room, "code": refused.code, "message": refused.message}
                await self._events.put(Event("client:refused", told))
        except PeerError as error:
            self._fail(error)
        finally:
            back.set()

    async def _catch_up_once(self, view: RoomView, back: trio.Event) -> bool:
        """Whether the room is live again."""
        self.dropped += view.start_over()
        reply = understand(await self._ask("room:join", view.join_data()), Joined)
        back.set()
        missed, more = reply.messages, reply.more
        if not view.created_at:
            view.adopt(reply)
            missed, more = [], False
        elif view.is_other(reply.room):
            view.renumber(reply.room)
            await self._events.put(Event("client:reset", {"room": view.room}))
            return False
        view.note_changed(reply.changed)
        await self._hand_on_missed(view, missed)
        while more and view.seq < reply.seq:
            page = understand(await self._ask("chat:history", {"room": view.room, "after": view.seq}), Page)
            # What is newer follows as events. Were it taken from here, and the connection cut before those events are
            # handed on, the changes among them to older messages would be asked for no more.
            missed = [message for message in page.messages if seq_of(message) <= reply.seq]
            await self._hand_on_missed(view, missed)
            more = page.more
        told = {"room": view.room, "members": reply.members, "changed": list(view.changed.values())}
        await self._events.put(Event("client:resumed", told))
        view.changed.clear()
        return await self._hand_on_held(view)

    async def _hand_on_missed(self, view: RoomView, messages: list[Any]) -> None:
        """History is the truth: what it leaves out between two messages is not there."""
        for message in messages:
            event = Event("chat:message", message)
            if view.judge(event) is not Verdict.DUPLICATE:
                await self._events.put(event)
                view.advance(event)

    async def _hand_on_held(self, view: RoomView) -> bool:
        """Whether nothing is held any more, and the room is live from this very moment."""
        while view.held and not view.overflowed:
            event = view.held.popleft()
            verdict = view.judge(event)
            if verdict is Verdict.GAP:
                view.held.appendleft(event)
                return False
            if verdict is Verdict.DUPLICATE:
                self.duplicates += 1
            else:
                await self._events.put(event)
                self._handed_on(view, event)
        view.catching_up = view.overflowed
        return not view.catching_up

    def _handed_on(self, view: RoomView, event: Event) -> None:
        view.advance(event)
        if event.name == "room:closed" or (event.name == "room:left" and event.data.get("user") == self._user):
            self._forget(view)

    def _forget(self, view: RoomView) -> bool:
        """Whether it was known until now."""
        if self._views.get(view.room) is not view:
            return False
        del self._views[view.room]
        return True
