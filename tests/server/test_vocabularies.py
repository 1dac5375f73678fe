"""Socket.IO sockets in rooms: whose vocabulary they speak, who comes in, and that a broadcast is packed once."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.contracts.placement import Placement
from catfish.rooms.ports import SessionStore
from catfish.server.engineio import EngineServer
from catfish.server.recovery import SessionRecovery
from catfish.server.socketio import SocketIOServer
from catfish.server.vocabularies import RoomsNamespace
from catfish.wire.http import parse_request_head
from tests.server.harness import FakeConnection, Server, payload_of, start_server

SECRET = "a secret of more than thirty-two bytes, for HS256"


class SocketIOConnection(FakeConnection):
    """What Engine.IO sees of a WebSocket."""

    def __init__(self, authorization: str | None, query: str = "") -> None:
        super().__init__(None)
        field = "" if authorization is None else f"Authorization: {authorization}\r\n"
        request = f"GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: x\r\n{field}\r\n"
        self.head = parse_request_head(request.encode())
        self.peer = "127.0.0.1:1"
        self.nursery = None


class Socket:
    """One client, on one WebSocket."""

    def __init__(self, world: World, auth: dict[str, Any] | None, authorization: str | None, query: str = "") -> None:
        self.connection = SocketIOConnection(authorization, query)
        self.receiver = world.engine.open(self.connection)  # type: ignore[arg-type]
        world.server.nursery.start_soon(self.receiver.run)
        self.connection.frames.clear()  # the handshake
        self.send("40" + ("" if auth is None else msgspec.json.encode(auth).decode()))

    def send(self, packet: str) -> None:
        self.receiver.receive(packet)

    def emit(self, event: str, *args: Any, id: int | None = None) -> None:
        number = "" if id is None else str(id)
        self.send(f"42{number}{msgspec.json.encode([event, *args]).decode()}")

    async def packets(self) -> list[str]:
        """What came since the last call."""
        await wait_all_tasks_blocked()
        frames, self.connection.frames[:] = list(self.connection.frames), []
        return [payload_of(frame).decode() for frame in frames]

    async def heard(self) -> list[list[Any]]:
        """The events among them: name and arguments."""
        return [msgspec.json.decode(packet[2:]) for packet in await self.packets() if packet.startswith("42[")]


class World:
    def __init__(self, server: Server, sessions: SessionStore | None = None) -> None:
        settings = server.instance.settings
        self.server = server
        placement = Placement(settings.contracts, settings.socketio_namespaces)
        self.recovery: Any = None
        if sessions is not None:
            self.recovery = SessionRecovery(server.instance, sessions, placement.vocabularies)
        self.namespaces = [
            RoomsNamespace(server.instance, name, vocabularies, self.recovery)
            for name, vocabularies in placement.on("/socket.io").items()
        ]
        self.engine = EngineServer(settings, server.timers, SocketIOServer(settings, self.namespaces))

    async def connect(self, auth: dict[str, Any] | None = None, authorization: str | None = None) -> Socket:
        socket = Socket(self, auth, authorization)
        await wait_all_tasks_blocked()
        return socket


async def open_world(nursery: trio.Nursery, **settings: Any) -> World:
    return World(await start_server(nursery, **settings))


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return await open_world(nursery)


async def test_the_first_event_chooses_the_vocabulary_and_later_ones_of_others_are_ignored(world: World) -> None:
    ann = await world.connect()
    ann.emit("joinRoom", {"roomId": "red"}, id=1)
    ann.emit("join_room", {"userId": "ann", "username": "Ann", "roomId": "red"})
    ann.emit("no-such-event")
    [connected, answer] = await ann.packets()
    assert connected.startswith('40{"sid":')
    assert answer.startswith('431[{"ok":true')
    assert dict(world.namespaces[0].ignored) == {"yum": 2}


async def test_a_ping_is_answered_and_chooses_nothing(world: World) -> None:
    ann = await world.connect()
    ann.emit("ping", {"a": 1}, 2, id=7)
    ann.emit("ping", id=8)
    ann.emit("ping")
    ann.emit("join_room", {"userId": "ann", "username": "Ann", "roomId": "red"})
    packets = await ann.packets()
    assert packets[1:3] == ['437[{"a":1}]', "438[]"]
    assert packets[3].startswith('42["system_message",{"eventType":"connect"')
    assert dict(world.namespaces[0].ignored) == {"": 1}


async def test_members_of_one_room_hear_each_other_each_in_its_own_vocabulary(world: World) -> None:
    yum, peer = await world.connect(), await world.connect()
    native = world.server.connect()
    await native.ask("hello", {"user": "nat", "name": "Nat"})
    yum.emit("joinRoom", {"roomId": "red", "userId": "yan"}, id=1)
    await yum.packets()
    peer.emit("join_room", {"userId": "pia", "username": "Pia", "roomId": "red"})
    assert (await yum.heard())[0] == ["userJoined", {"roomId": "red", "userId": "pia"}]
    await native.ask("room:join", {"room": "red"})
    await peer.heard()
    sent = await native.ask("chat:send", {"room": "red", "content": "hello"})
    [_, [name, message]] = await yum.heard()
    assert (name, message["content"], message["userId"], message["seq"]) == (
        "receiveMessage",
        "hello",
        "nat",
        sent["seq"],
    )
    [[name, message]] = [event for event in await peer.heard() if event[0] == "receive_message"]
    assert (message["content"], message["userId"], message["username"]) == ("hello", "nat", "Nat")


async def test_a_broadcast_is_rendered_and_packed_once_and_the_frame_is_shared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = [await world.connect() for _ in range(10)]
    for index, socket in enumerate(sockets):
        socket.emit("join_room", {"userId": f"u{index}", "username": f"U{index}", "roomId": "red"})
        await socket.packets()
    for socket in sockets:
        socket.connection.frames.clear()
    [vocabulary] = [each for each in world.namespaces[0].vocabularies if each.name == "peerprep"]
    rendered = []
    render = vocabulary.render

    def counting_render(event: Any, room: Any) -> Any:
        rendered.append(event)
        return render(event, room)

    monkeypatch.setattr(type(vocabulary), "render", staticmethod(counting_render))
    sockets[0].emit("send_message", {"message": {"text": "hi"}})
    frames = [socket.connection.frames[-1] for socket in sockets[1:]]
    assert len(rendered) == 1
    assert all(frame is frames[0] for frame in frames)
    assert sockets[0].connection.frames == []


async def test_what_is_emitted_right_before_the_end_counts(world: World, autojump_clock: MockClock) -> None:
    yum, ann = await world.connect(), await world.connect()
    yum.emit("joinRoom", {"roomId": "red"}, id=1)
    await yum.packets()
    ann.emit("joinRoom", {"roomId": "red"})
    ann.emit("sendMessage", {"roomId": "red", "content": "bye"})
    ann.send("41")
    assert [event[0] for event in await yum.heard()] == ["userJoined", "receiveMessage"]
    await trio.sleep(11)
    assert [event[0] for event in await yum.heard()] == ["userLeft"]


async def test_a_token_is_needed_where_the_settings_say_so_and_names_the_user(nursery: trio.Nursery) -> None:
    world = await open_world(nursery, auth="required", jwt_secret=SECRET)
    good = jwt.encode({"sub": "ann", "name": "Ann"}, SECRET)
    for auth, authorization in ((None, None), ({"token": "x.y.z"}, None), (None, "Bearer nonsense")):
        refused = await world.connect(auth, authorization)
        [packet] = await refused.packets()
        assert packet.startswith('44{"message":"unauthorized"')
    for auth, authorization in (({"token": good}, None), ({"token": f"Bearer {good}"}, None), (None, f"Bearer {good}")):
        socket = await world.connect(auth, authorization)
        socket.emit("joinRoom", {"roomId": "red", "userId": "somebody else"}, id=1)
        [_, answer] = await socket.packets()
        assert msgspec.json.decode(answer[3:])[0]["users"] == [{"userId": "ann", "name": "Ann"}]


async def test_a_wrong_token_is_refused_also_where_none_is_needed_if_it_can_be_checked(nursery: trio.Nursery) -> None:
    unchecked = await open_world(nursery)
    [packet] = await (await unchecked.connect({"token": "x.y.z"})).packets()
    assert packet.startswith('40{"sid":')
    checked = await open_world(nursery, jwt_secret=SECRET)
    [packet] = await (await checked.connect({"token": "x.y.z"})).packets()
    assert packet.startswith('44{"message":"unauthorized"')


async def test_a_refusal_goes_to_the_one_who_asked_and_closes_nothing(world: World) -> None:
    ann = await world.connect()
    ann.emit("joinRoom", {"roomId": ""}, id=1)
    ann.emit("sendMessage", {"roomId": "red", "content": "x"})
    ann.emit("joinRoom", {"roomId": "red"}, id=2)
    packets = (await ann.packets())[1:]
    assert msgspec.json.decode(packets[0][3:])[0]["ok"] is False
    assert msgspec.json.decode(packets[1][2:])[0] == "error"
    assert msgspec.json.decode(packets[2][3:])[0]["ok"] is True
    assert ann.connection.close_called is None
