"""What several vocabularies need: values out of payloads, texts out of values, times."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from catfish.rooms.events import Event
from catfish.rooms.policy import NAME_CHARS_MAX, bad_request

PING: Final = "ping"
"""An event of this name is answered with its first argument in every vocabulary, and chooses none: for people and load
tools."""
TEXT_KEYS: Final = ("content", "text", "body", "messageContent", "message")
"""Where the clients of the five vocabularies keep the text of a message."""
CONVERSATION_KEYS: Final = ("room", "chatId", "conversationId")
"""A `send-message` that has one of these is PulseChat's; without them it is Catfish's."""


def first(args: Sequence[Any]) -> Any:
    """The first argument; a missing one is null."""
    return args[0] if args else None


def is_for_conversation(args: Sequence[Any]) -> bool:
    """Whether a `send-message` is PulseChat's."""
    payload = first(args)
    return isinstance(payload, dict) and any(key in payload for key in CONVERSATION_KEYS)


def payload_of(args: Sequence[Any]) -> dict[str, Any]:
    """The first argument, which must be an object."""
    payload = first(args)
    if not isinstance(payload, dict):
        raise bad_request("payload", "must be an object")
    return payload


def text_at(payload: dict[str, Any], field: str) -> str:
    """A field that must be there and be text."""
    value = payload.get(field)
    if value is None:
        raise bad_request(field, "is required")
    if not isinstance(value, str):
        raise bad_request(field, "must be text")
    return value


def text_in(value: Any, chars_max: int) -> str:
    """The text of a message in a shape that nobody checked; empty when there is none."""
    if isinstance(value, dict):
        for key in TEXT_KEYS:
            text = value.get(key)
            if isinstance(text, str):
                return text[:chars_max]
        return ""
    return value[:chars_max] if isinstance(value, str) else ""


def name_in(value: Any) -> str | None:
    """A text as a name that the domain takes (`Policy.name`), cut and cleaned where needed; None when none is left."""
    if not isinstance(value, str):
        return None
    value = value[: 4 * NAME_CHARS_MAX]
    cleaned = "".join(char for char in value if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"})
    return cleaned.strip()[:NAME_CHARS_MAX].strip() or None


def own(event: Event, vocabulary: str) -> tuple[Any] | None:
    """The value that the sender gave to those who speak the same vocabulary, in a tuple, as it may be null itself."""
    origin = event.origin
    return (origin[1],) if origin is not None and origin[0] == vocabulary else None


def iso(at_ms: int) -> str:
    """A time in milliseconds since the epoch as JavaScript writes it: `2025-01-02T03:04:05.678Z`."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def ms_of(text: Any) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 time; None when it is none, or lies before the epoch."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        time = datetime.fromisoformat(text)
        at_ms = round((time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return at_ms if at_ms >= 0 else None
