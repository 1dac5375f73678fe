"""Whatever a client sends, it ends nothing, raises nothing but refusals, and nothing wrong reaches the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.contracts import catfish, chatpoc, peerprep, pulsechat, yum
from catfish.contracts.registry import load_vocabularies
from tests.contracts.harness import Heard, Socket, Sockets
from tests.server.harness import Client, start_server

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
EVENTS = {
    "catfish": list(catfish.HANDLERS),
    "yum": list(yum.HANDLERS),
    "chatpoc": list(chatpoc.HANDLERS),
    "pulsechat": list(pulsechat.HANDLERS),
    "peerprep": list(peerprep.HANDLERS),
}
FIELDS = {
    "catfish": ["userName", "userId", "messageContent"],
    "yum": ["roomId", "userId", "content"],
    "chatpoc": ["code", "nickname", "roomCode", "sender", "content"],
    "pulsechat": [
        "room",
        "chatId",
        "conversationId",
        "message",
        "body",
        "image",
        "id",
        "createdBy",
        "createdAt",
        "name",
    ],
    "peerprep": ["userId", "username", "roomId", "message"],
}
ROOM, CODE = "lobby", "{code}"
"""A room with members in it; the code stands for that of one."""

GOOD: dict[str, list[dict[str, Any]]] = {
    "catfish": [{"userName": "Ann", "userId": "ann", "messageContent": "hi"}],
    "yum": [{"roomId": ROOM, "userId": "ann", "content": "hi"}],
    "chatpoc": [{"code": CODE, "nickname": "ann"}, {"roomCode": CODE, "sender": "ann", "content": "hi"}],
    "pulsechat": [
        {"room": ROOM, "message": {"body": "hi", "image": None, "createdBy": {"id": "ann", "name": "Ann"}}},
        {"chatId": ROOM, "message": "hi"},
        {"conversationId": ROOM, "body": "hi", "createdBy": {"id": "ann"}},
    ],
    "peerprep": [{"userId": "me", "username": "Me", "roomId": ROOM}, {"message": {"senderId": "me", "text": "hi"}}],
}

texts = st.text(max_size=8) | st.sampled_from(
    ["", " ", "\0", "\n", "a\u2028b", "~1", ROOM, CODE, "me", "x" * 200, "x" * 5001, "İ", "2025-01-02T03:04:05Z"]
)
scalars = st.none() | st.booleans() | st.integers() | st.just(10**40) | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def payloads(name: str) -> st.SearchStrategy[Any]:
    """Anything; objects with fields of the vocabulary, good and bad ones within each other; good ones with a change."""
    fields = st.sampled_from(FIELDS[name])
    objects = st.dictionaries(fields, values | st.sampled_from([ROOM, CODE, "text"]), max_size=6)
    nested = st.builds(lambda outer, key, inner: {**outer, key: inner}, objects, fields, objects)
    changed = st.builds(
        lambda good, change: {**good, **change},
        st.sampled_from(GOOD[name]),
        st.dictionaries(fields, values, max_size=1),
    )
    return values | objects | nested | changed | changed


def attacks(name: str) -> st.SearchStrategy[list[tuple[str, list[Any], bool]]]:
    event = st.sampled_from([*EVENTS[name], *EVENTS[name], "ping", "no-such-event", ""])
    return st.lists(st.tuples(event, st.lists(payloads(name), max_size=3), st.booleans()), max_size=8)


def is_text(value: Any, chars_max: int = 5000) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= chars_max


def is_system(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message["event"] == message["eventType"] in peerprep.TEXTS
        and is_text(message["userId"], 128)
        and is_text(message["username"], 128)
        and message["text"] == f"{message['username']} {peerprep.TEXTS[message['event']]}"
    )


def is_pulse(message: Any) -> bool:
    inner = message.get("message")
    fields = inner if isinstance(inner, dict) else message
    texts = [message.get(key) for key in ("body", "message", "content", "text")]
    return any(is_text(text) for text in [*texts, fields.get("body"), fields.get("image")])


CHECKS: dict[str, Callable[..., bool]] = {
    # Relayed as they came
    "user-joined": lambda value: True,
    "user-disconnected": lambda value: True,
    "camera-toggled": lambda value: True,
    "mic-toggled": lambda value: True,
    "receive-message": lambda value: True,
    "receive_message": lambda value: True,
    "stream-started": lambda: True,
    # Everything else has its form
    "ready-to-join": lambda: True,
    "userJoined": lambda user: user["roomId"] == ROOM and is_text(user["userId"], 128),
    "userLeft": lambda user: user["roomId"] == ROOM and is_text(user["userId"], 128),
    "receiveMessage": lambda each: (
        each["roomId"] == ROOM
        and is_text(each["userId"], 128)
        and is_text(each["content"])
        and ISO.fullmatch(each["timestamp"]) is not None
        and isinstance(each["seq"], int)
    ),
    "room:participant-joined": lambda member: isinstance(member["nickname"], str),
    "chat:message": lambda each: (
        is_text(each["sender"], 64) and is_text(each["content"]) and ISO.fullmatch(each["createdAt"]) is not None
    ),
    "MESSAGE": is_pulse,
    "system_message": is_system,
}


class Cast:
    """Members of every vocabulary, and one who sends anything."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.victims: list[Socket] = []
        self.natives: list[Client] = []
        self.code = ""

    async def assemble(self, name: str) -> Socket:
        server = self.sockets.server
        first: dict[str, tuple[str, list[Any]]] = {
            "yum": ("joinRoom", [{"roomId": ROOM, "userId": "yuri"}]),
            "peerprep": ("join_room", [{"userId": "pia", "username": "Pia", "roomId": ROOM}]),
            "pulsechat": ("JOIN", [{"room": ROOM}]),
            "catfish": ("join-room", ["carla"]),
        }
        chat = self.sockets.connect()
        [answer] = await chat.ask("room:create") or []
        self.code = answer["room"]["code"]
        first["chatpoc"] = ("room:join", [{"code": self.code}])
        self.victims.append(chat)
        for event, args in first.values():
            victim = self.sockets.connect()
            await victim.tell(event, *args)
            self.victims.append(victim)
        for subprotocol, place in ((None, {"room": ROOM}), ("catfish.v1.msgpack", {"code": self.code})):
            native = server.connect(subprotocol)
            await native.ask("room:join", place)
            self.natives.append(native)
        attacker = self.sockets.connect()
        event, args = first[name]
        await attacker.tell(event, *args)
        for socket in [*self.victims, attacker]:
            socket.heard()
        return attacker

    async def check(self) -> None:
        await wait_all_tasks_blocked()
        for victim in self.victims:
            assert (victim.crash, victim.ended) == (None, None)
            assert victim.vocabulary is not None
            for event, *args in victim.heard():
                check = is_pulse if victim.vocabulary.name == "pulsechat" else CHECKS[event]
                assert check(*args), (event, args)
        for native in self.natives:
            assert native.connection.close_called is None
            for message in native.heard("chat:message"):
                assert is_text(message["content"])
                assert is_text(message["user"], 128)
            for joined in native.heard("room:joined"):
                assert is_text(joined["member"]["name"], 128)
        assert self.sockets.server.instance.supervisor.statistics().rooms_failed == 0


