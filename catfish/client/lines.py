"""What a person types at the prompt, understood."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

COMMANDS: Final = {
    "/help": ("", "this list"),
    "/who": ("", "who is here"),
    "/more": ("", "earlier messages"),
    "/me": ("TEXT", "say what you do"),
    "/edit": ("[NUMBER] TEXT", "change a message of yours, the last one when no number is given"),
    "/delete": ("[NUMBER]", "delete a message of yours, the last one when no number is given"),
    "/react": ("[NUMBER] EMOJI", "react to a message, the last one when no number is given"),
    "/unreact": ("[NUMBER] EMOJI", "take a reaction back"),
    "/quit": ("", "leave (Ctrl-D does the same)"),
}
"""Each command, what it takes, and what it does. Two slashes begin a message that begins with one."""


class Say(NamedTuple):
    text: str


class Act(NamedTuple):
    """`/me`."""

    text: str


class Edit(NamedTuple):
    seq: int | None
    text: str


class Delete(NamedTuple):
    seq: int | None


class React(NamedTuple):
    seq: int | None
    emoji: str
    on: bool


class Ask(NamedTuple):
    """A command without arguments, by its name."""

    command: str


class Mistake(NamedTuple):
    message: str


Line = Say | Act | Edit | Delete | React | Ask | Mistake | None

_NUMBERED: Final = re.compile(r"#?(?P<seq>[0-9]{1,15})(?:\s+|$)(?P<rest>.*)", re.DOTALL)


def parse_line(line: str) -> Line:
    """None for a line without anything in it."""
    text = line.strip()
    if not text:
        return None
    if not text.startswith("/") or text.startswith("//"):
        return Say(text.removeprefix("/") if text.startswith("//") else text)
    command, _, rest = text.partition(" ")
    return _parse_command(command.lower(), rest.strip())


def _parse_command(command: str, rest: str) -> Line:
    if command not in COMMANDS:
        return Mistake(f"There is no command {command}; /help lists them. A message may begin with two slashes.")
    takes, _ = COMMANDS[command]
    seq: int | None = None
    if "[NUMBER]" in takes and (found := _NUMBERED.fullmatch(rest)):
        seq, rest = int(found["seq"]), found["rest"].strip()
    if bool(rest) != bool(takes.removeprefix("[NUMBER]")):
        return Mistake(f"It is {command} {takes}".rstrip() + ".")
    match command:
        case "/me":
            return Act(rest)
        case "/edit":
            return Edit(seq, rest)
        case "/delete":
            return Delete(seq)
        case "/react" | "/unreact":
            return React(seq, rest, command == "/react")
    return Ask(command)
