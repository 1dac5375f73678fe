"""The refusals that the store answers, in one place, so that every path words them alike."""

from __future__ import annotations

from typing import Any

import msgspec

from catfish.errors import Rejected
from catfish.rooms.commands import Command

INT8_MAX = 2**63 - 1


def no_such_room(room: str | int) -> Rejected:
    return Rejected("no_such_room", f"there is no room {room!r}")


def no_such_code(code: str | None) -> Rejected:
    return Rejected("no_such_code", f"there is no room with the code {code!r}")


def room_closed() -> Rejected:
    return Rejected("room_closed", "the room was closed")


def room_full(capacity: int) -> Rejected:
    return Rejected("room_full", f"the room holds {capacity} at most")


def code_taken() -> Rejected:
    return Rejected("code_taken", "another room has that code")


def id_taken() -> Rejected:
    return Rejected("forbidden", "another room has that id")


def kicked() -> Rejected:
    return Rejected("kicked", "you were removed from the room")


def oneself() -> Rejected:
    return Rejected("forbidden", "user: nobody moderates oneself")


def outranked() -> Rejected:
    return Rejected("forbidden", "user: only who stands above somebody moderates them")


def no_such_member(user: str) -> Rejected:
    return Rejected("no_such_member", f"{user!r} is not in the room")


def no_such_message(seq: int) -> Rejected:
    return Rejected("no_such_message", f"there is no message {seq}")


def not_your_message() -> Rejected:
    return Rejected("not_your_message", "only its author may change a message")


def cannot_be_stored(command: Command, detail: str = "") -> Rejected:
    """What to answer to a command that Postgres cannot take; names the field when it can be found."""
    return unstorable(command) or Rejected("bad_request", detail or "the database cannot store this")


def unstorable(command: Command) -> Rejected | None:
    """The refusal of a command with a value that no column can hold, None when all its values can be stored.

    Postgres has no NUL in text, UTF-8 has no lone surrogates, and integers have 64 bits.
    """
    for name in command.__struct_fields__:
        reason = _unstorable_value(getattr(command, name), as_json=name == "data")
        if reason is not None:
            return Rejected("bad_request", f"{name}: {reason}")
    return None


def _unstorable_value(value: Any, *, as_json: bool) -> str | None:
    if as_json:
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            return f"cannot be written as JSON ({error})"
        return None
    if isinstance(value, tuple):
        return next((reason for item in value if (reason := _unstorable_value(item, as_json=False))), None)
    if isinstance(value, str):
        if "\x00" in value:
            return "must not contain the character NUL"
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must be text that UTF-8 can hold"
    elif isinstance(value, int) and not -INT8_MAX <= value <= INT8_MAX:
        return "must be an integer of 64 bits"
    return None
