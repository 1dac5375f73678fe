"""Room ids and the codes that people read out to each other."""

from __future__ import annotations

import secrets
from typing import Final

CODE_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""Lower-case letters and digits without those that look alike (0 o, 1 i l)."""
CODE_LENGTH: Final = 6
CODES: Final = len(CODE_ALPHABET) ** CODE_LENGTH
"""887 million; a taken code is simply drawn again."""


def draw_code() -> str:
    """A code from the operating system's random source."""
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))


def normalise_code(text: str) -> str:
    """The form in which codes are stored and compared: they are looked up case-insensitively."""
    return text.strip().lower()


def draw_id(prefix: str) -> str:
    """An id that nobody can guess (96 bits), such as `r-…` for rooms and `s-…` for sessions."""
    return f"{prefix}-{secrets.token_urlsafe(12)}"
