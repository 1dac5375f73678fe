"""Whose a session is: its id begins with the tag of the process that made it."""

from __future__ import annotations

import re
import secrets
from typing import Final

TAG_CHARS: Final = 4
_TAG: Final = re.compile(rf"[A-Za-z0-9_-]{{{TAG_CHARS}}}")


def draw_tag() -> str:
    """A name for a process; it is no secret, but a new process should not have that of an old one."""
    return secrets.token_urlsafe(TAG_CHARS * 3 // 4)


def draw_sid(tag: str) -> str:
    """A session id: the tag, and twenty characters that nobody can guess (120 bits)."""
    return tag + secrets.token_urlsafe(15)


def tag_of(sid: str) -> str | None:
    """The tag of the process that made this id, if one of ours did. Safe as a file's name, whoever wrote the id."""
    return sid[:TAG_CHARS] if _TAG.fullmatch(sid[:TAG_CHARS]) else None
