"""What sockets and namespaces promise to the application."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.server.socketio import ConnectRefused, Disconnected, Namespace, Restored, Socket
from tests.server.engineio.world import WebSocket, World
from tests.server.socketio.world import enter, open_socketio, suite_namespace


async def enter_one(world: World, namespace: Namespace) -> tuple[WebSocket, Socket]:
    websocket = await enter(world, namespace.name)
    return websocket, list(namespace.sockets.values())[-1]


# Coming in


@pytest.mark.parametrize("waits", [False, True])
async def test_a_guard_lets_in_or_refuses_with_a_reason(waits: bool) -> None:
    namespace = suite_namespace()

    def decide(socket: Socket) -> None:
        if socket.auth.get("token") != "good":
            raise ConnectRefused("not authorized", {"retry": False} if "token" in socket.auth else None)

    async def decide_later(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        decide(socket)

    namespace.guard(decide_later if waits else decide)
    async with open_socketio(namespace) as world:
        websocket = await world.open_websocket()
        await websocket.send("40", '40{"token":"bad"}', '40{"token":"good"}', '42["message",1]')
        assert await websocket.receive() == '44{"message":"not authorized"}'
        assert await websocket.receive() == '44{"message":"not authorized","data":{"retry":false}}'
        assert str(await websocket.receive()).startswith("40{")
        assert await websocket.receive() == '42["auth",{"token":"good"}]'
        assert await websocket.receive() == '42["message-back",1]'
        assert len(namespace.sockets) == 1


async def test_a_client_that_goes_while_it_is_being_decided_on_never_was_there() -> None:
    namespace = suite_namespace()
    decided = trio.Event()
    called: list[str] = []

    @namespace.guard
    async def decide(socket: Socket) -> None:
        await decided.wait()

    namespace.on_connect(lambda socket: called.append("connect"))
    namespace.on_disconnect(lambda socket, reason: called.append("disconnect"))
    async with open_socketio(namespace) as world:
        websocket = await world.open_websocket()
        await websocket.send("40")
        await wait_all_tasks_blocked()
        await websocket.cut()
        await wait_all_tasks_blocked()
        decided.set()
        await wait_all_tasks_blocked()
        assert not called
        assert not namespace.sockets


# Events


async def test_arguments_are_as_many_as_the_handler_takes() -> None:
    namespace = Namespace()
    calls: list[tuple[Any, ...]] = []

    @namespace.on("two")
    def two(socket: Socket, a: Any, b: Any) -> None:
        calls.append((a, b))

    @namespace.on("all")
    def take_all(socket: Socket, *args: Any) -> None:
        calls.append(args)

    async with open_socketio(namespace) as world:
        websocket = await enter(world)
        await websocket.send(
            '42["two"]', '42["two",1]', '42["two",1,2,3]', '42["all"]', '42["all",1,2,3]', '42["none"]'
        )
        await wait_all_tasks_blocked()
        assert calls == [(None, None), (1, None), (1, 2), (), (1, 2, 3)]
        assert namespace.unknown == 1


async def test_what_a_handler_returns_is_the_acknowledgement() -> None:
    namespace = Namespace()
    namespace.on("none")(lambda socket: None)
    namespace.on("one")(lambda socket: {"a": 1})
    namespace.on("list")(lambda socket: [1, 2])
    namespace.on("two")(lambda socket: (1, 2))

    @namespace.on("later")
    async def later(socket: Socket) -> str:
        await trio.lowlevel.checkpoint()
        return "x"

    async with open_socketio(namespace) as world:
        websocket = await enter(world)
        for number, name in enumerate(("none", "one", "list", "two", "later")):
            await websocket.send(f'42{number}["{name}"]', f'42["{name}"]')
        answers = [await websocket.receive() for _ in range(5)]
        assert answers == ["430[]", '431[{"a":1}]', "432[[1,2]]", "433[1,2]", '434["x"]']


async def test_everything_behind_a_handler_that_waits_waits_for_it_in_order() -> None:
    namespace = suite_namespace()
    doors = [trio.Event(), trio.Event()]

    @namespace.on("wait")
    async def wait(socket: Socket, number: int) -> None:
        await doors[number].wait()
        socket.emit("waited", number)

    async with open_socketio(namespace, requests_waiting_max=4) as world:
        websocket = await enter(world)
        await websocket.receive()
        await websocket.send('42["wait",0]', '42["message",0]', '42["wait",1]', *['42["message",1]'] * 10)
        await wait_all_tasks_blocked()
        (session,) = world.engine.sessions.values()
        assert session.connection is not None
        assert not session.connection._wants_reading
        doors[0].set()
        assert [await websocket.receive() for _ in range(2)] == ['42["waited",0]', '42["message-back",0]']
        doors[1].set()
        assert [await websocket.receive() for _ in range(11)] == ['42["waited",1]', *['42["message-back",1]'] * 10]
        await wait_all_tasks_blocked()
        assert session.connection._wants_reading


async def test_a_wrong_packet_closes_the_connection_at_once_and_what_came_before_it_counts() -> None:
    namespace = Namespace()
    door = trio.Event()
    order: list[str] = []

    @namespace.on("wait")
    async def wait(socket: Socket) -> None:
        await door.wait()
        order.append("waited")

    namespace.on("message")(lambda socket: order.append("message"))
    namespace.on_disconnect(lambda socket, reason: order.append(reason))
    async with open_socketio(namespace) as world:
        websocket = await enter(world)
        await websocket.send('42["wait"]', '42["message"]', "4abc", '42["message"]')
        assert await websocket.receive() is None
        assert not order
        door.set()
        await wait_all_tasks_blocked()
        assert order == ["waited", "message", "parse error"]


async def test_a_handler_may_ask_the_client_and_wait_for_its_answer() -> None:
    namespace = Namespace()

    @namespace.on("message")
    async def message(socket: Socket, text: str) -> Any:
        return await socket.call("sure?", text)

    async with open_socketio(namespace) as world:
        websocket = await enter(world)
        await websocket.send('427["message","a"]', '428["message","b"]')
        assert await websocket.receive() == '420["sure?","a"]'
        await websocket.send("430[true]")
        assert await websocket.receive() == "437[[true]]"
        assert await websocket.receive() == '421["sure?","b"]'


@pytest.mark.parametrize("waits", [False, True])
async def test_a_fault_in_a_handler_is_logged_and_ends_that_connection_only(
    waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = suite_namespace()

    @namespace.on("fail")
    def fail(socket: Socket) -> None:
        raise LookupError("no such thing")

    @namespace.on("fail later")
    async def fail_later(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("no such thing")

    async with open_socketio(namespace) as world:
        bystander = await enter(world)
        await bystander.receive()
        websocket = await enter(world)
        await websocket.receive()
        await websocket.send('42["fail later"]' if waits else '42["fail"]')
        assert await websocket.receive() is None
        assert websocket.close_code == 1011
        assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)
        await bystander.send('42["message"]')
        assert await bystander.receive() == '42["message-back"]'


async def test_names_that_events_cannot_have_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="disconnect"):
        Namespace().on("disconnect")


async def test_a_broadcast_is_encoded_once_and_reaches_polling_and_websockets() -> None:
    namespace = Namespace("/n")
    async with open_socketio(namespace) as world:
        sid = await world.open_polling()
        await world.post("40/n", sid=sid)
        await world.get(sid=sid)
        websocket, socket = await enter_one(world, namespace)
        namespace.emit("news", {"a": b"x"})
        assert [await websocket.receive(), await websocket.receive()] == [
            '451-/n,["news",{"a":{"_placeholder":true,"num":0}}]',
            b"x",
        ]
        assert (await world.get(sid=sid)).text == '451-/n,["news",{"a":{"_placeholder":true,"num":0}}]\x1ebeA=='
        namespace.emit("some", 1, to=[socket])
        assert await websocket.receive() == '42/n,["some",1]'
        packets = socket.client.codec.event("x", [1], "/n", offset="7:1")
        for each in namespace.sockets.values():
            each.send(packets)
        assert packets.frames(False) is packets.frames(False)
        assert (await world.get(sid=sid)).text == '42/n,["x",1,"7:1"]'


# Leaving


async def test_a_socket_that_the_server_disconnects_hears_of_it_and_what_is_on_its_way_is_no_fault() -> None:
    reasons: list[str] = []
    namespace = suite_namespace()
    namespace.on_disconnect(lambda socket, reason: reasons.append(reason))

    @namespace.on("leave")
    def leave(socket: Socket) -> None:
        socket.disconnect()
        socket.disconnect()
        socket.emit("not heard")

    other = suite_namespace("/other")
    async with open_socketio(namespace, other) as world:
        websocket = await enter(world)
        await websocket.receive()
        await websocket.send("40/other")
        assert len([await websocket.receive() for _ in range(2)]) == 2
        await websocket.send('42["leave"]', '42["message","late"]', "431[]", "41", '42/other,["message"]')
        assert await websocket.receive() == "41"
        assert await websocket.receive() == '42/other,["message-back"]'
        assert reasons == ["server namespace disconnect"]
        await websocket.send("40", '42["message"]')
        assert str(await websocket.receive()).startswith("40{")
        assert [await websocket.receive() for _ in range(2)] == ['42["auth",{}]', '42["message-back"]']


async def test_a_client_that_the_server_disconnects_hears_it_in_every_namespace() -> None:
    namespace, other = Namespace(), Namespace("/other")
    async with open_socketio(namespace, other) as world:
        websocket, socket = await enter_one(world, namespace)
        await websocket.send("40/other")
        await websocket.receive()
        socket.client.disconnect()
        assert [await websocket.receive() for _ in range(3)] == ["41", "41/other,", None]
        sid = await world.open_polling()
        await world.post("40", sid=sid)
        await world.get(sid=sid)
        (socket,) = namespace.sockets.values()
        socket.client.disconnect()
        assert (await world.get(sid=sid)).text == "41\x1e1"


async def test_every_namespace_hears_that_the_connection_has_ended_even_if_one_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    namespace, other = Namespace(), Namespace("/other")
    reasons: list[str] = []

    @namespace.on_disconnect
    def fail(socket: Socket, reason: str) -> None:
        raise LookupError

    other.on_disconnect(lambda socket, reason: reasons.append(reason))
    async with open_socketio(namespace, other) as world:
        websocket = await enter(world)
        await websocket.send("40/other")
        await websocket.receive()
        await websocket.cut()
        await wait_all_tasks_blocked()
        assert reasons == ["transport close"]
        assert not namespace.sockets
        assert not other.sockets
        assert "the end of" in caplog.text


# Questions to the client


async def test_a_client_is_asked_and_answers() -> None:
    namespace = Namespace()
    async with open_socketio(namespace) as world:
        websocket, socket = await enter_one(world, namespace)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await socket.call("question", 1, b"x"))

        world.nursery.start_soon(ask)
        assert await websocket.receive() == '451-0["question",1,{"_placeholder":true,"num":0}]'
        assert await websocket.receive() == b"x"
        await websocket.send("430[42]", "430[43]", "4399[1]", "43[1]")
        await wait_all_tasks_blocked()
        assert answers == [[42]]
        socket.ask("second", [], answers.append)
        assert await websocket.receive() == '421["second"]'
        await websocket.send('461-1[{"_placeholder":true,"num":0}]', b"y")
        await wait_all_tasks_blocked()
        assert answers == [[42], [b"y"]]


async def test_who_asks_waits_only_as_long_as_it_wants(autojump_clock: MockClock) -> None:
    namespace = Namespace()
    async with open_socketio(namespace) as world:
        websocket, socket = await enter_one(world, namespace)
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(3):
                await socket.call("question")
        assert await websocket.receive() == '420["question"]'
        answers: list[Any] = []
        socket.ask("question", [], answers.append, trio.current_time() + 5)
        assert await websocket.receive() == '421["question"]'
        await trio.sleep(4.9)
        assert answers == []
        await trio.sleep(0.2)
        assert answers == [None]
        await websocket.send("430[1]", "431[1]")
        await wait_all_tasks_blocked()
        assert answers == [None]


async def test_a_question_ends_with_the_socket_and_one_too_many_ends_the_oldest() -> None:
    namespace = Namespace()
    async with open_socketio(namespace, asked_max=2) as world:
        websocket, socket = await enter_one(world, namespace)
        answers: list[Any] = []
        for number in range(3):
            socket.ask("question", [number], lambda answer, number=number: answers.append((number, answer)))  # type: ignore[misc]
        assert answers == [(0, None)]
        await websocket.cut()
        await wait_all_tasks_blocked()
        assert answers == [(0, None), (1, None), (2, None)]
        with pytest.raises(Disconnected):
            await socket.call("question")


async def test_a_call_that_waits_is_told_that_the_client_left() -> None:
    namespace = Namespace()
    told: list[Disconnected] = []
    async with open_socketio(namespace) as world:
        websocket, socket = await enter_one(world, namespace)

        async def call() -> None:
            try:
                await socket.call("question")
            except Disconnected as error:
                told.append(error)

        world.nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await websocket.cut()
        await wait_all_tasks_blocked()
        assert len(told) == 1


# Moving, and coming back


async def test_sockets_hear_that_their_connection_has_moved() -> None:
    namespace = Namespace()
    moved: list[str] = []

    @namespace.on_connect
    def watch(socket: Socket) -> None:
        socket.moved = lambda: moved.append(socket.client.session.transport)

    async with open_socketio(namespace) as world:
        sid = await world.open_polling()
        await world.post("40", sid=sid)
        websocket = await world.websocket(sid=sid)
        await websocket.send("2probe", "5")
        assert await websocket.receive() == "3probe"
        assert str(await websocket.receive()).startswith("40{")
        assert moved == ["websocket"]


class Memory:
    """Sessions that can be recovered, and what they missed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def begin(self, socket: Socket) -> str:
        return f"pid-of-{socket.id}"

    async def restore(self, socket: Socket, pid: str, offset: str | None) -> Restored | None:
        await trio.lowlevel.checkpoint()
        self.asked.append((pid, offset))
        if pid != "known":
            return None
        missed = [socket.client.codec.event("missed", [n], socket.namespace, offset=f"1:{n}") for n in range(2)]
        return Restored("the same", pid, missed)


