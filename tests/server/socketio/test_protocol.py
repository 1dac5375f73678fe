"""The rules that the protocol's own test suite checks, and the byte-level facts of the reference server."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.server.socketio import Namespace, Socket
from tests.server.engineio.world import WebSocket, World
from tests.server.socketio.world import SUITE, enter, open_socketio, suite_namespace


async def heard(websocket: WebSocket, count: int) -> list[Any]:
    """The next messages, pings left out."""
    messages: list[Any] = []
    while len(messages) < count:
        message = await websocket.receive()
        if message != "2":
            messages.append(message)
    return messages


async def start(world: World, namespace: str = "/") -> WebSocket:
    websocket = await enter(world, namespace)
    await heard(websocket, 1)  # the auth event
    return websocket


@pytest.mark.parametrize("namespace", ["/", "/custom"])
@pytest.mark.parametrize("auth", ["", '{"token":"123"}'])
async def test_a_client_enters_a_namespace_with_a_payload_or_without(namespace: str, auth: str) -> None:
    async with open_socketio(suite_namespace(namespace)) as world:
        websocket = await enter(world, namespace, auth)
        prefix = "" if namespace == "/" else namespace + ","
        assert await websocket.receive() == f'42{prefix}["auth",{auth or "{}"}]'


async def test_a_namespace_may_be_named_without_a_comma_and_with_a_query() -> None:
    queries = []
    custom = Namespace("/custom")
    custom.on_connect(lambda socket: queries.append(socket.query))
    async with open_socketio(custom) as world:
        for text in ("40/custom", "40/custom?a=1,", "40/custom?b=2"):
            websocket = await world.open_websocket()
            await websocket.send(text)
            assert str(await websocket.receive()).startswith('40/custom,{"sid":"')
    assert queries == ["", "a=1", "b=2"]


async def test_the_ids_of_sockets_are_not_the_ids_of_sessions() -> None:
    namespace = suite_namespace()
    async with open_socketio(namespace) as world:
        await enter(world)
        (sid,) = world.engine.sessions
        assert sid not in namespace.sockets


async def test_an_unknown_namespace_is_refused_and_another_may_be_tried() -> None:
    async with open_socketio(suite_namespace()) as world:
        websocket = await world.open_websocket()
        await websocket.send("40/random", '40/x,{"token":1}', "40")
        assert await websocket.receive() == '44/random,{"message":"Invalid namespace"}'
        assert await websocket.receive() == '44/x,{"message":"Invalid namespace"}'
        assert str(await websocket.receive()).startswith('40{"sid":"')


@pytest.mark.parametrize(
    "packet",
    [
        "4abc",
        "4",
        "42",
        "42{}",
        "42[]",
        '42abc["message-with-ack"]',
        '42["disconnect"]',
        "43[]x",
        "41{}",
        '44{"message":"x"}',
        "40",
        "40[]",
        '42/elsewhere,["message"]',
        "43/elsewhere,1[]",
        '45["message"]',
        b"\1",
        '451-["message",{"_placeholder":true,"num":1}]',
        '4511-["message"]',
    ],
)
async def test_what_is_wrong_closes_the_connection_of_its_sender_alone(packet: str | bytes) -> None:
    async with open_socketio(suite_namespace()) as world:
        bystander = await start(world)
        websocket = await start(world)
        await websocket.send(packet, '42["message","not heard"]')
        assert await websocket.receive() is None
        await bystander.send('42["message","hello"]')
        assert await bystander.receive() == '42["message-back","hello"]'


async def test_a_packet_before_connect_closes_the_connection() -> None:
    async with open_socketio(suite_namespace()) as world:
        for packet in ('42["message"]', "431[]", "4abc"):
            websocket = await world.open_websocket()
            await websocket.send(packet)
            assert await websocket.receive() is None


async def test_who_enters_no_namespace_in_time_is_closed(autojump_clock: MockClock) -> None:
    async with open_socketio(suite_namespace(), connect_timeout_s=1) as world:
        websocket = await world.open_websocket()
        await websocket.send("40/random")
        await websocket.receive()
        assert await websocket.receive() is None
        assert trio.current_time() == pytest.approx(1)
        sid = await world.open_polling()
        assert (await world.get(sid=sid)).text == "1"
        assert trio.current_time() == pytest.approx(2)
        websocket = await start(world)
        await trio.sleep(2)
        await websocket.send('42["message"]')
        assert await websocket.receive() == '42["message-back"]'


async def test_leaving_the_namespace_is_answered_with_nothing_and_the_connection_goes_on(
    autojump_clock: MockClock,
) -> None:
    namespace = suite_namespace()
    reasons: list[str] = []
    namespace.on_disconnect(lambda socket, reason: reasons.append(reason))
    async with open_socketio(namespace, **SUITE) as world:
        websocket = await start(world)
        await websocket.send("41")
        assert await websocket.receive() == "2"
        await websocket.send("3", "41", "40")
        assert str((await heard(websocket, 1))[0]).startswith('40{"sid":')
        assert reasons == ["client namespace disconnect"]


async def test_one_connection_has_several_namespaces() -> None:
    async with open_socketio(suite_namespace(), suite_namespace("/custom")) as world:
        websocket = await start(world)
        await websocket.send("40/custom", '42/custom,["message",1]', '42["message",2]')
        answers = await heard(websocket, 4)
        assert answers[0].startswith('40/custom,{"sid":')
        assert answers[1:] == ['42/custom,["auth",{}]', '42/custom,["message-back",1]', '42["message-back",2]']
        await websocket.send("41/custom", '42["message","message to main namespace"]')
        assert await websocket.receive() == '42["message-back","message to main namespace"]'


async def test_events_and_acknowledgements_both_with_attachments_and_without() -> None:
    async with open_socketio(suite_namespace()) as world:
        websocket = await start(world)
        await websocket.send('42["message",1,"2",{"3":[true]}]')
        assert await websocket.receive() == '42["message-back",1,"2",{"3":[true]}]'
        await websocket.send('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert await websocket.receive() == '43456[1,"2",{"3":[false]}]'
        placeholders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
        await websocket.send(f'452-["message",{placeholders}]', b"\1\2\3", b"\4\5\6")
        assert await heard(websocket, 3) == [f'452-["message-back",{placeholders}]', b"\1\2\3", b"\4\5\6"]
        await websocket.send(f'452-789["message-with-ack",{placeholders}]', b"\1\2\3", b"\4\5\6")
        assert await heard(websocket, 3) == [f"462-789[{placeholders}]", b"\1\2\3", b"\4\5\6"]


async def test_the_same_over_polling() -> None:
    async with open_socketio(suite_namespace()) as world:
        sid = await world.open_polling()
        await world.post("40", sid=sid)
        connected, auth = (await world.get(sid=sid)).text.split("\x1e")
        assert list(json.loads(connected[2:])) == ["sid"]
        assert auth == '42["auth",{}]'
        await world.post('451-7["message-with-ack",{"_placeholder":true,"num":0}]\x1ebAQID\x1e42["message",1]', sid=sid)
        answer = (await world.get(sid=sid)).text
        assert answer == '461-7[{"_placeholder":true,"num":0}]\x1ebAQID\x1e42["message-back",1]'
        await world.post("41", sid=sid)
        assert (await world.post("4abc", sid=sid)).status == 400
        assert (await world.get(sid=sid)).status == 400


async def test_a_client_that_emits_and_leaves_in_one_breath_is_heard() -> None:
    order: list[str] = []
    namespace = Namespace()

    @namespace.on("last")
    async def last(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        order.append("last")

    @namespace.on("words")
    def words(socket: Socket) -> None:
        order.append("words")

    namespace.on_disconnect(lambda socket, reason: order.append(reason))
    async with open_socketio(namespace) as world:
        websocket = await enter(world)
        await websocket.send('42["last"]', '42["words"]', "41")
        await wait_all_tasks_blocked()
        assert order == ["last", "words", "client namespace disconnect"]
        order.clear()
        websocket = await enter(world)
        await websocket.send('42["last"]', '42["words"]')
        await websocket.close()
        await wait_all_tasks_blocked()
        assert order == ["last", "words", "transport close"]


async def test_there_may_be_only_so_many_namespaces_on_a_connection() -> None:
    namespaces = [suite_namespace(f"/{number}") for number in range(4)]
    async with open_socketio(*namespaces, namespaces_max=3) as world:
        websocket = await world.open_websocket()
        for number in range(3):
            await websocket.send(f"40/{number}")
            await heard(websocket, 2)
        await websocket.send("40/3")
        assert await websocket.receive() == '44/3,{"message":"Too many namespaces"}'
        await websocket.send("41/0", "40/3")
        assert str(await websocket.receive()).startswith("40/3,")


async def test_the_messagepack_parser_speaks_in_binary_messages() -> None:
    async with open_socketio(suite_namespace(), suite_namespace("/custom"), parser="msgpack") as world:
        websocket = await world.open_websocket()

        async def next_packet() -> Any:
            message = await websocket.receive()
            assert isinstance(message, bytes)
            return msgspec.msgpack.decode(message)

        pack = msgspec.msgpack.encode
        await websocket.send(pack({"type": 0, "nsp": "/", "data": {"token": 1}}))
        connected = await next_packet()
        assert (connected["type"], connected["nsp"], list(connected["data"])) == (0, "/", ["sid"])
        assert await next_packet() == {"type": 2, "nsp": "/", "data": ["auth", {"token": 1}]}
        await websocket.send(pack({"type": 2, "nsp": "/", "data": ["message-with-ack", b"\1", {"a": b"\2"}], "id": 5}))
        assert await next_packet() == {"type": 3, "nsp": "/", "data": [b"\1", {"a": b"\2"}], "id": 5}
        await websocket.send(pack({"type": 0, "nsp": "/nowhere"}))
        assert await next_packet() == {"type": 4, "nsp": "/nowhere", "data": {"message": "Invalid namespace"}}
        await websocket.send('42["message"]')
        assert await websocket.receive() is None
