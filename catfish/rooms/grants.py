"""What a token lets its bearer do, room by room: its claim `rooms`.

    "rooms": {"lobby": ["join", "read", "send"], "*": ["join", "read"]}

An entry of a room's own id decides about that room alone; `*` decides about every room without one. What is in neither
is refused. A token without the claim restricts nothing: what its bearer may do is then up to the room. A right here
never gives more than the room would, but for `moderate`, which makes a moderator of its bearer where it is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

JOIN: Final = "join"
READ: Final = "read"
SEND: Final = "send"
EMIT: Final = "emit"
MODERATE: Final = "moderate"

RIGHTS: Final = {
    JOIN: "enter the room",
    READ: "read its history",
    SEND: "send messages to it, edit and delete one's own, react",
    EMIT: "send events that are not stored: room:emit, typing, media, signals",
    MODERATE: "moderate it: remove, mute and ban members, delete messages of others",
}
"""Every right, and what it is a right to; `docs/authentication.md` lists the same."""
EVERY_ROOM: Final = "*"


class Grants:
    """Rights by room. Immutable, and equal to others that say the same.

    Args:
        rooms: by the id of a room, or `*`.

    Raises:
        ValueError: a right that there is none of; the text names it.
    """

    __slots__ = ("_others", "_rooms")

    def __init__(self, rooms: Mapping[str, Iterable[str]]) -> None:
        self._rooms = {room: _rights(room, names) for room, names in rooms.items()}
        self._others = self._rooms.pop(EVERY_ROOM, frozenset[str]())

    def allows(self, room: str, right: str) -> bool:
        """Whether the bearer may make use of `right`, one of `RIGHTS`, in the room with that id."""
        return right in self._rooms.get(room, self._others)

    def claim(self) -> dict[str, list[str]]:
        """The claim that says this."""
        rooms = {**self._rooms, EVERY_ROOM: self._others} if self._others else self._rooms
        return {room: [right for right in RIGHTS if right in rights] for room, rights in rooms.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grants) and (self._rooms, self._others) == (other._rooms, other._others)

    def __hash__(self) -> int:
        return hash((frozenset(self._rooms.items()), self._others))

    def __repr__(self) -> str:
        return f"Grants({self.claim()!r})"


def _rights(room: str, names: Iterable[str]) -> frozenset[str]:
    rights = frozenset(names)
    unknown = sorted(rights - RIGHTS.keys())
    if unknown:
        raise ValueError(f"{room[:128]!r} has {unknown[0][:32]!r}, which is no right; there are {', '.join(RIGHTS)}")
    return rights


def parse_grants(claim: Any) -> Grants | None:
    """Read the claim `rooms` as it is in a token; None for a token without it.

    Raises:
        ValueError: it is something else, which cannot be understood as no restriction; the text says what.
    """
    if claim is None:
        return None
    if not isinstance(claim, dict):
        raise ValueError("must be an object of lists of rights by room")
    for room, names in claim.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{room[:128]!r} must have a list of rights")
    return Grants(claim)