async def test_a_client_may_come_back_to_its_session() -> None:
    memory = Memory()
    namespace = Namespace(recovery=memory)
    recovered: list[bool] = []

    @namespace.on_connect
    def watch(socket: Socket) -> None:
        recovered.append(socket.recovered)
        socket.emit("live")

    async with open_socketio(namespace) as world:

        async def connect(auth: str) -> WebSocket:
            websocket = await world.open_websocket()
            await websocket.send(f"40{auth}")
            return websocket

        new = json.loads(str(await (await connect("")).receive())[2:])
        assert new == {"sid": new["sid"], "pid": f"pid-of-{new['sid']}"}
        unknown = json.loads(str(await (await connect('{"pid":"other","offset":"1:1"}')).receive())[2:])
        assert unknown["pid"] == f"pid-of-{unknown['sid']}"
        back = await connect('{"pid":"known","offset":7}')
        assert await back.receive() == '40{"sid":"the same","pid":"known"}'
        events = [await back.receive() for _ in range(3)]
        assert events == ['42["missed",0,"1:0"]', '42["missed",1,"1:1"]', '42["live"]']
        assert str(await (await connect('{"pid":7}')).receive()).startswith('40{"sid":"')
        assert memory.asked == [("other", "1:1"), ("known", None)]
        assert recovered == [False, False, True, False]
