"""Asking somebody to be a friend, and answering."""

from __future__ import annotations

from typing import Any

from tests.http.people import Person

SEND, ACCEPT, DECLINE = "/api/friendrequest/send", "/api/friend/accept", "/api/friend/decline"


async def ask(one: Person, other: Person) -> dict[str, Any]:
    answer = await one.post(SEND, {"friendId": other.id})
    assert (answer.status, answer.json["status"]) == (200, 200)
    request: dict[str, Any] = answer.json["friendRequest"]
    return request


async def befriend(one: Person, other: Person) -> None:
    request = await ask(one, other)
    answer = await other.post(ACCEPT, {"requestId": request["id"], "friendId": one.id})
    assert answer.status == 200


async def requests(person: Person) -> list[dict[str, Any]]:
    answer = await person.get("/api/friend/requests")
    found: list[dict[str, Any]] = answer.json["friendRequests"]
    return found


async def test_a_request_is_seen_by_both(ann: Person, bob: Person, cyd: Person) -> None:
    request = await ask(ann, bob)
    assert list(request) == [
        *("id", "senderId", "receiverId", "status", "createdAt", "updatedAt", "sender", "receiver")
    ]
    assert isinstance(request["id"], int)
    assert (request["senderId"], request["receiverId"], request["status"]) == (ann.id, bob.id, "pending")
    assert list(request["sender"]) == ["name", "email", "image", "id", "createdAt", "updatedAt"]
    assert (request["sender"]["name"], request["receiver"]["name"]) == ("ANN", "BOB")
    assert await requests(ann) == await requests(bob) == [request]
    assert await requests(cyd) == []


async def test_a_pending_request_between_two_is_not_made_again(ann: Person, bob: Person) -> None:
    request = await ask(ann, bob)
    for one, other in ((ann, bob), (bob, ann)):
        answer = await one.post(SEND, {"friendId": other.id})
        assert answer.json == {"message": "Request already sent", "existingFriend": request, "status": 200}


async def test_accepting_gives_a_friend_and_a_conversation(ann: Person, bob: Person) -> None:
    request = await ask(ann, bob)
    body = {"requestId": request["id"], "friendId": ann.id}
    answer = await bob.post(ACCEPT, body)
    assert (answer.status, answer.json["status"]) == (200, 200)
    assert answer.json["newFriend"]["id"] == ann.id
    assert answer.json["newConversation"]["id"] == await ann.talk(bob)
    assert (await bob.post(ACCEPT, body)).json == answer.json
    assert [each["status"] for each in await requests(ann)] == ["accepted"]
    [found] = (await bob.get("/api/users/all?query=ann")).json["users"]
    assert [friend["id"] for friend in found["friendOf"]] == [bob.id]
    again = await ann.post(SEND, {"friendId": bob.id})
    assert (again.status, again.json["code"]) == (409, "already_friends")


async def test_a_declined_request_is_gone_and_may_be_made_again(ann: Person, bob: Person) -> None:
    request = await ask(ann, bob)
    answer = await bob.post(DECLINE, {"requestId": request["id"]})
    assert answer.json["declinedRequest"]["status"] == "declined"
    assert await requests(ann) == await requests(bob) == []
    answer = await bob.post(ACCEPT, {"requestId": request["id"], "friendId": ann.id})
    assert (answer.status, answer.json["code"]) == (409, "request_answered")
    assert (await ask(bob, ann))["id"] > request["id"]


async def test_only_the_receiver_answers(ann: Person, bob: Person, cyd: Person) -> None:
    request = await ask(ann, bob)
    for person, status in ((ann, 403), (cyd, 404)):
        answer = await person.post(ACCEPT, {"requestId": request["id"], "friendId": ann.id})
        assert (answer.status, answer.json["status"]) == (status, status)
        assert (await person.post(DECLINE, {"requestId": request["id"]})).status == status
    assert (await bob.post(ACCEPT, {"requestId": request["id"], "friendId": cyd.id})).status == 400
    assert [each["status"] for each in await requests(ann)] == ["pending"]


async def test_friends_part(ann: Person, bob: Person) -> None:
    await befriend(ann, bob)
    answer = await bob.post("/api/friend/remove", {"friendId": ann.id})
    assert (answer.status, answer.json["removedFriend"]["id"]) == (200, ann.id)
    [found] = (await bob.get("/api/users/all?query=ann")).json["users"]
    assert found["friendOf"] == []
    assert (await bob.post("/api/friend/remove", {"friendId": ann.id})).status == 404
    await ask(ann, bob)


WRONG: list[tuple[str, Any, int]] = [
    (SEND, {}, 400),
    (SEND, {"friendId": None}, 400),
    (SEND, {"friendId": {"id": "x"}}, 400),
    (SEND, {"friendId": ""}, 404),
    (SEND, {"friendId": "nobody"}, 404),
    (SEND, {"friendId": "x" * 5000}, 404),
    (ACCEPT, {"requestId": 1}, 400),
    (ACCEPT, {"requestId": "1", "friendId": "x"}, 400),
    (ACCEPT, {"requestId": 1, "friendId": "x"}, 404),
    (ACCEPT, {"requestId": 2**62, "friendId": "x"}, 404),
    (DECLINE, {"requestId": -1}, 404),
    (DECLINE, {"requestId": 2**200}, 404),
    (DECLINE, b"{bad", 400),
]


async def test_what_is_wrong_is_told(ann: Person) -> None:
    for path, body, status in WRONG:
        answer = await ann.post(path, body)
        assert (answer.status, answer.json["status"]) == (status, status), (path, body)
        assert isinstance(answer.json["message"], str)


async def test_nobody_is_asked_to_be_a_friend_of_oneself(ann: Person) -> None:
    assert (await ann.post(SEND, {"friendId": ann.id})).status == 400
