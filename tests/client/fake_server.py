"""A small server that speaks the native protocol in memory, and makes on demand every mistake a network can make.

It keeps rooms in dictionaries, and writes replies and events in the shapes of `docs/protocol.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
import trio.testing
import trio_websocket
from trio_websocket import ConnectionClosed

from catfish.errors import Rejected
from catfish.wire.native import TEXT, Codec, by_subprotocol

NO_REPLY = object()
Handler = Callable[["FakeSession", Any], Any]


class FakeRoom:
    def __init__(self, id: str, created_at: int = 1_000, kind: str = "open", code: str | None = None) -> None:
        self.id = id
        self.created_at = created_at
        self.kind = kind
        self.code = code
        self.messages: list[dict[str, Any]] = []
        self.client_ids: dict[str, dict[str, Any]] = {}
        self.changed: list[dict[str, Any]] = []
        self.members: dict[str, dict[str, Any]] = {}

    def view(self) -> dict[str, Any]:
        room = {
            "id": self.id,
            "kind": self.kind,
            "membersCount": len(self.members),
            "seq": len(self.messages),
            "createdAt": self.created_at,
        }
        return {**room, "code": self.code} if self.code is not None else room


class FakeSession:
    """One connection."""

    def __init__(self, server: FakeServer, number: int, stream: trio.abc.Stream) -> None:
        self.server = server
        self.number = number
        self.stream = stream
        self.user = f"guest-{number}"
        self.name = "guest"
        self.rooms: set[str] = set()
        self.heard: list[tuple[str, Any]] = []
        self.closed: tuple[int, str | None] | None = None
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._said_goodbye: trio.Event | None = None
        self._codec: Codec | None = None
        self._out, self._outbox = trio.open_memory_channel[bytes](10_000)

    async def serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, nursery)
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.server.sessions.discard(self)
            await trio.aclose_forcefully(self.stream)

    async def _talk(self, nursery: trio.Nursery) -> None:
        request = await trio_websocket.wrap_server_stream(nursery, self.stream)
        if self.server.http_refusal is not None:
            status, body, headers = self.server.http_refusal
            await request.reject(status, body=body, extra_headers=headers)
            nursery.cancel_scope.cancel()
            return
        subprotocol = request.proposed_subprotocols[0] if self.server.speaks_subprotocols else None
        websocket = self._websocket = await request.accept(subprotocol=subprotocol)
        codec = self._codec = by_subprotocol(subprotocol)
        nursery.start_soon(self._write, websocket, codec)
        self.server.sessions.add(self)
        with suppress(ConnectionClosed):
            while True:
                asked = codec.decode_request(await websocket.get_message())
                data = codec.decoder(object)(asked.data)
                self.heard.append((asked.event, data))
                self._answer(codec, asked.event, data, asked.id)
        if self._said_goodbye is not None:
            await self._said_goodbye.wait()
        elif websocket.closed is not None:
            self.closed = (websocket.closed.code, websocket.closed.reason)
        nursery.cancel_scope.cancel()

    def _answer(self, codec: Codec, event: str, data: Any, id: int | None) -> None:
        try:
            handler = self.server.handlers.get(event) or getattr(self.server, "on_" + event.replace(":", "_"))
            reply = handler(self, data)
        except Rejected as refused:
            self.put(codec.encode_refusal(id, refused, event))
            return
        if id is not None and reply is not NO_REPLY:
            self.put(codec.encode_reply(id, reply))

    async def _write(self, websocket: trio_websocket.WebSocketConnection, codec: Codec) -> None:
        async for payload in self._outbox:
            await websocket.send_message(payload.decode() if codec.opcode == TEXT else payload)

    def put(self, payload: bytes) -> None:
        self._out.send_nowait(payload)

    def tell(self, event: str, data: Any) -> None:
        if self._codec is not None:
            self.put(self._codec.encode_event(event, data))

    async def close(self, code: int, reason: str = "") -> None:
        assert self._websocket is not None
        await trio.testing.wait_all_tasks_blocked()
        self._said_goodbye = trio.Event()
        await self._websocket.aclose(code, reason)
        self._said_goodbye.set()
        await trio.testing.wait_all_tasks_blocked()

    async def cut(self) -> None:
        """The network fails: no close frame."""
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(self.stream)
        await trio.testing.wait_all_tasks_blocked()


class FakeServer:
    """`dial` connects to it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.down = False
        self.mute_handshake = False
        self.http_refusal: tuple[int, bytes, list[tuple[bytes, bytes]]] | None = None
        self.raw_answer: bytes | None = None
        self.speaks_subprotocols = True
        self.handlers: dict[str, Handler] = {}
        """Handlers that replace the `on_…` methods."""
        self.page = 3
        self.streams: list[trio.StapledStream[Any, Any]] = []
        """The client's ends."""
        self.dialled: list[float] = []
        """When, in seconds of the virtual clock."""
        self.sessions: set[FakeSession] = set()
        self.all_sessions: list[FakeSession] = []
        self.rooms: dict[str, FakeRoom] = {}
        self.counts: defaultdict[str, int] = defaultdict(int)

    async def dial(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append(trio.current_time())
        if self.down:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(theirs)
        if self.mute_handshake:
            return theirs
        if self.raw_answer is not None:
            await ours.send_all(self.raw_answer)
            await ours.send_eof()
            return theirs
        self.nursery.start_soon(self.serve, ours)
        return theirs

    async def serve(self, stream: trio.abc.Stream) -> None:
        session = FakeSession(self, len(self.all_sessions) + 1, stream)
        self.all_sessions.append(session)
        await session.serve()

    @property
    def session(self) -> FakeSession:
        """The newest one."""
        return self.all_sessions[-1]

    def room(self, id: str = "lobby") -> FakeRoom:
        return self.rooms.setdefault(id, FakeRoom(id))

    def tell(self, room: str, event: str, data: dict[str, Any]) -> None:
        for session in self.sessions:
            if room in session.rooms:
                session.tell(event, {"room": room, **data})

    def say(self, content: str, *, room: str = "lobby", user: str = "u-ada", told: bool = True, **more: Any) -> int:
        """Store a message, and tell everyone unless the telling is lost. Returns its number."""
        there = self.room(room)
        seq = len(there.messages) + 1
        message = {"room": room, "seq": seq, "id": seq + 100, "user": user, "name": user[2:], "content": content}
        message |= {"createdAt": 1_700_000_000_000 + seq, **more}
        there.messages.append(message)
        if told:
            self.tell(room, "chat:message", message)
        return seq

    # What it answers

    def on_hello(self, session: FakeSession, data: Any) -> Any:
        session.user, session.name = data.get("user", session.user), data.get("name", "guest")
        who = {"session": f"s-{session.number}", "user": session.user, "name": session.name}
        return {**who, "heartbeatMs": 25_000, "limits": {}, "version": "0"}

    def on_ping(self, session: FakeSession, data: Any) -> Any:
        return data

    def on_room_create(self, session: FakeSession, data: Any) -> Any:
        return {"room": self.room("created").view()}

    def on_room_join(self, session: FakeSession, data: Any) -> Any:
        if "code" in data:
            found = [room for room in self.rooms.values() if room.code == data["code"]]
            if not found:
                raise Rejected("no_such_code", "There is no room with that code.")
            room = found[0]
        else:
            room = self.room(data["room"])
            if room.kind == "private":
                raise Rejected("forbidden", "This room is entered by its code.")
        session.rooms.add(room.id)
        room.members[session.user] = {
            "user": session.user,
            "name": session.name,
            "since": 1,
            "media": {},
            "away": False,
        }
        reply = {"room": room.view(), "members": list(room.members.values()), "seq": len(room.messages)}
        since = data.get("since")
        if since is None:
            return {**reply, "messages": room.messages[-self.page :]}
        missed = room.messages[since : since + self.page]
        reply |= {"messages": missed, "changed": [message for message in room.changed if message["seq"] <= since]}
        return {**reply, "more": True} if since + self.page < len(room.messages) else reply

    def on_room_match(self, session: FakeSession, data: Any) -> Any:
        room = self.rooms.setdefault("m-1", FakeRoom("m-1", kind="matched"))
        session.rooms.add("m-1")
        return {"room": room.view(), "matched": False}

    def on_room_next(self, session: FakeSession, data: Any) -> Any:
        room = self.rooms.setdefault("m-2", FakeRoom("m-2", kind="matched"))
        session.rooms.add("m-2")
        return {"room": room.view(), "matched": True, "peer": {"user": "u-eve", "name": "eve"}}

    def on_room_leave(self, session: FakeSession, data: Any) -> Any:
        if data["room"] not in session.rooms:
            raise Rejected("not_in_room", "Only members of the room may do that.")
        session.rooms.discard(data["room"])
        return {}

    def on_room_members(self, session: FakeSession, data: Any) -> Any:
        return {"members": list(self.room(data["room"]).members.values())}

    def on_room_emit(self, session: FakeSession, data: Any) -> Any:
        return {}

    def on_chat_send(self, session: FakeSession, data: Any) -> Any:
        if data["room"] not in session.rooms:
            raise Rejected("not_in_room", "Only members of the room may do that.")
        room = self.room(data["room"])
        stored = room.client_ids.get(data["clientId"])
        if stored is None:
            seq = self.say(data["content"], room=room.id, user=session.user, clientId=data["clientId"])
            stored = room.client_ids[data["clientId"]] = room.messages[seq - 1]
        return {key: stored[key] for key in ("seq", "id", "createdAt")}

    def on_chat_history(self, session: FakeSession, data: Any) -> Any:
        messages = self.room(data["room"]).messages
        if "after" in data:
            after = data["after"]
            return {"messages": messages[after : after + self.page], "more": after + self.page < len(messages)}
        end = data.get("before", len(messages) + 1) - 1
        return {"messages": messages[max(0, end - self.page) : end], "more": end > self.page}

    def on_chat_typing(self, session: FakeSession, data: Any) -> Any:
        return {}

    def on_chat_edit(self, session: FakeSession, data: Any) -> Any:
        self.room(data["room"]).messages[data["seq"] - 1] |= {"content": data["content"], "editedAt": 1}
        return {}

    on_chat_delete = on_chat_react = on_chat_read = on_media_toggle = on_signal = on_room_emit
