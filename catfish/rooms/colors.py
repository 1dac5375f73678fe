"""The colour of an account, by which others tell it at a glance."""

from __future__ import annotations

import math
from typing import Final

BLUES: Final = range(201, 250)
"""Hues that are hard to tell from each other: they are made darker and stronger."""


def color_of(text: str) -> str:
    """A colour such as `#5d2fc1`, always the same one for a text; PulseChat's clients know the accounts by them.

    Numbers are JavaScript's: 32 bits with a sign in shifts, remainders with the sign of what is divided.
    """
    hash = 0
    units = text.encode("utf-16-le", "surrogatepass")
    for low, high in zip(units[::2], units[1::2], strict=True):
        hash = (high << 8 | low) + (_int32(_int32(hash) << 5) - hash)
    hue = abs(math.fmod(hash, 360))
    saturation = 65 + math.fmod(hash, 25)
    lightness = 45 + abs(math.fmod(_int32(hash) >> 8, 15))
    if hue in BLUES:
        saturation = min(saturation + 15, 100)
        lightness = max(lightness - 10, 35)
    return _from_hsl(hue, max(saturation, 60), lightness)


def _int32(number: int) -> int:
    number &= 0xFFFF_FFFF
    return number - (1 << 32) if number >> 31 else number


def _from_hsl(hue: float, saturation: float, lightness: float) -> str:
    """Degrees and percents to hexadecimal red, green and blue (CSS Color 4, section 7.1)."""
    light = lightness / 100
    spread = saturation * min(light, 1 - light) / 100

    def channel(offset: int) -> int:
        k = math.fmod(offset + hue / 30, 12)
        return math.floor(255 * (light - spread * max(min(k - 3, 9 - k, 1), -1)) + 0.5)

    return f"#{channel(0):02x}{channel(8):02x}{channel(4):02x}"
