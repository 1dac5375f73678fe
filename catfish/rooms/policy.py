"""Who may ask for what: the form of names, ids and texts, and who may do what to which message.

Every check raises `Rejected` with a message that names the field. Whether a room admits somebody is decided where it
cannot change under one's feet: in the store's transaction (`rooms.commands.Join`).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.model import RoomKind

ROOM_CHARS_MAX: Final = 128
USER_CHARS_MAX: Final = 128
NAME_CHARS_MAX: Final = 64
CODE_CHARS_MAX: Final = 12
CLIENT_ID_CHARS_MAX: Final = 128
EVENT_CHARS_MAX: Final = 64
EMOJI_CHARS_MAX: Final = 32
INTERESTS_MAX: Final = 16
INTEREST_CHARS_MAX: Final = 32
SEQ_MAX: Final = 2**53 - 1


def bad_request(field: str, problem: str) -> Rejected:
    return Rejected("bad_request", f"{field}: {problem}")


def _label(field: str, text: str, chars_max: int) -> str:
    """A short text that people and programs compare: not empty, no control characters, no blanks around it."""
    if not text:
        raise bad_request(field, "must not be empty")
    if len(text) > chars_max:
        raise bad_request(field, f"has {len(text)} characters, at most {chars_max} are allowed")
    if text.isascii():
        if not text.isprintable():
            raise bad_request(field, "has control characters")
    elif any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise bad_request(field, "has control characters")
    if text[0].isspace() or text[-1].isspace():
        raise bad_request(field, "has blanks around it")
    return text


@lru_cache(maxsize=1024)
def _event(text: str) -> str:
    """Names of events are few, and each comes with every message of its kind."""
    return _label("event", text, EVENT_CHARS_MAX)


class Policy:
    """The checks, with the limits of one server."""

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def label(self, text: str, field: str, chars_max: int) -> str:
        """Any short text that people and programs compare."""
        return _label(field, text, chars_max)

    def room(self, text: str, field: str = "room") -> str:
        return _label(field, text, ROOM_CHARS_MAX)

    def code(self, text: str) -> str:
        return _label("code", text.strip(), CODE_CHARS_MAX)

    def user(self, text: str, field: str = "user") -> str:
        return _label(field, text, USER_CHARS_MAX)

    def name(self, text: str) -> str:
        return _label("name", text.strip(), NAME_CHARS_MAX)

    def event(self, text: str) -> str:
        return _event(text)

    def client_id(self, text: str | None) -> str | None:
        return None if text is None else _label("clientId", text, CLIENT_ID_CHARS_MAX)

    def emoji(self, text: str) -> str:
        return _label("emoji", text, EMOJI_CHARS_MAX)

    def content(self, text: str, field: str = "content") -> str:
        """The text of a message: all characters but NUL and halves of surrogate pairs, which Postgres cannot hold."""
        chars_max = self.settings.content_chars_max
        if not text:
            raise bad_request(field, "must not be empty")
        if len(text) > chars_max:
            raise bad_request(field, f"has {len(text)} characters, at most {chars_max} are allowed")
        if "\0" in text:
            raise bad_request(field, "has a NUL character")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise bad_request(field, "has half a surrogate pair") from None
        return text

    def capacity(self, kind: RoomKind, capacity: int | None) -> int | None:
        if kind is RoomKind.MATCHED:
            return 2
        if capacity is None:
            return None
        if not 1 <= capacity <= self.settings.room_capacity_max:
            raise bad_request("capacity", f"is {capacity}, from 1 to {self.settings.room_capacity_max} are allowed")
        return capacity

    def interests(self, interests: list[str]) -> tuple[str, ...]:
        """Each once, compared without regard to case."""
        if len(interests) > INTERESTS_MAX:
            raise bad_request("interests", f"are {len(interests)}, at most {INTERESTS_MAX} are allowed")
        return tuple(dict.fromkeys(_label("interests", each.strip().lower(), INTEREST_CHARS_MAX) for each in interests))

    def limit(self, limit: int | None) -> int:
        """The size of a page."""
        if limit is None:
            return self.settings.history_page_default
        if not 0 <= limit <= self.settings.history_page_max:
            raise bad_request("limit", f"is {limit}, from 0 to {self.settings.history_page_max} are allowed")
        return limit

    def seq(self, field: str, seq: int, least: int = 1) -> int:
        if not least <= seq <= SEQ_MAX:
            raise bad_request(field, f"is {seq}, from {least} to {SEQ_MAX} are allowed")
        return seq
