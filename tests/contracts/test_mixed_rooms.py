"""One room, members who speak different vocabularies: each hears the others in its own."""

from __future__ import annotations

import re
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.rooms.events import Custom, MessageSent
from catfish.rooms.uuids import message_uuid
from tests.contracts.harness import Heard, Socket, Sockets
from tests.server.harness import Client

ROOM = "lobby"


class Party:
    """A member of each vocabulary that has rooms by name, and a native one."""

    def __init__(self, sockets: Sockets) -> None:
        self.yuri, self.pia, self.paul = (sockets.connect() for _ in range(3))
        self.sockets = sockets
        self.native: Client = sockets.server.connect()

    async def enter(self) -> None:
        await self.native.ask("hello", {"user": "nat", "name": "Nat"})
        await self.native.ask("room:join", {"room": ROOM})
        await self.yuri.tell("joinRoom", {"roomId": ROOM, "userId": "yuri"})
        await self.pia.tell("join_room", {"userId": "pia", "username": "Pia", "roomId": ROOM})
        await self.paul.tell("JOIN", {"room": ROOM})
        self.forget()

    def forget(self) -> None:
        for socket in (self.yuri, self.pia, self.paul):
            socket.heard()
        self.native.read()
        self.native.events.clear()

    def heard(self, *sockets: Socket) -> list[list[Heard]]:
        return [[_without_times(entry) for entry in socket.heard()] for socket in sockets]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in ("timestamp", "updatedAt")}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_times(inner) for inner in value)
    return "time" if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z", value) else value


def pulse(content: str, user: str, name: str, id: str | None) -> Heard:
    author = {"id": user, "name": name, "email": None, "image": None}
    value = {"id": id, "body": content, "image": None, "chatId": ROOM, "createdBy": author, "public_id": None}
    return "MESSAGE", {**value, "isEdited": False, "createdAt": "time"}


def peer(content: str, user: str, name: str) -> Heard:
    return "receive_message", {"userId": user, "username": name, "content": content, "senderId": user, "text": content}


def yum(content: str, user: str, seq: int) -> Heard:
    return "receiveMessage", {"roomId": ROOM, "userId": user, "content": content, "id": seq, "seq": seq}


async def test_a_stored_message_is_heard_in_every_vocabulary(sockets: Sockets) -> None:
    party = Party(sockets)
    await party.enter()
    await party.native.ask("chat:send", {"room": ROOM, "content": "one"})
    await party.yuri.tell("sendMessage", {"roomId": ROOM, "content": "two"})
    await party.paul.tell("send-message", {"room": ROOM, "message": "three"})
    paul = party.paul.who.session
    assert party.heard(party.yuri, party.pia, party.paul) == [
        [yum("one", "nat", 1), yum("two", "yuri", 2), yum("three", paul, 3)],
        [peer("one", "nat", "Nat"), peer("two", "yuri", "yuri"), peer("three", paul, paul)],
        [
            pulse("one", "nat", "Nat", message_uuid(1, 1)),
            pulse("two", "yuri", "yuri", message_uuid(1, 2)),
            ("receive-message", {"room": ROOM, "message": "three"}),
        ],
    ]
    lines = [(each["seq"], each["content"], each["user"]) for each in party.native.heard("chat:message")]
    assert lines == [(1, "one", "nat"), (2, "two", "yuri"), (3, "three", paul)]


async def test_a_message_that_is_not_stored_is_heard_where_it_has_text(sockets: Sockets) -> None:
    party = Party(sockets)
    await party.enter()
    await party.pia.tell("send_message", {"message": {"senderId": "pia", "text": "hi"}})
    await party.pia.tell("send_message", {"message": {"points": [1, 2]}})
    assert party.heard(party.yuri, party.pia, party.paul) == [
        [yum("hi", "pia", 0)],
        [],
        [pulse("hi", "pia", "Pia", None)],
    ]
    [said] = party.native.heard("chat:message")
    assert (said["content"], said["user"], said["name"], said["seq"], said["id"]) == ("hi", "pia", "Pia", 0, 0)


