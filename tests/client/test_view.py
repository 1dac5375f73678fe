"""What the terminal shows, and how it understands what is typed: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.client.lines import COMMANDS, Act, Ask, Delete, Edit, Mistake, React, Say, parse_line
from catfish.client.text import COLOURS, colour_of, shorten, visible
from catfish.client.view import TYPING_S, View, help_lines
from catfish.wire.native import Event


def at(hour: int, minute: int, day: int = 20) -> int:
    return round(datetime(2026, 11, day, hour, minute, tzinfo=UTC).timestamp() * 1000)


def message(seq: int, content: str, user: str = "u-ada", **more: Any) -> dict[str, Any]:
    basic = {"room": "r", "seq": seq, "id": seq, "user": user, "name": user[2:], "content": content}
    return {**basic, "createdAt": at(12, 3), **more}


def joined(*messages: dict[str, Any], members: tuple[str, ...] = ("u-me", "u-ada"), **room: Any) -> dict[str, Any]:
    return {
        "room": {"id": "lobby", "kind": "open", "seq": len(messages), "createdAt": 1, **room},
        "members": [{"user": user, "name": user[2:], "since": 1} for user in members],
        "messages": list(messages),
        "seq": len(messages),
    }


def view(**options: Any) -> View:
    view = View("u-me", zone=UTC, **options)
    view.enter(joined())
    return view


def tell(view: View, event: str, /, now_s: float = 0.0, **data: Any) -> list[str]:
    shown = view.event(Event(event, data), now_s)
    return [line.plain for line in [*shown.messages, *shown.notices]]


def test_a_message_shows_its_time_number_author_and_text() -> None:
    assert tell(view(), "chat:message", **message(1, "hello")) == [
        "── Friday 20 November 2026 ──",
        "12:03 #1 ada: hello",
    ]


def test_a_line_with_the_date_comes_where_a_day_begins() -> None:
    room = View("u-me", zone=UTC)
    first, second, third = (
        message(1, "late", createdAt=at(23, 59)),
        message(2, "early", createdAt=at(0, 1, 21)),
        message(3, "later", createdAt=at(0, 2, 21)),
    )
    assert [line.plain for line in room.enter(joined(first, second, third)).messages] == [
        "── Friday 20 November 2026 ──",
        "23:59 #1 ada: late",
        "── Saturday 21 November 2026 ──",
        "00:01 #2 ada: early",
        "00:02 #3 ada: later",
    ]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"editedAt": 5}, "12:03 #7 ada: text (edited)"),
        ({"deletedAt": 5, "content": ""}, "12:03 #7 ada: (deleted)"),
        ({"replyTo": 3}, "12:03 #7 ada: (to #3) text"),
        ({"reactions": {"👍": ["u-a", "u-b"], "🎉": ["u-a"]}}, "12:03 #7 ada: text  👍 2  🎉"),
        ({"data": {"style": "me"}}, "12:03 #7 * ada text"),
        ({"data": "anything"}, "12:03 #7 ada: text"),
        ({"seq": 0}, "12:03 ada: text"),
        ({"createdAt": None}, "#7 ada: text"),
        ({"createdAt": 10**30}, "#7 ada: text"),
        ({"content": "one\ntwo\r\nthree"}, "12:03 #7 ada: one\n            two\n            three"),
    ],
)
def test_what_else_is_known_of_a_message_is_shown(more: dict[str, Any], line: str) -> None:
    assert tell(view(), "chat:message", **{**message(7, "text"), **more})[-1] == line


def test_in_a_pipe_every_message_is_one_line_without_numbers_and_dates() -> None:
    room = view(one_line=True)
    assert tell(room, "chat:message", **message(1, "one\ntwo")) == ["12:03 ada: one⏎two"]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("room:joined", {"member": {"user": "u-bob", "name": "bob"}}, "  bob is here"),
        ("room:joined", {"member": {"user": "u-bob", "name": "bob"}, "returning": True}, "  bob is back"),
        ("room:left", {"user": "u-ada", "reason": "left"}, "  ada left"),
        ("room:left", {"user": "u-ada", "reason": "gone"}, "  ada lost the connection"),
        ("room:left", {"user": "u-ada", "reason": "kicked"}, "  ada was removed"),
        ("room:left", {"user": "u-me", "reason": "kicked"}, "  You were removed from the room."),
        ("room:ready", {}, "  You are both here."),
        ("room:closed", {}, "  The room was closed."),
        ("chat:edited", {"user": "u-ada", "seq": 3, "content": "better"}, "  ada changed #3: better"),
        ("chat:deleted", {"user": "u-ada", "seq": 3}, "  ada deleted #3"),
        ("chat:reacted", {"user": "u-ada", "seq": 3, "emoji": "👍", "on": True}, "  ada reacted 👍 to #3"),
        ("chat:reacted", {"user": "u-ada", "seq": 3, "emoji": "👍", "on": False}, "  ada took 👍 back from #3"),
        ("media:toggled", {"user": "u-ada", "device": "mic", "on": True}, "  ada switched the microphone on"),
        ("server:draining", {"reconnectAfterMs": 5}, "  The server is about to restart."),
        ("error", {"code": "x", "message": "too fast", "event": None}, "  Refused: too fast"),
        ("client:reset", {"room": "r"}, "  The room was made anew; this is another one with the same name."),
    ],
)
def test_what_happens_is_said_in_a_line(name: str, data: dict[str, Any], line: str) -> None:
    assert tell(view(), name, **data) == [line]


def test_what_a_terminal_cannot_show_is_left_out() -> None:
    for name in ("chat:read", "chat:typing", "room:event", "signal", "of:a:newer:server", "client:open"):
        assert tell(view(), name, user="u-ada") == []
    assert tell(view(), "room:joined", member={"user": "u-ada", "name": "ada"}) == []
    assert tell(view(), "room:joined", member={"user": "u-me", "name": "me"}) == []


def test_a_lost_connection_is_said_once_and_so_is_its_return() -> None:
    room = view()
    assert tell(room, "client:reconnecting", reason="server restarts", code=1012, retryInMs=5) == [
        "  Connection lost (server restarts). Trying to reconnect…"
    ]
    assert tell(room, "client:reconnecting", reason="refused", code=1006, retryInMs=5) == []
    assert "reconnecting…" in room.toolbar(0)
    members = [{"user": user, "name": user[2:]} for user in ("u-me", "u-bob")]
    changed = [message(1, "new text", editedAt=5), message(2, "", deletedAt=5)]
    assert tell(room, "client:resumed", members=members, changed=changed) == [
        "  ada changed #1: new text",
        "  ada deleted #2",
        "  Connected again; nothing was missed.",
        "  bob is here",
        "  ada left",
    ]
    assert "reconnecting…" not in room.toolbar(0)
    assert tell(room, "client:resumed", members=members, changed=[]) == []


def test_entering_says_where_one_is_and_who_else() -> None:
    def said(**options: Any) -> str:
        return View("u-me", zone=UTC).enter(joined(**options)).notices[0].plain

    assert said() == "  In lobby. Here: ada. /help lists what you can type."
    assert said(members=("u-me",)) == "  In lobby. Nobody else is here. /help lists what you can type."
    assert said(name="The Den", code="k7m2qa").startswith("  In The Den, code k7m2qa. ")
    assert "and 3 more" in said(members=tuple(f"u-{number}" for number in range(11)))


def test_the_toolbar_tells_who_is_typing_until_it_fades() -> None:
    room = view()
    assert room.toolbar(0) == "lobby · 2 here"
    tell(room, "chat:typing", now_s=10, user="u-ada", on=True)
    tell(room, "chat:typing", now_s=10, user="u-me", on=True)
    assert room.toolbar(11, waiting=2) == "lobby · 2 here · 2 to be sent · ada is typing…"
    tell(room, "chat:typing", now_s=11, user="u-bob", on=True)
    assert "ada, u-bob are typing…" in room.toolbar(12)
    tell(room, "chat:typing", now_s=12, user="u-bob", on=False)
    assert "ada is typing…" in room.toolbar(12)
    assert room.toolbar(10 + TYPING_S) == "lobby · 2 here"
    tell(room, "chat:typing", now_s=20, user="u-ada", on=True)
    tell(room, "chat:message", now_s=20, **message(1, "done"))
    assert room.toolbar(20) == "lobby · 2 here"


def test_two_people_with_one_name_are_told_apart() -> None:
    room = View("u-me", zone=UTC)
    members = [{"user": f"u-{number}-abcd{number}", "name": "ada"} for number in (1, 2)]
    room.enter({**joined(), "members": [{"user": "u-me", "name": "ada"}, *members]})
    assert room.who().plain == "  ada (you), ada·bcd1, ada·bcd2"
    lines = tell(room, "chat:message", **message(1, "it is me", user="u-1-abcd1", name="ada"))
    assert lines[-1] == "12:03 #1 ada·bcd1: it is me"


def test_numbers_for_edit_react_and_more_are_kept() -> None:
    room = View("u-me", zone=UTC)
    room.enter(joined(message(5, "a"), message(6, "mine", user="u-me"), message(7, "b")))
    assert (room.oldest_seq, room.last_seq, room.my_last_seq) == (5, 7, 6)
    earlier = room.earlier({"messages": [message(3, "c", user="u-me"), message(4, "d")], "more": True})
    assert [line.plain for line in earlier.messages][:2] == ["  Earlier:", "── Friday 20 November 2026 ──"]
    assert (room.oldest_seq, room.last_seq, room.my_last_seq) == (3, 7, 6)
    tell(room, "chat:deleted", user="u-me", seq=6)
    assert room.my_last_seq == 0
    assert [line.plain for line in room.earlier({"messages": [], "more": False}).notices] == [
        "  There is nothing earlier."
    ]


HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\r\b\x00\u202eevil\u2066\ufeff\ud800\u2028"


def test_no_text_of_others_reaches_the_terminal_as_a_command() -> None:
    room = View("u-me", zone=UTC)
    hostile: dict[str, Any] = message(1, HOSTILE, user="u-" + HOSTILE, name=HOSTILE, replyTo=HOSTILE)
    hostile |= {"reactions": {HOSTILE: [HOSTILE]}}
    member = {"user": "u-x" + HOSTILE, "name": HOSTILE}
    shown = room.enter({**joined(hostile, name=HOSTILE, code=HOSTILE), "members": [member]})
    lines = [line.plain for line in [*shown.messages, *shown.notices]] + [room.who().plain, room.toolbar(0)]
    events: dict[str, dict[str, Any]] = {
        "chat:message": hostile,
        "room:joined": {"member": {"user": "u-y" + HOSTILE, "name": HOSTILE}},
        "chat:edited": {"user": HOSTILE, "seq": HOSTILE, "content": HOSTILE},
        "chat:deleted": {"user": HOSTILE, "seq": HOSTILE},
        "chat:reacted": {"user": HOSTILE, "seq": HOSTILE, "emoji": HOSTILE, "on": True},
        "media:toggled": {"user": HOSTILE, "device": HOSTILE, "on": True},
        "error": {"message": HOSTILE},
        "client:reconnecting": {"reason": HOSTILE},
        "room:left": {"user": "u-x" + HOSTILE, "reason": HOSTILE},
    }
    for name, data in events.items():
        told = tell(room, name, **data)
        assert told
        lines += told
    for line in lines:
        assert not set(line) & set("\x1b\x07\x9b\r\b\x00\u202e\u2066\ufeff\ud800\u2028"), line
        line.encode()


def test_markup_of_others_is_text() -> None:
    shown = view().event(Event("chat:message", message(1, "[red]not red[/red] :smile:")), 0)
    assert shown.messages[-1].plain.endswith("ada: [red]not red[/red] :smile:")
    assert not any("red" in str(span.style) for span in shown.messages[-1].spans if "bright" not in str(span.style))


def test_nobody_can_write_a_line_that_looks_like_anothers_message() -> None:
    line = tell(view(), "chat:message", **message(1, "x\n12:04 #2 bob: I owe ada 100"))[-1]
    assert all(part.startswith("            ") for part in line.split("\n")[1:])


@given(st.text(), st.booleans())
def test_visible_text_has_nothing_that_a_terminal_obeys(text: str, lines: bool) -> None:
    shown = visible(text, lines=lines)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029")
    assert lines or "\n" not in shown
    assert not any((ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in shown)


def test_ordinary_text_of_all_scripts_stays_as_it_is() -> None:
    for text in ("hello", "Grüße", "שלום", "नमस्ते", "こんにちは", "👩‍👩‍👧‍👦", "❤️", "e\u0301"):
        assert visible(text) == text
    assert visible("a\tb") == "a    b"
    assert len(visible("z" + "\u0301" * 500)) == 7
    assert visible("\U0001f3f4\U000e0067\U000e007f") == "\U0001f3f4"


def test_a_user_has_the_same_colour_in_every_run() -> None:
    assert (colour_of("u-ada"), colour_of("u-bob")) == (colour_of("u-ada"), colour_of("u-bob"))
    assert {colour_of(f"u-{number}") for number in range(500)} == set(COLOURS)
    assert shorten("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("", None),
        ("   ", None),
        ("hello", Say("hello")),
        ("  hello there ", Say("hello there")),
        ("//etc/passwd", Say("/etc/passwd")),
        ("and/or", Say("and/or")),
        ("/me waves", Act("waves")),
        ("/help", Ask("/help")),
        ("/WHO", Ask("/who")),
        ("/more", Ask("/more")),
        ("/quit", Ask("/quit")),
        ("/edit better", Edit(None, "better")),
        ("/edit 12 better words", Edit(12, "better words")),
        ("/edit #12 better", Edit(12, "better")),
        ("/edit 12th time", Edit(None, "12th time")),
        ("/delete", Delete(None)),
        ("/delete 12", Delete(12)),
        ("/react 👍", React(None, "👍", True)),
        ("/react 12 👍", React(12, "👍", True)),
        ("/unreact 12 👍", React(12, "👍", False)),
    ],
)
def test_what_is_typed_is_understood(line: str, meaning: object) -> None:
    assert parse_line(line) == meaning


@pytest.mark.parametrize(
    "line", ["/nothing", "/", "/who me", "/me", "/edit", "/edit 12", "/delete x", "/react", "/react 5"]
)
def test_mistakes_are_explained_and_nothing_is_sent(line: str) -> None:
    assert isinstance(parse_line(line), Mistake)


@given(st.text())
def test_any_line_is_understood_or_explained(line: str) -> None:
    parse_line(line)
    parse_line("/" + line)


def test_help_lists_every_command() -> None:
    text = "\n".join(line.plain for line in help_lines())
    assert all(command in text for command in COMMANDS)
