"""Other people's text, made harmless for a terminal."""

from __future__ import annotations

import unicodedata
import zlib
from typing import Final

_UNSAFE: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS: Final = frozenset("\u200c\u200d")
"""Format characters that emoji and several scripts need."""
_NAMES: Final = {"\x1b": "␛", "\r": "␍", "\n": "⏎", "\x7f": "␡", "\u2028": "⏎", "\u2029": "⏎", "\x85": "⏎"}
_MARKS_MAX: Final = 6
"""Combining marks on one character: more than any script needs, few enough not to run over other lines."""

COLOURS: Final = (
    "bright_blue",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
    "bright_red",
    "bright_yellow",
    "blue",
    "cyan",
    "green",
    "magenta",
    "yellow",
    "dark_orange",
)


def colour_of(user: str) -> str:
    """The same for the same user, in every run."""
    return COLOURS[zlib.crc32(user.encode("utf-8", "surrogatepass")) % len(COLOURS)]


def visible(text: str, *, lines: bool = False) -> str:
    """`text` with every character that could move the cursor or reorder text replaced by a visible one.

    That is control characters (escape sequences begin with one), format characters such as those that change the
    direction of writing, halves of surrogate pairs, and combining marks beyond a few.

    Args:
        text: anything.
        lines: keep line breaks, as `\\n`; else they are shown as a sign.
    """
    if text.isascii() and text.isprintable():
        return text
    if lines:
        text = text.replace("\r\n", "\n")
    shown: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MARKS_MAX:
            continue
        if char == "\n" and lines:
            shown.append(char)
        elif char == "\t":
            shown.append("    ")
        elif category not in _UNSAFE or char in _JOINERS:
            shown.append(char)
        elif not "\U000e0000" <= char <= "\U000e007f":  # tags: in flags of regions, and invisible anyway
            shown.append(_NAMES.get(char, "�"))
    return "".join(shown)


def shorten(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
