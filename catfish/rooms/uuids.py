"""UUIDs (RFC 9562) of conversations and messages.

A conversation's is drawn at random. A message's says where the message is, so that it needs no column and no index: it
is one of version 8 (section 5.8, "custom") with the room's number in the bits before the variant and the message's
sequence number behind it.
"""

from __future__ import annotations

import uuid
from typing import Final

NUMBER_BITS: Final = 60
SEQ_BITS: Final = 62
_VERSION: Final = 8
_VARIANT: Final = 0b10


def draw_uuid() -> str:
    return str(uuid.uuid4())


def canonical_uuid(text: str) -> str | None:
    """The form in which UUIDs are stored and compared, lower case and with hyphens; None when it is none."""
    if len(text) != 36:
        return None
    try:
        found = str(uuid.UUID(text))
    except ValueError:
        return None
    return found if found == text.lower() else None


def message_uuid(number: int, seq: int) -> str:
    """The UUID of a message in the room of that number.

    Raises:
        ValueError: a number is negative or too large.
    """
    if number >> NUMBER_BITS or seq >> SEQ_BITS:
        raise ValueError(f"message {seq} of room {number} has no UUID")
    high, low = number >> 12, number & 0xFFF
    return str(uuid.UUID(int=high << 80 | _VERSION << 76 | low << 64 | _VARIANT << 62 | seq))


def parse_message_uuid(text: str) -> tuple[int, int] | None:
    """The room's number and the sequence number; None when it is no message's."""
    canonical = canonical_uuid(text)
    if canonical is None:
        return None
    bits = uuid.UUID(canonical).int
    if bits >> 76 & 0xF != _VERSION or bits >> 62 & 0b11 != _VARIANT:
        return None
    return (bits >> 80) << 12 | bits >> 64 & 0xFFF, bits & (1 << SEQ_BITS) - 1