def with_code(value: Any, code: str) -> Any:
    if isinstance(value, dict):
        return {with_code(key, code): with_code(inner, code) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_code(inner, code) for inner in value]
    return code if value == CODE and isinstance(value, str) else value


async def attack(name: str, events: Sequence[tuple[str, list[Any], bool]]) -> list[Heard]:
    heard: list[Heard] = []
    async with trio.open_nursery() as nursery:
        cast = Cast(Sockets(await start_server(nursery)))
        attacker = await cast.assemble(name)
        for event, args, acknowledged in events:
            if attacker.ended:
                break
            arguments = [with_code(arg, cast.code) for arg in args]
            if acknowledged:
                assert len(attacker.request(event, *arguments)) <= 1
            else:
                attacker.emit(event, *arguments)
        await cast.check()
        assert attacker.crash is None
        heard = attacker.heard()
        if not attacker.ended:
            attacker.close()
        await trio.sleep(60)
        await cast.check()
        nursery.cancel_scope.cancel()
    return heard


@pytest.mark.parametrize("name", EVENTS)
def test_nothing_that_a_client_sends_is_more_than_refused(name: str) -> None:
    @settings(max_examples=60)
    @given(events=attacks(name))
    def play(events: list[tuple[str, list[Any], bool]]) -> None:
        trio.run(attack, name, events, clock=MockClock(autojump_threshold=0))

    play()


@given(
    event=st.sampled_from([event for events in EVENTS.values() for event in events]) | st.text(max_size=8),
    args=st.lists(values, max_size=3),
)
def test_at_most_one_vocabulary_claims_an_event_whatever_comes_with_it(event: str, args: list[Any]) -> None:
    claiming = [each.name for each in load_vocabularies(["all"], []) if each.claims(event, args)]
    assert len(claiming) == (1 if any(event in events for events in EVENTS.values()) else 0)
