"""What a field of `Settings` knows about itself, and how it judges a value.

Apart from the settings themselves, so that they can be read as the plain list they are.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import attrs


def setting(
    default: Any,
    help: str,
    *,
    secret: bool = False,
    least: float | None = None,
    form: str | None = None,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """A field of `Settings`.

    Args:
        default: immutable.
        help: what it is, its unit, and the consequence when it is a limit.
        secret: never shown, neither by `repr` nor in messages.
        least: the smallest number that makes sense; by default whole numbers start at 1 and others above 0.
        form: what a good value looks like, where the type does not say it.
        check: raises ValueError for a value that is not of that form.
    """
    if isinstance(default, (list, dict)):
        raise TypeError("defaults are immutable")
    metadata = {"help": help, "secret": secret, "least": least, "form": form, "check": check}
    return attrs.field(default=default, repr=not secret, validator=_validate, metadata=metadata)


class Rate(NamedTuple):
    """How much of something there may be."""

    per_s: float
    """On average, in the long run."""
    burst: int
    """At once, by whoever has done nothing for a while."""


OFF: Final = "off"
_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(\d{1,9})")


def parse_rate(text: str) -> Rate | None:
    """Read a rate, such as `20/100`; None for `off`.

    Raises:
        ValueError: it is neither, or one of the numbers is 0.
    """
    if text == OFF:
        return None
    match = _RATE.fullmatch(text)
    if match is None or not float(match[1]) or not int(match[2]):
        raise ValueError(f"{text!r} is not a rate")
    return Rate(float(match[1]), int(match[2]))


def limit(default: str, help: str) -> Any:
    """A setting that limits a rate."""
    form = "RATE/BURST, such as 20/100 for 20 a second on average and 100 at once, or off"
    return setting(default, help, form=form, check=parse_rate)


def _validate(instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Raise ValueError, with the field's name and what would be right, for a value out of its range."""
    if value is None:
        return
    check = field.metadata["check"]
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            least = field.metadata["least"]
            if not (math.isfinite(value) and (value > 0 if least is None else value >= least)):
                raise ValueError("out of range")
        elif check is not None:
            check(value)
    except ValueError:
        shown = "" if field.metadata["secret"] else f" is {value!r}; it"
        raise ValueError(f"{field.name}{shown} must be {expected(field)}") from None


def plain_type(field: attrs.Attribute[Any]) -> Any:
    """The type of a setting without the None that says that it may be left out."""
    choices = [choice for choice in get_args(field.type) if choice is not NoneType]
    return choices[0] if get_origin(field.type) is UnionType else field.type


def expected(field: attrs.Attribute[Any]) -> str:
    """What a value of the setting must be, in words that follow "must be"."""
    kind = plain_type(field)
    least = field.metadata["least"]
    if field.metadata["form"] is not None:
        return str(field.metadata["form"])
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if kind is int:
        return f"a whole number, {1 if least is None else least:g} or more"
    if kind is float:
        return "a number above 0" if least is None else f"a number, {least:g} or more"
    if get_origin(kind) is tuple:
        return "a list of texts (separated by commas in the environment)"
    return {bool: "true or false", Path: "a path", str: "a text"}[kind]


# Forms of values: each raises ValueError for one that is not of it


def parse_origins(texts: tuple[str, ...]) -> None:
    for text in texts:
        if text != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://(\[[\da-f:.]+\]|[^\s/?#@:\[\]]+)(:\d+)?", text):
            raise ValueError(f"{text!r} is not an origin")


def parse_networks(texts: tuple[str, ...]) -> None:
    for text in texts:
        if text != "unix":
            ipaddress.ip_network(text)


def parse_names(texts: tuple[str, ...]) -> None:
    for text in texts:
        if not re.fullmatch(r"[\w.-]+(@/[^#\s]*)?(#/\S*)?", text):
            raise ValueError(f"{text!r} is not NAME, NAME@PATH or NAME@PATH#NAMESPACE")


def matches(pattern: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not re.match(pattern, text):
            raise ValueError

    return check
