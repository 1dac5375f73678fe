"""A user's device: it joins rooms and talks, loses its connection, comes back elsewhere, resumes, and checks what it is
told while it is told it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from catfish.wire.native import Event, Refusal, Reply
from tests.simulation.clock import Bell
from tests.simulation.network import Link

if TYPE_CHECKING:
    from tests.simulation.network import Node
    from tests.simulation.world import World

REPLY_S = 20.0
"""After which a client gives its connection up."""
RETRIED = frozenset(("busy", "unavailable", "draining"))


class Lost(Exception):
    """The connection is gone."""


class View:
    """What a device knows of a room."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.inside = False
        """On the present connection."""
        self.seq: int | None = None
        """The last message; None before the first join."""
        self.messages: dict[int, dict[str, Any]] = {}
        self.members: dict[str, float] = {}
        """And since when it knows of each."""
        self.held: list[tuple[str, Any]] | None = None
        """Messages and edits that came while missed messages are being read."""
        self.missed_to = 0
        """The last message to be read; those behind it are told."""
        self.pending: dict[str, str] = {}
        """What was sent and not acknowledged: contents by client id."""


class Device:
    def __init__(self, world: World, user: str, label: str, rooms: list[str]) -> None:
        self.world = world
        self.user = user
        self.label = label
        self.rng = world.rng
        self.wanted = rooms
        self.views: dict[str, View] = {}
        self.link: Link | None = None
        self.staying = True
        """Comes back when it loses the connection."""
        self.nodes: dict[Node, float] = {}
        """Instances that it was connected to, and until when; inf: still."""
        self.settled = False
        """Connected, in its rooms, and everything it sent is acknowledged."""
        self._lost = True
        self._bell = Bell(world.clock)
        """Rings when a reply comes, and when the connection is lost."""
        self._replies: dict[int, tuple[str, list[Any]]] = {}
        self._sends: dict[int, tuple[View, str]] = {}
        self._last_id = 0
        self._sent = 0

    def fail(self, what: str) -> None:
        self.world.fail(f"{self.label}: {what}")

    def say(self, what: str) -> None:
        self.world.say(f"{self.label} {what}")

    # Its life

    async def run(self) -> None:
        while self.staying:
            try:
                await self._connect()
                while True:
                    await self.act()
            except Lost:
                self._disconnected()
            if not self.world.calm:
                await self.world.clock.sleep(self.rng.choice((0.0, 0.1, 1.0, 5.0, 9.0, 12.0, 30.0)) * self.rng.random())
            else:
                await self.world.clock.sleep(self.rng.random())
        self.say("is gone for good")

    def cut(self, unnoticed_s: float) -> None:
        """Lose the connection."""
        if self.link is not None:
            self.say(f"loses its connection, unnoticed for {unnoticed_s} s")
            self.link.cut(unnoticed_s)
            self._lose()

    async def _connect(self) -> None:
        node = self.world.pick()
        if node is None:
            raise Lost
        self._lost = False
        self.link = Link(node, self._receive, self._lose, self._missed)
        self.nodes[node] = float("inf")
        self.say(f"connects to {node.name}")
        await self.ask("hello", {"user": self.user})
        await self.come_back()

    async def come_back(self) -> None:
        """Enter the rooms (again), and send again what was not acknowledged."""
        for room in list(self.wanted):
            await self._join(room)
            self._send_again(room)

    def _send_again(self, room: str) -> None:
        view = self.views.get(room)
        if view is None:
            return  # it was closed
        for client_id, content in view.pending.items():
            self._transmit(view, client_id, content)

    def enter(self, room: str) -> None:
        """It is told that it is in a room."""
        if self.link is not None and not self.link.missed:
            self.world.presences.entered(self, room)

    def _missed(self) -> None:
        """The server may miss this device from now on."""
        assert self.link is not None
        self.nodes[self.link.node] = trio.current_time()
        for view in self.views.values():
            self.world.presences.lost(self, view.room)

    def _disconnected(self) -> None:
        if self.link is not None and not self._lost:
            self.link.cut(self.rng.choice((0.0, 5.0)))
        self.link = None
        self.settled = False
        self._replies.clear()
        self._sends.clear()
        for view in self.views.values():
            view.inside = False
            view.held = None

    async def act(self) -> None:
        """One thing that people do."""
        if self.world.calm:
            self.settled = not any(view.pending for view in self.views.values())
            await self._pause(2.0)
            return
        await self._pause(self.rng.choice((0.0, 0.05, 0.5, 3.0)))
        view = self.views[self.rng.choice(self.wanted)] if self.wanted else None
        chance = self.rng.random()
        if view is None or (chance < 0.04 and view.room not in self.wanted):
            return
        if chance < 0.05:
            await self._leave_for_a_while(view.room)
        elif chance < 0.12 and view.messages:
            await self._change(view)
        else:
            for _ in range(self.rng.choice((1, 1, 1, 4))):
                self._send(view)

    async def _leave_for_a_while(self, room: str) -> None:
        self.wanted.remove(room)
        try:
            await self._leave(room)
            await self._pause(self.rng.choice((0.0, 1.0, 15.0)))
        finally:
            self.wanted.append(room)
        await self._join(room)
        self._send_again(room)

    async def _pause(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while not self._lost and trio.current_time() < until:
            await self._bell.wait(until - trio.current_time())
        if self._lost:
            raise Lost

    def _lose(self) -> None:
        self._lost = True
        self._bell.ring()

    # Requests

    async def ask(self, event: str, data: Any) -> Any:
        """The reply, or the `Refusal`; again and again while the server has no time. Raises Lost."""
        while True:
            answer = await self._ask_once(event, data)
            if not (isinstance(answer, Refusal) and answer.code in RETRIED):
                return answer
            await self._pause((answer.retry_after_ms or 1000) / 1000)

    async def _ask_once(self, event: str, data: Any) -> Any:
        assert self.link is not None
        self._last_id += 1
        id, answers = self._last_id, list[Any]()
        self._replies[id] = event, answers
        self.link.ask(event, data, id)
        until = trio.current_time() + REPLY_S
        while not (answers or self._lost) and trio.current_time() < until:
            await self._bell.wait(until - trio.current_time())
        if self._lost or not answers:
            raise Lost
        return answers[0]

    async def _join(self, room: str) -> None:
        view = self.views.setdefault(room, View(room))
        data: dict[str, Any] = {"room": room}
        if view.seq is not None:
            data["since"] = view.seq
            if self.world.page is not None:
                data["limit"] = self.world.page
        answer = await self.ask("room:join", data)
        if isinstance(answer, Refusal):
            self.refused(room, answer)
            return
        while view.held is not None:
            page = await self.ask("chat:history", {"room": room, "after": view.seq, "limit": self.world.page})
            if not view.inside:
                return  # it was closed meanwhile
            if isinstance(page, Refusal):
                self.fail(f"history of {room} refused: {page}")
                raise Lost
            # What is behind `missed_to` is told. Whoever took it from here would come back, if it were cut now, as one
            # who knows of every change up to it.
            missed = [message for message in page["messages"] if (view.seq or 0) < message["seq"] <= view.missed_to]
            if not missed:
                self.fail(f"{room} has no messages behind {view.seq}, of {view.missed_to}")
            for message in missed:
                self._take(view, message)
            self._release(view)

    def _release(self, view: View) -> None:
        """Hear what was held, once all that was missed has been read."""
        if view.held is not None and view.seq == view.missed_to:
            held, view.held = view.held, None
            for name, data in held:
                self._hear(name, data)

    def refused(self, room: str, refusal: Refusal) -> None:
        if self._is_over(room, refusal):
            self._forget(room)
            return
        self.fail(f"joining {room} is refused: {refusal}")

    async def _leave(self, room: str) -> None:
        self.world.presences.leaves(self, room)
        answer = await self.ask("room:leave", {"room": room})
        if isinstance(answer, Refusal) and not self._is_over(room, answer):
            self.fail(f"leaving {room} is refused: {answer}")

    def _send(self, view: View) -> None:
        self._sent += 1
        client_id = f"{self.label}-{self._sent}"
        view.pending[client_id] = content = f"{self._sent} of {self.label}"
        self._transmit(view, client_id, content)

    def _transmit(self, view: View, client_id: str, content: str) -> None:
        assert self.link is not None
        self._last_id += 1
        self._sends[self._last_id] = view, client_id
        self.link.ask("chat:send", {"room": view.room, "content": content, "clientId": client_id}, self._last_id)

    def _is_over(self, room: str, refusal: Refusal) -> bool:
        """Whether something was refused because the room was closed."""
        return room in self.world.closed and refusal.code in ("room_closed", "not_in_room")

    def _forget(self, room: str) -> None:
        """The room was closed."""
        view = self.views.pop(room)
        view.inside = False
        view.pending.clear()
        self.world.presences.leaves(self, room)
        if room in self.wanted:
            self.wanted.remove(room)

    async def _change(self, view: View) -> None:
        """Edit or delete a message of its own."""
        own = [seq for seq, message in view.messages.items() if message["user"] == self.user]
        if not own:
            return
        seq = self.rng.choice(own)
        if self.rng.random() < 0.2:
            answer = await self.ask("chat:delete", {"room": view.room, "seq": seq})
        else:
            self._sent += 1
            content = f"edit {self._sent} of {self.label}"
            answer = await self.ask("chat:edit", {"room": view.room, "seq": seq, "content": content})
        # It may have been deleted by another device of the user.
        if isinstance(answer, Refusal) and answer.code not in ("room_closed", "not_in_room", "no_such_message"):
            self.fail(f"a change is refused: {answer}")

    # What it is told

    def _receive(self, envelope: Event | Reply | Refusal) -> None:
        if isinstance(envelope, Event):
            self._hear(envelope.name, envelope.data)
            return
        assert envelope.id is not None
        if envelope.id in self._sends:
            self._acknowledged(envelope, *self._sends.pop(envelope.id))
            return
        event, answers = self._replies.pop(envelope.id)
        if isinstance(envelope, Refusal):
            answers.append(envelope)
        else:
            self.replied(event, envelope.data)
            answers.append(envelope.data)
        self._bell.ring()

    def _acknowledged(self, envelope: Reply | Refusal, view: View, client_id: str) -> None:
        if isinstance(envelope, Reply):
            view.pending.pop(client_id, None)
            self.world.acknowledged[view.room, self.user, client_id] = envelope.data["seq"]
        elif envelope.code in RETRIED:
            self.world.later(1.0, lambda: self._send_once_more(view, client_id))
        elif envelope.code != "not_in_room" or (view.inside and view.room in self.wanted):
            self.send_refused(view, client_id, envelope)

    def send_refused(self, view: View, client_id: str, refusal: Refusal) -> None:
        if self._is_over(view.room, refusal):
            return
        self.fail(f"sending {client_id} to {view.room} is refused: {refusal}")

    def _send_once_more(self, view: View, client_id: str) -> None:
        content = view.pending.get(client_id)
        waits = any(pending == client_id for _, pending in self._sends.values())
        if content is not None and view.inside and self.link is not None and not waits:
            self._transmit(view, client_id, content)

    def replied(self, event: str, data: Any) -> None:
        """Called in the very turn in which the reply arrives, before what follows it."""
        if event == "room:join":
            self._joined(self.views[data["room"]["id"]], data)
        elif event == "room:leave":
            for view in self.views.values():
                if view.room not in self.wanted:
                    view.inside = False
                    self.world.presences.lost(self, view.room)

    def _joined(self, view: View, data: dict[str, Any]) -> None:
        view.inside = True
        self.enter(view.room)
        view.members = {member["user"]: trio.current_time() for member in data["members"]}
        if self.user not in view.members:
            self.fail(f"joined {view.room} and is not among its members")
        if view.seq is None:
            if data["messages"]:
                view.seq = data["messages"][0]["seq"] - 1
            else:
                view.seq = data["seq"]
        if data["seq"] < view.seq:
            self.fail(f"{view.room} had {view.seq} messages and has {data['seq']} now")
        for message in data["messages"]:
            self._take(view, message)
        if view.seq < data["seq"]:
            if not data["more"]:
                self.fail(f"the join to {view.room} brings messages to {view.seq} of {data['seq']} and no more")
            view.held, view.missed_to = [], data["seq"]
        for message in data.get("changed", ()):
            if message["seq"] in view.messages:
                view.messages[message["seq"]] = message

    def _take(self, view: View, message: dict[str, Any]) -> None:
        seq = message["seq"]
        if view.seq is None:
            view.seq = seq - 1
        if seq != (view.seq or 0) + 1:
            self.fail(f"message {seq} of {view.room} comes behind {view.seq}")
        view.seq = seq
        view.messages[seq] = message

    def follow(self, room: str) -> View | None:
        """The room of an event, if the server has moved the user there."""
        return None

    def _hear(self, name: str, data: Any) -> None:
        if name == "server:draining":
            return
        view = self.views.get(data["room"]) if isinstance(data, dict) and "room" in data else None
        if name == "room:joined" and (view is None or not view.inside):
            view = self.follow(data["room"])
        if name == "room:closed" and view is not None and data["room"] in self.world.closed:
            self._forget(data["room"])
            return
        if view is None or not view.inside:
            self.fail(f"{name} comes although it is not in the room: {data}")
            return
        match name:
            case "chat:message" | "chat:edited" | "chat:deleted" if view.held is not None:
                view.held.append((name, data))
            case "chat:message":
                self._take(view, data)
            case "chat:edited" | "chat:deleted":
                if data["seq"] in view.messages:
                    view.messages[data["seq"]] = view.messages[data["seq"]] | {"content": data.get("content", "")}
                elif view.seq is not None and data["seq"] > view.seq:
                    self.fail(f"message {data['seq']} of {view.room} is changed before it came")
            case "room:joined":
                user = data["member"]["user"]
                self.say(f"hears that {user} joined {view.room}")
                if user in view.members:
                    self.fail(f"{user} joined {view.room} and was there already")
                view.members[user] = trio.current_time()
            case "room:left":
                self.say(f"hears that {data['user']} left {view.room} ({data['reason']})")
                if data["user"] not in view.members:
                    self.fail(f"{data['user']} left {view.room} and was not there")
                self.heard_left(view, data["user"], data["reason"], view.members.pop(data["user"], 0.0))
            case "room:ready":
                if len(view.members) != 2:
                    self.fail(f"{view.room} is ready with {view.members}")
            case _:
                self.fail(f"unexpected event {name}: {data}")

    def heard_left(self, view: View, user: str, reason: str, known_since: float) -> None:
        if reason == "gone":
            self.world.heard_gone(self, view.room, user, known_since)
