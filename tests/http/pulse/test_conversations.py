"""Conversations and their messages, over HTTP and on the sockets."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import ANY

import trio

from catfish.store.postgres import PostgresStore
from tests.contracts.harness import Socket, Sockets
from tests.e2e.process import until
from tests.http.harness import Answer, Api, open_api_on
from tests.http.people import Person, sign_in

SECRET = "a secret of at least thirty-two bytes"
NOWHERE = str(uuid.uuid4())


async def ask(socket: Socket, event: str, *args: Any) -> list[Any]:
    acked = trio.Event()
    acks = socket.request(event, *args, acked=acked)
    with trio.fail_after(10):
        await acked.wait()
    return acks[0]


async def join(api: Api, conversation: str) -> Socket:
    socket = Sockets(api.server).connect()
    assert await ask(socket, "JOIN", {"room": conversation}) == []
    socket.heard()
    return socket


async def history(person: Person, conversation: str, page: str = "") -> list[dict[str, Any]]:
    answer = await person.get(f"/api/chat/messages?chatId={conversation}&pageParam={page}")
    assert (answer.status, answer.json["status"]) == (200, 200)
    messages: list[dict[str, Any]] = answer.json["messages"]
    return messages


async def test_two_have_one_conversation_from_both_sides(ann: Person, bob: Person) -> None:
    answer = await ann.post("/api/new/chat", {"isGroup": False, "members": [bob.id]})
    conversation = answer.json["conversation"]
    assert list(conversation) == ["id", "name", "isGroup", "image", "createdAt", "lastMessageAt"]
    assert str(uuid.UUID(conversation["id"])) == conversation["id"]
    for person, members in ((ann, [bob.id]), (bob, [ann.id]), (ann, [bob.id, ann.id])):
        again = await person.post("/api/new/chat", {"members": members})
        assert again.json == {"conversation": conversation, "status": 200}


async def test_the_conversation_with_oneself_is_there_already(ann: Person) -> None:
    [own] = (await ann.get("/api/chats/all")).json["conversations"]
    assert await ann.talk(ann) == own["conversationId"]


IMPOSSIBLE: list[tuple[Any, int]] = [
    ({}, 400),
    ({"members": []}, 400),
    ({"members": "x"}, 400),
    ({"members": [5]}, 400),
    ({"members": ["nobody"]}, 404),
    ({"members": ["a\0b"]}, 404),
    ({"members": ["one", "two"]}, 400),
    ({"isGroup": True, "name": "G", "members": ["one"]}, 400),
    ({"isGroup": True, "name": "G", "members": ["one", "one"]}, 400),
    ({"isGroup": True, "name": "G", "members": ["one", "two"]}, 404),
    ({"isGroup": True, "name": None, "members": ["one", "two"]}, 400),
    ({"isGroup": True, "name": " ", "members": ["one", "two"]}, 400),
    ({"isGroup": True, "name": "x" * 65, "members": ["one", "two"]}, 400),
    ({"isGroup": True, "name": "G", "members": [f"u{n}" for n in range(256)]}, 400),
]


async def test_conversations_that_cannot_be(ann: Person) -> None:
    for body, status in IMPOSSIBLE:
        answer = await ann.post("/api/new/chat", body)
        assert (answer.status, answer.json["status"]) == (status, status), body
    assert len((await ann.get("/api/chats/all")).json["conversations"]) == 1


async def test_the_list_has_the_own_conversation_first_and_then_the_latest(
    ann: Person, bob: Person, cyd: Person
) -> None:
    two, group = await ann.talk(bob), await ann.talk(bob, cyd, name="G")
    await bob.say(group, "to all")
    sent = await bob.say(two, "to ann")
    own, first, second = (await ann.get("/api/chats/all")).json["conversations"]
    assert list(first) == ["userId", "conversationId", "conversation"]
    assert (first["userId"], first["conversationId"], second["conversationId"]) == (ann.id, two, group)
    assert [user["userId"] for user in own["conversation"]["users"]] == [ann.id]
    assert first["conversation"]["messages"] == [{**sent, "createdBy": {"name": "BOB"}}]
    assert first["conversation"]["lastMessageAt"] == sent["createdAt"]
    [_, user] = sorted(first["conversation"]["users"], key=lambda user: str(user["user"]["name"]))
    assert user == {
        "userId": bob.id,
        "conversationId": two,
        "user": {"id": bob.id, "email": "bob@example.test", "name": "BOB", "image": "http://img.test/BOB.png"},
    }
    assert len((await cyd.get("/api/chats/all")).json["conversations"]) == 2


async def test_a_message_is_answered_listed_and_delivered(ann: Person, bob: Person, api: Api) -> None:
    two = await ann.talk(bob)
    socket = await join(api, two)
    message = await ann.say(two, "hello")
    assert list(message) == [
        *("id", "body", "image", "public_id", "userId", "conversationId", "isEdited", "createdAt", "updatedAt")
    ]
    assert str(uuid.UUID(message["id"])) == message["id"]
    assert (message["body"], message["userId"], message["conversationId"]) == ("hello", ann.id, two)
    with trio.fail_after(10):
        await until(lambda: bool(socket.log))
    [(event, heard)] = socket.heard()
    author = {"id": ann.id, "name": "ANN", "email": "ann@example.test", "image": "http://img.test/ANN.png"}
    assert (event, heard["id"], heard["body"], heard["chatId"]) == ("MESSAGE", message["id"], "hello", two)
    assert heard["createdBy"] == author
    [listed] = await history(bob, two)
    assert list(listed) == [
        *("createdBy", "body", "createdAt", "updatedAt", "id", "image", "isEdited", "public_id"),
    ]
    assert (listed["id"], listed["createdBy"], listed["createdAt"]) == (message["id"], author, message["createdAt"])


async def test_a_message_without_a_text_is_one(ann: Person, bob: Person, api: Api) -> None:
    two = await ann.talk(bob)
    socket = await join(api, two)
    for body in ({"chatId": two}, {"chatId": two, "message": None}, {"chatId": two, "message": ""}):
        answer = await ann.post("/api/chat/send/message", body)
        assert (answer.status, answer.json["message"]["body"]) == (200, None)
    assert [message["body"] for message in await history(ann, two)] == [None, None, None]
    with trio.fail_after(10):
        await until(lambda: len(socket.log) == 3)
    assert [heard["body"] for _, heard in socket.heard()] == [None, None, None]


async def test_what_sockets_sent_is_in_the_history_with_its_author_and_time(ann: Person, bob: Person, api: Api) -> None:
    two = await ann.talk(bob)
    socket = await join(api, two)
    message = {
        "body": "hi",
        "image": "http://img.test/1.png",
        "public_id": "p1",
        "createdBy": {"id": bob.id, "name": "Somebody"},
        "createdAt": "2025-01-02T03:04:00.678Z",
        "isEdited": False,
    }
    socket.emit("MESSAGE", {"room": two, "message": message})
    socket.emit("MESSAGE", {"room": two, "message": {"image": "http://img.test/2.png", "createdBy": {"id": "x"}}})
    assert await ask(socket, "send-message", {"chatId": two, "message": "by its other name"}) == []
    first, second, third = await history(ann, two)
    assert (first["body"], first["image"], first["public_id"]) == ("hi", "http://img.test/1.png", "p1")
    assert (first["createdAt"], first["isEdited"]) == ("2025-01-02T03:04:00.678Z", None)
    assert (first["createdBy"]["name"], first["createdBy"]["email"]) == ("BOB", "bob@example.test")
    assert (second["body"], second["image"]) == (None, "http://img.test/2.png")
    assert second["createdBy"] == {"name": "x", "id": "x", "email": None, "image": None}
    assert third["body"] == "by its other name"


async def test_pages_of_thirty_go_back_from_the_oldest_one_held(ann: Person, bob: Person) -> None:
    two = await ann.talk(bob)
    for number in range(65):
        await ann.say(two, str(number))
    held: list[str] = []
    page = ""
    for expected in (30, 30, 5, 0):
        messages = await history(bob, two, page)
        assert len(messages) == expected
        held = [message["body"] for message in messages] + held
        page = messages[0]["id"] if messages else ""
    assert held == [str(number) for number in range(65)]


async def test_its_author_deletes_a_message_and_in_a_conversation_of_two_either(
    ann: Person, bob: Person, cyd: Person
) -> None:
    two, group = await ann.talk(bob), await ann.talk(bob, cyd, name="G")
    to_two, to_group = await ann.say(two, "1"), await ann.say(group, "2")
    path = "/api/chat/message?messageId="
    assert (await cyd.delete(path + to_two["id"])).status == 404
    answer = await bob.delete(path + to_group["id"])
    assert (answer.status, answer.json["code"]) == (403, "not_your_message")
    for person, message in ((bob, to_two), (ann, to_group)):
        answer = await person.delete(path + message["id"])
        assert (answer.status, answer.json) == (200, {"message": "Message Deleted", "status": 200})
        assert (await person.delete(path + message["id"])).status == 404
    assert await history(ann, two) == await history(ann, group) == []


async def test_messages_that_are_not_there_are_not_deleted(ann: Person) -> None:
    for id, status in (("", 400), ("nouuid", 400), (NOWHERE, 400), ("00000000-0000-8fff-bfff-ffffffffffff", 404)):
        assert (await ann.delete(f"/api/chat/message?messageId={id}")).status == status
    assert (await ann.delete("/api/chat/message")).status == 400


async def test_only_members_read_and_write(ann: Person, bob: Person, cyd: Person) -> None:
    two = await ann.talk(bob)
    await ann.say(two, "secret")
    requests: list[Callable[[], Awaitable[Answer]]] = [
        lambda: cyd.get(f"/api/chat/messages?chatId={two}"),
        lambda: cyd.get(f"/api/messages?chatId={two}"),
        lambda: cyd.post("/api/chat/send/message", {"chatId": two, "message": "x"}),
        lambda: cyd.post("/api/messages", {"chatId": two, "message": "x"}),
        lambda: cyd.post("/api/chat/id", {"chatId": two}),
    ]
    for request in requests:
        answer = await request()
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert b"secret" not in answer.body
    assert len(await history(bob, two)) == 1


async def test_conversations_that_are_not_there(ann: Person) -> None:
    for id, status in (("", 400), ("nouuid", 400), (NOWHERE, 404), ("{" + NOWHERE + "}", 400)):
        assert (await ann.get(f"/api/chat/messages?chatId={id}")).status == status
        assert (await ann.post("/api/chat/send/message", {"chatId": id, "message": "x"})).status == status
    assert (await ann.get("/api/chat/messages")).status == 400


async def test_page_parameters_are_messages_of_the_conversation(ann: Person, bob: Person, cyd: Person) -> None:
    two, other = await ann.talk(bob), await ann.talk(cyd)
    elsewhere = await ann.say(other, "x")
    for page in ("x", NOWHERE, elsewhere["id"]):
        assert (await ann.get(f"/api/chat/messages?chatId={two}&pageParam={page}")).status == 400


async def test_texts_that_cannot_be_stored(ann: Person, bob: Person) -> None:
    two = await ann.talk(bob)
    for text in ("x" * 5001, "a\0b", 5, ["x"]):
        answer = await ann.post("/api/chat/send/message", {"chatId": two, "message": text})
        assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_the_document_s_routes_do_the_same(ann: Person, bob: Person) -> None:
    two = await ann.talk(bob)
    answer = await ann.post("/api/messages", {"chatId": two, "message": "hello"})
    assert (answer.status, answer.json["message"]["body"]) == (200, "hello")
    assert (await bob.get(f"/api/messages?chatId={two}")).json == (
        await bob.get(f"/api/chat/messages?chatId={two}")
    ).json


async def test_a_conversation_is_shown_to_who_knows_its_id(ann: Person, bob: Person, api: Api) -> None:
    two = await ann.talk(bob)
    for id in (two, two.upper()):
        answer = await api.post("/api/chat/id", {"chatId": id})
        assert (answer.status, answer.json["status"]) == (200, 200)
        assert {user["userId"] for user in answer.json["conversation"]["users"]} == {ann.id, bob.id}
    assert (await api.post("/api/chat/id", {"chatId": NOWHERE})).json == {"conversation": None, "status": 200}
    assert (await api.post("/api/chat/id", {"chatId": "nouuid"})).status == 400


async def test_without_a_token_nobody_writes_in_the_name_of_others_but_of_accounts_of_providers(
    postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    api = await open_api_on(postgres, nursery, jwt_secret=SECRET)
    ann = await sign_in(api, "ANN")
    body = {"email": "bob@example.test", "password": "correct horse"}
    by_password = (await api.post("/api/auth/register", body)).json["user"]["id"]
    await postgres.logins.register({"somebody"})
    socket = Sockets(api.server).connect()
    await ask(socket, "JOIN", {"room": "lobby"})
    for author, is_taken in (
        (ann.id, False),
        ("a guest", False),
        (by_password, True),
        ("somebody", True),
        (ann.id, False),
    ):
        value = {"body": "hello", "chatId": "lobby", "createdBy": {"id": author, "name": "X"}}
        answer = await ask(socket, "send-message", {"room": "lobby", "message": value})
        assert (answer == [{"message": ANY, "status": 403}]) is is_taken, (author, answer)


async def test_where_tokens_are_required_members_alone_enter_whatever_they_speak(
    postgres: PostgresStore, nursery: trio.Nursery
) -> None:
    api = await open_api_on(postgres, nursery, auth="required", jwt_secret=SECRET)
    ann, bob, cyd = [await sign_in(api, name) for name in ("ANN", "BOB", "CYD")]
    two = await ann.talk(bob)
    assert (await api.post("/api/chat/id", {"chatId": two})).status == 401
    sockets = Sockets(api.server)
    for event, key in (("JOIN", "room"), ("joinRoom", "roomId")):
        for person, admitted in ((ann, True), (cyd, False)):
            socket = sockets.connect()
            await socket.who.authenticate(person.token.removeprefix("Bearer "), None, None)
            await ask(socket, event, {key: two})
            assert (socket.who.rooms == [two]) is admitted
    answer = await cyd.get(f"/api/messages?roomId={two}")
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert (await bob.get(f"/api/messages?roomId={two}")).status == 200
    assert (await cyd.get("/api/messages?roomId=lobby")).status == 200