async def test_who_comes_and_goes_is_heard_in_every_vocabulary_that_has_words_for_it(
    sockets: Sockets, autojump_clock: MockClock
) -> None:
    party = Party(sockets)
    await party.enter()
    bob = sockets.connect()
    await bob.tell("joinRoom", {"roomId": ROOM, "userId": "bob"})
    await bob.vanish()
    await trio.sleep(11)
    system = {"userId": "bob", "username": "bob"}
    assert party.heard(party.yuri, party.pia, party.paul) == [
        [("userJoined", {"roomId": ROOM, "userId": "bob"}), ("userLeft", {"roomId": ROOM, "userId": "bob"})],
        [
            ("system_message", {"eventType": kind, "event": kind, **system, "text": f"bob {text}"})
            for kind, text in (("connect", "has entered the chat."), ("disconnect", "has left the chat."))
        ],
        [],
    ]
    assert [event["member"]["user"] for event in party.native.heard("room:joined")] == ["bob"]
    assert party.native.heard("room:left") == [{"room": ROOM, "user": "bob", "reason": "gone"}]


async def test_one_user_in_two_vocabularies_is_one_member(sockets: Sockets, autojump_clock: MockClock) -> None:
    party = Party(sockets)
    await party.enter()
    pia = sockets.connect()
    await pia.tell("joinRoom", {"roomId": ROOM, "userId": "pia"})
    await party.pia.vanish()
    await trio.sleep(60)
    assert party.heard(party.yuri, party.paul) == [[], []]
    members = (await party.native.ask("room:members", {"room": ROOM}))["members"]
    assert [member["user"] for member in members] == ["nat", "yuri", "pia", party.paul.who.session]


async def test_what_a_vocabulary_has_no_words_for_is_not_told(sockets: Sockets) -> None:
    party = Party(sockets)
    await party.enter()
    sent = await party.native.ask("chat:send", {"room": ROOM, "content": "one"})
    party.forget()
    for event, data in (
        ("chat:edit", {"seq": sent["seq"], "content": "two"}),
        ("chat:react", {"seq": sent["seq"], "emoji": "👍", "on": True}),
        ("chat:delete", {"seq": sent["seq"]}),
        ("chat:read", {"seq": sent["seq"]}),
        ("chat:typing", {"on": True}),
        ("media:toggle", {"device": "screen", "on": True}),
        ("media:toggle", {"device": "camera", "on": True}),
        ("media:started", {}),
        ("room:emit", {"event": "wave", "data": 1}),
        ("signal", {"to": "pia", "data": 1}),
    ):
        assert await party.native.ask(event, {"room": ROOM, **data}) == {}
    assert party.heard(party.yuri, party.pia, party.paul) == [[], [], []]


async def test_a_message_that_was_deleted_before_it_was_told_is_left_out(sockets: Sockets) -> None:
    """As when it was sent and deleted on another instance, and the gap is filled from the store."""
    party = Party(sockets)
    await party.enter()
    live = party.yuri.who.live(ROOM)
    await party.native.ask("chat:send", {"room": ROOM, "content": "one"})
    await party.native.ask("chat:delete", {"room": ROOM, "seq": 1})
    [message] = (await sockets.server.store.history(live.number, limit=1)).messages
    party.forget()
    event = MessageSent(room=ROOM, revision=1, message=message)
    assert [each.render(event, live) for each in sockets.vocabularies] == [None] * 5


async def test_a_handler_may_tell_everyone_with_itself(sockets: Sockets) -> None:
    one, two = await sockets.server.join(ROOM, "one", "two")
    event = Custom(room=ROOM, user="one", event="wave")
    one.session.participant.say(ROOM, event)
    assert (len(one.heard("room:event")), len(two.heard("room:event"))) == (0, 1)
    one.session.participant.say(ROOM, event, everyone=True)
    await wait_all_tasks_blocked()
    assert (len(one.heard("room:event")), len(two.heard("room:event"))) == (1, 1)
