"""PulseChat: conversations over sockets."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock

from catfish.contracts.pulsechat import compose
from catfish.rooms.model import RoomKind
from tests.contracts.harness import Socket, Sockets
from tests.server.harness import start_server

CHAT = "0b5a2b1c-7f3a-4f0e-9a7a-3a1c5d2e8f90"
SECRET = "a secret of at least thirty-two bytes"


async def join(sockets: Sockets, count: int, room: str = CHAT) -> list[Socket]:
    joined = []
    for _ in range(count):
        socket = sockets.connect()
        assert await socket.ask("JOIN", {"room": room}) == []
        joined.append(socket)
    return joined


def message(body: Any = "hello", **more: Any) -> dict[str, Any]:
    return {
        "chatId": CHAT,
        "body": body,
        "image": None,
        "createdBy": {"email": "ann@example.test", "id": "u-ann", "image": None, "name": "ANN"},
        "public_id": None,
        "isEdited": False,
        "createdAt": "2025-01-02T03:04:00.678Z",
        "updatedAt": "2025-01-02T03:04:00.678Z",
        "timeStamp": 1735787045678,
        **more,
    }


async def stored(sockets: Sockets, room: str = CHAT) -> list[Any]:
    record = await sockets.server.store.room(id=room)
    assert record is not None
    return (await sockets.server.store.history(record.number, limit=50)).messages


async def test_a_message_comes_back_to_everyone_and_is_stored_with_its_author_and_time(sockets: Sockets) -> None:
    ann, bob = await join(sockets, 2)
    assert await ann.ask("MESSAGE", {"message": message(), "room": CHAT}) is None
    assert ann.heard() == bob.heard() == [("MESSAGE", message())]
    [line] = await stored(sockets)
    assert (line.content, line.user, line.name, line.created_at) == ("hello", "u-ann", "ANN", 1735787040678)
    name, value = compose(line, 1)
    assert (name, value, list(value)) == ("MESSAGE", message(), list(message()))


async def test_messages_come_as_they_came_also_when_they_are_read_from_the_store(
    sockets: Sockets, autojump_clock: MockClock
) -> None:
    values: list[tuple[str, dict[str, Any]]] = [
        ("MESSAGE", message("a")),
        ("MESSAGE", message(None, image="http://img.test/1.png")),
        ("MESSAGE", message("", image="http://img.test/2.png")),
        ("send-message", {"room": CHAT, "message": "text"}),
        ("send-message", {"chatId": CHAT, "message": {"body": "inner", "createdBy": {"id": "u-bob"}}}),
        ("send-message", {"conversationId": CHAT, "body": "b", "content": "c"}),
        ("send-message", {"room": None, "chatId": CHAT, "content": "c"}),
        ("send-message", {"room": CHAT, "text": "t", "message": ""}),
        ("send-message", {"room": CHAT, "message": {"image": "http://img.test/3.png"}}),
    ]
    [ann, bob] = await join(sockets, 2)
    expected = []
    for event, value in values:
        if event == "MESSAGE":
            assert await ann.ask(event, {"message": value, "room": CHAT}) is None
        else:
            assert await ann.ask(event, value) == []
        expected.append(("MESSAGE" if event == "MESSAGE" else "receive-message", value))
    assert ann.heard() == bob.heard() == expected
    lines = await stored(sockets)
    assert [compose(line, 1) for line in lines] == expected
    assert [line.content for line in lines][-3:] == ["c", "t", "http://img.test/3.png"]


async def test_in_open_mode_the_id_of_a_conversation_admits_those_who_did_not_join(sockets: Sockets) -> None:
    [ann] = await join(sockets, 1)
    eve = sockets.connect()
    await eve.tell("MESSAGE", {"message": message("from outside"), "room": CHAT})
    assert ann.heard() == [("MESSAGE", message("from outside"))]
    assert eve.heard() == []
    assert await eve.ask("MESSAGE", {"message": message(), "room": "nobody-was-here"}) == [
        {"message": "there is no room 'nobody-was-here'", "status": 404}
    ]


@pytest.mark.parametrize("kind", [RoomKind.PRIVATE, RoomKind.MATCHED])
async def test_rooms_that_are_not_open_take_messages_of_members_only(sockets: Sockets, kind: RoomKind) -> None:
    native = sockets.server.connect()
    if kind is RoomKind.MATCHED:
        room = (await native.ask("room:match", {}))["room"]["id"]
    else:
        room = (await native.ask("room:create", {"kind": "private"}))["room"]["id"]
        await native.ask("room:join", {"room": room})
    eve = sockets.connect()
    [refusal] = await eve.ask("MESSAGE", {"message": message(), "room": room}) or []
    assert refusal["status"] == 403
    assert (await eve.ask("JOIN", {"room": room}) or [])[0]["status"] == 403
    assert native.heard("chat:message") == []


async def test_the_same_message_is_stored_and_told_once(sockets: Sockets) -> None:
    ann, bob = await join(sockets, 2)
    for socket in (ann, bob, ann):
        await socket.tell("MESSAGE", {"message": message(id="m-1"), "room": CHAT})
    await ann.tell("MESSAGE", {"message": message("other", id=7), "room": CHAT})
    await ann.tell("MESSAGE", {"message": message("again", id="~1"), "room": CHAT})
    await ann.tell("MESSAGE", {"message": message("again", id="~1"), "room": CHAT})
    assert [entry[1]["body"] for entry in bob.heard()] == ["hello", "other", "again", "again"]
    assert [line.client_id for line in await stored(sockets)] == ["m-1", "7", None, None]


async def test_a_socket_is_out_when_it_has_left_as_often_as_it_joined(sockets: Sockets) -> None:
    ann, bob = await join(sockets, 2)
    assert await bob.ask("JOIN", {"room": CHAT}) == []
    assert await bob.ask("LEAVE", {"room": CHAT}) == []
    await ann.tell("MESSAGE", {"message": message("one"), "room": CHAT})
    assert await bob.ask("LEAVE", {"room": CHAT}) == []
    await ann.tell("MESSAGE", {"message": message("two"), "room": CHAT})
    assert [entry[1]["body"] for entry in bob.heard()] == ["one"]
    assert (await bob.ask("LEAVE", {"room": CHAT}) or [])[0]["status"] == 403


async def test_a_client_whose_clock_is_wrong_does_not_write_into_the_future(sockets: Sockets) -> None:
    [ann] = await join(sockets, 1)
    for at in ("2999-01-01T00:00:00.000Z", "1969-01-01T00:00:00Z", "nonsense", 5, "9999-99-99"):
        await ann.tell("MESSAGE", {"message": message(createdAt=at), "room": CHAT})
    assert all(1.7e12 < line.created_at < 4e12 for line in await stored(sockets))
    assert [entry[1]["createdAt"] for entry in ann.heard()][:2] == ["2999-01-01T00:00:00.000Z", "1969-01-01T00:00:00Z"]


async def test_where_accounts_are_required_only_members_send_and_nobody_writes_for_another(
    nursery: trio.Nursery,
) -> None:
    sockets = Sockets(await start_server(nursery, auth="required", jwt_secret=SECRET))
    ann, eve = sockets.connect(), sockets.connect()
    await ann.who.authenticate(jwt.encode({"id": "u-ann"}, SECRET), None, None)
    await eve.who.authenticate(jwt.encode({"id": "u-eve"}, SECRET), None, None)
    assert (await ann.ask("JOIN", {"room": CHAT}) or [])[0]["status"] == 404
    room = (await ann.who.create(kind=RoomKind.OPEN)).id
    assert await ann.ask("JOIN", {"room": room}) == []
    assert (await eve.ask("MESSAGE", {"message": message(), "room": room}) or [])[0]["status"] == 403
    assert await eve.ask("JOIN", {"room": room}) == []
    refusal = await eve.ask("MESSAGE", {"message": message(), "room": room}) or []
    assert refusal == [{"message": "createdBy.id: is not the one whom the token names", "status": 403}]
    await eve.tell("MESSAGE", {"message": message(createdBy=None), "room": room})
    assert [line.user for line in await stored(sockets, room)] == ["u-eve"]
    assert len(ann.heard()) == 1


@pytest.mark.parametrize(
    ("event", "args", "status"),
    [
        ("JOIN", [], 400),
        ("JOIN", ["x"], 400),
        ("JOIN", [{}], 400),
        ("JOIN", [{"room": 7}], 400),
        ("JOIN", [{"room": "\0"}], 400),
        ("LEAVE", [{"room": "elsewhere"}], 403),
        ("LEAVE", [None], 400),
        ("MESSAGE", [], 400),
        ("MESSAGE", [{"room": CHAT}], 400),
        ("MESSAGE", [{"message": message()}], 400),
        ("MESSAGE", [{"room": CHAT, "message": "text"}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(None)}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(["x"])}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message("\0")}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message("x" * 5001)}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(createdBy="ann")}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(createdBy={"id": 7})}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(createdBy={"id": "\n"})}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(id="x" * 129)}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(more=b"bytes")}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(more="x" * 70_000)}], 400),
        ("MESSAGE", [{"room": CHAT, "message": message(more=10**30)}], 400),
        ("send-message", [{"roomId": CHAT, "text": "x"}], 400),
        ("send-message", [{"room": CHAT}], 400),
        ("send-message", [{"room": CHAT, "message": 7}], 400),
    ],
)
async def test_what_is_refused_is_acknowledged_so_or_ignored(
    sockets: Sockets, event: str, args: list[Any], status: int
) -> None:
    ann, bob = await join(sockets, 2)
    [refusal] = await ann.ask(event, *args) or []
    assert refusal["status"] == status
    assert list(refusal) == ["message", "status"]
    await ann.tell(event, *args)
    assert ann.heard() == bob.heard() == []
    assert sockets.ignored == {event: 2}


async def test_a_send_message_chooses_the_vocabulary_by_what_it_holds(sockets: Sockets) -> None:
    for key in ("room", "chatId", "conversationId"):
        pulse = sockets.connect()
        await pulse.tell("send-message", {key: CHAT})
        assert pulse.vocabulary is not None
        assert pulse.vocabulary.name == "pulsechat"
        assert pulse.heard() == []
    for args in ([], ["hi"], [{"roomId": "x"}], [{"messageContent": "hi"}], [["room"]], ["room"]):
        other = sockets.connect()
        await other.tell("send-message", *args)
        assert other.heard() == [("receive-message", args[0] if args else None)]


async def test_what_native_members_do_and_hear(sockets: Sockets) -> None:
    [ann] = await join(sockets, 1)
    [native] = await sockets.server.join(CHAT, "nat")
    assert ann.heard() == []
    await native.ask("chat:send", {"room": CHAT, "content": "hi"})
    [(name, value)] = ann.heard()
    assert (name, value["body"], value["chatId"], value["isEdited"]) == ("MESSAGE", "hi", CHAT, False)
    assert value["createdBy"] == {"id": "nat", "name": "nat", "email": None, "image": None}
    assert value["createdAt"] == value["updatedAt"]
    native.read()
    native.events.clear()
    await ann.tell("MESSAGE", {"message": message(), "room": CHAT})
    [heard] = native.heard("chat:message")
    assert (heard["content"], heard["user"], heard["name"]) == ("hello", "u-ann", "ANN")
    assert heard["data"]["pulse"]["value"]["createdBy"]["email"] == "ann@example.test"


@pytest.mark.parametrize(
    "pulse",
    [
        {"event": "MESSAGE", "text": ["body"], "value": {"body": None, "createdBy": {"id": "u-ann"}}},
        {"event": "MESSAGE", "text": ["body"], "value": {"body": None, "createdBy": "u-ann"}},
        {"event": "send-message", "text": ["message", "body"],
         "value": {"message": {"body": None, "createdBy": {"id": "u-ann"}}}},
        {"event": "MESSAGE", "text": None, "value": {"image": "http://other.test"}},
        {"event": "MESSAGE", "text": ["body"], "value": {}},
        {"event": "MESSAGE", "text": ["createdBy"], "value": {"createdBy": None}},
        {"event": "MESSAGE", "text": 7, "value": {}},
        {"event": ["MESSAGE"], "text": ["body"], "value": {"body": None}},
        {"event": "JOIN", "text": ["body"], "value": {"body": None}},
        {"event": "MESSAGE"},
        [],
    ],
)  # fmt: skip
async def test_members_of_other_vocabularies_cannot_speak_for_others_by_their_data(
    sockets: Sockets, pulse: Any
) -> None:
    [ann] = await join(sockets, 1)
    [native] = await sockets.server.join(CHAT, "nat")
    sent = await native.ask("chat:send", {"room": CHAT, "content": "hi", "data": {"pulse": pulse}})
    assert sent["seq"] == 1
    [(name, value)] = ann.heard()
    assert (name, value["body"], value["createdBy"]["id"]) == ("MESSAGE", "hi", "nat")
    assert ann.crash is None
