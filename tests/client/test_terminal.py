"""The chat in a terminal, between a scripted server and a scripted person, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import trio
from rich.text import Text
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.client import Client, ClientClosed, ConnectFailed
from catfish.client.link import parse_url
from catfish.client.terminal import Chat, enter, no_connection, run
from catfish.errors import Close, Rejected, StartError
from tests.client.fake_server import FakeRoom, FakeServer
from tests.client.helpers import heard, open_client, refuse, swallow


class Person:
    """Types what the test says, and remembers what it was shown."""

    def __init__(self, interactive: bool = True) -> None:
        self.interactive = interactive
        self.toolbar = ""
        self.messages: list[str] = []
        self.notices: list[str] = []
        self._type, self._typed = trio.open_memory_channel[str](100)

    def type(self, *lines: str) -> None:
        for line in lines:
            self._type.send_nowait(line)

    def end(self) -> None:
        self._type.close()

    def running(self) -> AbstractContextManager[object]:
        return nullcontext()

    async def read(self) -> str | None:
        try:
            return await self._typed.receive()
        except trio.EndOfChannel:
            return None

    async def show(self, lines: Iterable[Text]) -> None:
        await trio.lowlevel.checkpoint()
        self.messages += [line.plain.split(" ", 2)[-1] for line in lines if not line.plain.startswith("──")]

    async def note(self, lines: Iterable[Text]) -> None:
        await trio.lowlevel.checkpoint()
        self.notices += [line.plain.strip() for line in lines]

    def refresh(self, toolbar: str) -> None:
        self.toolbar = toolbar


async def sit_down(client: Client, nursery: trio.Nursery, *, interactive: bool = True) -> Person:
    person = Person(interactive)
    chat = Chat(client, await enter(client, "lobby"), interactive, person)
    nursery.start_soon(chat.run)
    await wait_all_tasks_blocked()
    return person


async def test_a_person_reads_what_was_said_and_says_something(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.say("before")
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        assert person.messages == ["ada: before"]
        assert person.notices == ["In lobby. Nobody else is here. /help lists what you can type."]
        person.type("hello", "", "//slash")
        await wait_all_tasks_blocked()
        server.say("answer")
        await wait_all_tasks_blocked()
        assert person.messages[1:] == ["me: hello", "me: /slash", "ada: answer"]
        person.end()


async def test_commands_become_requests_on_the_right_messages(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    for number in range(5):
        server.say(f"m{number}")
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        for line in ("mine", "/me waves", "/edit better", "/edit 2 worse", "/delete 3", "/react 👍", "/unreact 1 🎉"):
            person.type(line)
        person.type("/more")
        await wait_all_tasks_blocked()
        ours = ("room", "clientId")
        asked = [
            (event, {key: value for key, value in data.items() if key not in ours})
            for event, data in server.session.heard[2:]
        ]
        assert asked == [
            ("chat:send", {"content": "mine"}),
            ("chat:send", {"content": "waves", "data": {"style": "me"}}),
            ("chat:edit", {"seq": 7, "content": "better"}),
            ("chat:edit", {"seq": 2, "content": "worse"}),
            ("chat:delete", {"seq": 3}),
            ("chat:react", {"seq": 7, "emoji": "👍", "on": True}),
            ("chat:react", {"seq": 1, "emoji": "🎉", "on": False}),
            ("chat:history", {"before": 3, "limit": 30}),
        ]
        person.type("/more", "/who", "/help", "/nonsense", "/quit")
    assert "There is nothing earlier." in person.notices
    assert "me (you)" in person.notices
    assert any("/react" in line for line in person.notices)
    assert any("There is no command /nonsense" in line for line in person.notices)


async def test_a_command_without_a_message_to_apply_it_to_is_explained(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        person.type("/edit text", "/react 👍", "/quit")
    assert person.notices[1:] == ["Refused: there is no such message yet"] * 2
    assert heard(server.session) == ["hello", "room:join", "room:leave"]


async def test_what_the_server_refuses_is_said_and_the_chat_goes_on(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        server.handlers["chat:send"] = refuse("bad_request")
        person.type("too long")
        await wait_all_tasks_blocked()
        del server.handlers["chat:send"]
        person.type("short", "/quit")
    assert person.notices[1:] == ["Refused: refused with bad_request"]
    assert person.messages == ["me: short"]


async def test_lines_typed_while_the_connection_is_lost_are_sent_afterwards_in_order(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        server.down = True
        await server.session.cut()
        person.type("one", "two")
        await trio.sleep(5)
        assert person.toolbar == "lobby · 1 here · reconnecting… · 2 to be sent"
        assert person.notices[-1] == "Connection lost. Trying to reconnect…"
        server.say("meanwhile")
        server.down = False
        await trio.sleep(30)
        assert person.notices[-1] == "Connected again; nothing was missed."
        assert person.messages == ["ada: meanwhile", "me: one", "me: two"]
        assert person.toolbar == "lobby · 1 here"
        person.end()


async def test_signs_of_typing_are_shown_until_they_fade(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        server.tell("lobby", "chat:typing", {"user": "u-ada", "on": True})
        await trio.sleep(1)
        assert "u-ada is typing…" in person.toolbar
        await trio.sleep(8)
        assert person.toolbar == "lobby · 1 here"
        person.end()


async def test_ones_own_typing_is_told_now_and_then_and_not_for_commands(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    chat = Chat(client, await enter(client, "lobby"), True, Person())
    for text in ("h", "he", "hel", ""):
        chat._typed(text)
    for text in ("/", "/w", ""):
        chat._typed(text)
    await trio.sleep(1)
    assert [data["on"] for event, data in server.session.heard if event == "chat:typing"] == [True, False]
    for text in ("a", "ab"):
        chat._typed(text)
        await trio.sleep(4)
    assert [data["on"] for event, data in server.session.heard if event == "chat:typing"] == [True, False, True, True]


async def end_of_chat(client: Client, act: Callable[[Person], Awaitable[None]], interactive: bool = True) -> str:
    """What the chat says when it ends with an error after the person did something."""
    error: BaseException = AssertionError("it ended without an error")
    try:
        async with trio.open_nursery() as nursery:
            await act(await sit_down(client, nursery, interactive=interactive))
    except* (StartError, ClientClosed) as group:
        error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def test_a_person_who_leaves_does_not_wait_for_a_server_that_is_away(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async def leave(person: Person) -> None:
        server.down = True
        await server.session.cut()
        person.type("never sent", "/quit")

    begun = trio.current_time()
    assert await end_of_chat(client, leave) == "1 message could not be sent"
    assert trio.current_time() - begun == pytest.approx(1)


async def test_a_script_waits_until_every_line_is_stored(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async with trio.open_nursery() as nursery:
        script = await sit_down(client, nursery, interactive=False)
        server.down = True
        await server.session.cut()
        script.type("one", "/help is just text", "")
        script.end()
        await trio.sleep(100)
        server.down = False
    assert [message["content"] for message in server.room().messages] == ["one", "/help is just text"]
    assert script.messages == ["one", "/help is just text"]


async def test_a_script_whose_lines_were_refused_fails(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["chat:send"] = refuse("bad_request")

    async def two_lines(script: Person) -> None:
        script.type("one", "two")
        script.end()

    said = await end_of_chat(client, two_lines, interactive=False)
    assert said == "2 of 2 lines refused: refused with bad_request"


@pytest.mark.parametrize(
    ("event", "data"),
    [("room:closed", {}), ("room:left", {"user": "u-me", "reason": "kicked"})],
)
async def test_the_end_of_the_room_is_the_end_of_the_chat(
    autojump_clock: MockClock, server: FakeServer, client: Client, event: str, data: dict[str, Any]
) -> None:
    async def end(person: Person) -> None:
        server.tell("lobby", event, data)

    assert await end_of_chat(client, end) == "you are no longer in lobby"


async def test_not_being_let_in_again_is_the_end_of_the_chat(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    async def cut(person: Person) -> None:
        server.handlers["room:join"] = refuse("room_full")
        await server.session.cut()

    said = await end_of_chat(client, cut)
    assert said == "the room does not let you in again: refused with room_full"


async def test_a_server_that_says_goodbye_for_good_is_the_end_of_the_chat(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.handlers["chat:send"] = swallow

    async def close(person: Person) -> None:
        person.type("unanswered")
        await server.session.close(1008, "not you")

    assert "not you" in await end_of_chat(client, close)


async def test_what_looks_like_a_code_is_tried_as_one_first(
    autojump_clock: MockClock, server: FakeServer, client: Client
) -> None:
    server.rooms["r-den"] = FakeRoom("r-den", kind="private", code="k7m2qa")
    assert (await enter(client, "k7m2qa"))["room"]["id"] == "r-den"
    assert (await enter(client, "cheese"))["room"]["id"] == "cheese"
    assert (await enter(client, "lobby1"))["room"]["id"] == "lobby1"
    assert [data for event, data in server.session.heard if event == "room:join"] == [
        {"code": "k7m2qa"},
        {"code": "cheese"},
        {"room": "cheese"},
        {"room": "lobby1"},
    ]
    server.handlers["room:join"] = refuse("room_full")
    with pytest.raises(Rejected):
        await enter(client, "k7m2qa")


def test_nobody_there_is_explained_with_the_command_that_starts_a_server() -> None:
    def said(url: str, reconnect: bool = True, code: str | None = None) -> str:
        return no_connection(parse_url(url), ConnectFailed(Close(1006, "no connection", reconnect), code))

    assert said("ws://localhost:8080").endswith("this starts one: catfish serve")
    assert said("ws://127.0.0.1:9000").endswith("this starts one: catfish serve --port 9000")
    assert said("unix:/tmp/c.sock").endswith("this starts one: catfish serve --bind unix:/tmp/c.sock")
    assert said("wss://chat.example.org") == "no connection"
    assert said("ws://localhost:8080", reconnect=False) == "no connection"
    assert "tokens" in said("ws://localhost:8080", reconnect=False, code="unauthorized")


async def test_what_is_no_address_is_explained() -> None:
    with pytest.raises(StartError, match="--url 'ftp://x': the scheme must be ws or wss"):
        await run("ftp://x", "lobby", "ada")


async def test_the_client_of_a_chat_is_closed_when_it_ends(autojump_clock: MockClock, server: FakeServer) -> None:
    async with open_client(server) as client, trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        person.type("/quit")
    await wait_all_tasks_blocked()
    assert server.session.closed == (1000, "bye")


async def test_bytes_that_are_no_text_do_no_harm(autojump_clock: MockClock, server: FakeServer, client: Client) -> None:
    async with trio.open_nursery() as nursery:
        person = await sit_down(client, nursery)
        person.type("caf\udce9", "/quit")
    assert person.messages == ["me: caf?"]
