"""docs/protocol.md says what the code does: events, fields, types, error codes, close codes, limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from catfish.config import Settings
from catfish.contracts import native, native_moderation
from catfish.errors import CLOSES, ERROR_CODES
from catfish.rooms import events, model, policy
from catfish.wire.native import DATA_DEPTH_MAX, ID_MAX, SUBPROTOCOLS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
SERVER_EVENTS = {
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type)
    and issubclass(kind, events.Event)
    and hasattr(kind, "name")
    and kind not in (events.MessageSent, events.Said, events.Announced)
    and kind not in (events.UserDisconnected, events.LimitsSpent, events.UsersApart)
}
ANSWERS = {
    "hello": native.Welcome,
    "room:create": native.RoomAnswer,
    "room:join": native.JoinAnswer,
    "room:match": native.MatchAnswer,
    "room:next": native.MatchAnswer,
    "room:members": native.MembersAnswer,
    "room:role": native_moderation.RoleAnswer,
    "room:invite": native_moderation.RoleAnswer,
    "room:mute": native_moderation.UntilAnswer,
    "room:ban": native_moderation.UntilAnswer,
    "room:report": native_moderation.ReportAnswer,
    "user:blocked": native_moderation.BlockedAnswer,
    "chat:send": native.SendAnswer,
    "chat:history": native.HistoryAnswer,
}


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\#{{1,4}} |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/protocol.md has no section {title!r}"
    return found[2]


def rows(text: str) -> dict[str, list[str]]:
    """Table rows by the code in their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in cells if row[0].startswith("`")}


def type_name(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.UnionType(types=types):
            names = [type_name(each) for each in types if not isinstance(each, msgspec.inspect.NoneType)]
            return " or ".join(names)
        case msgspec.inspect.EnumType(cls=cls):
            return " or ".join(f"`{each.value}`" for each in cls)
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in sorted(map(str, values)))
        case msgspec.inspect.ListType(item_type=item):
            return f"array of {type_name(item)}"
        case msgspec.inspect.DictType(value_type=value):
            return f"object of {type_name(value)}"
        case msgspec.inspect.StructType(cls=cls):
            return cls.__name__.lower()
        case msgspec.inspect.StrType():
            return "string"
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.AnyType():
            return "any"
        case _:
            raise AssertionError(f"no name for {kind}")


def fields(kind: type) -> dict[str, tuple[str, str]]:
    """Of a struct: wire name -> (type, "" or "optional")."""
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    return {
        field.encode_name: (type_name(field.type), "" if field.required else "optional")
        for field in described.fields
        if field.encode_name not in {"origin", "stamp", "userName"}
    }


def check_fields(kind: type, text: str, *, optional_matters: bool = True) -> None:
    documented = {name: tuple(cells[: 2 if optional_matters else 1]) for name, cells in rows(text).items()}
    expected = {name: cells[: 2 if optional_matters else 1] for name, cells in fields(kind).items()}
    assert documented == expected


@pytest.mark.parametrize("event", native.HANDLERS)
def test_every_request_is_described_with_its_fields(event: str) -> None:
    text = section(f"`{event}`")
    request = native.HANDLERS[event].request
    if request is Any:
        assert rows(text) == {}
        return
    asked, _, answered = text.partition("Reply")
    check_fields(request, asked)
    if event in ANSWERS:
        check_fields(ANSWERS[event], answered, optional_matters=False)
    else:
        assert answered.startswith(": `{}`"), f"the reply of {event}"


@pytest.mark.parametrize("event", SERVER_EVENTS)
def test_every_event_of_the_server_is_described_with_its_fields(event: str) -> None:
    title = f"`{event}` (from the server)" if event in native.HANDLERS else f"`{event}`"
    check_fields(SERVER_EVENTS[event], section(title))


def test_no_event_is_described_that_does_not_exist() -> None:
    described = set(re.findall(r"^#### `([^`]+)`", DOCUMENT, re.MULTILINE))
    assert described == {*native.HANDLERS, *SERVER_EVENTS, "chat:message", "server:draining", "error"}


@pytest.mark.parametrize("kind", [model.Room, model.Member, model.Message, native.Limits])
def test_every_shape_is_described(kind: type) -> None:
    check_fields(kind, section(kind.__name__.lower()), optional_matters=kind is not model.Member)


def test_the_error_codes_are_those_of_the_code() -> None:
    documented = {code: cells[0] for code, cells in rows(section("Error codes")).items()}
    assert documented == ERROR_CODES


def test_the_close_codes_are_those_of_the_code() -> None:
    documented = {int(code): cells for code, cells in rows(section("Close codes")).items()}
    assert documented == {close.code: [close.reason, "yes" if close.reconnect else "no"] for close in CLOSES}


def test_the_limits_are_those_of_the_code() -> None:
    documented = {name: cells[0] for name, cells in rows(section("Limits")).items()}
    for name, value in documented.items():
        if name in attrs.fields_dict(Settings):
            assert value == str(attrs.fields_dict(Settings)[name].default), name
    constants = {
        "room": policy.ROOM_CHARS_MAX,
        "user": policy.USER_CHARS_MAX,
        "name": policy.NAME_CHARS_MAX,
        "code": policy.CODE_CHARS_MAX,
        "clientId": policy.CLIENT_ID_CHARS_MAX,
        "event": policy.EVENT_CHARS_MAX,
        "emoji": policy.EMOJI_CHARS_MAX,
        "interests": policy.INTERESTS_MAX,
        "interest": policy.INTEREST_CHARS_MAX,
        "id": ID_MAX,
        "depth": DATA_DEPTH_MAX,
    }
    assert {name: documented[name] for name in constants} == {name: str(value) for name, value in constants.items()}


def test_the_subprotocols_are_named() -> None:
    for name in SUBPROTOCOLS:
        assert f"`{name}`" in DOCUMENT
