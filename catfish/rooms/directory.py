"""What the server API asks of the store besides the rooms themselves: who is where, and what was answered before."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from catfish.rooms.commands import RoomRecord
from catfish.rooms.model import Member


class MembersPage(msgspec.Struct, kw_only=True):
    members: list[Member]
    """In the order in which they entered."""
    next: int | None
    """Where the next page begins; None: there is none."""


class PresentIn(msgspec.Struct, kw_only=True):
    """A room, and a user as a member of it."""

    record: RoomRecord
    member: Member


class Directory(Protocol):
    """Who is where. Every method may raise `StoreUnavailable`."""

    async def members(self, number: int, after: int, limit: int) -> MembersPage:
        """A page of a room's members, from `next` of the page before on; 0 for the first."""
        ...

    async def presence(self, user: str, limit: int) -> list[PresentIn]:
        """The open rooms in which a user is, on whatever instance, in the order in which it entered them."""
        ...


class KeptAnswer(msgspec.Struct, kw_only=True):
    status: int
    kind: str
    """The content type."""
    body: bytes


class Answers(Protocol):
    """Answers to requests that may come again. Every method may raise `StoreUnavailable`."""

    async def claim(self, key: str, fingerprint: str, stale_s: float) -> KeptAnswer | Literal["yours", "busy", "other"]:
        """The answer that was given under a key.

        Returns:
            "yours" when there is none and the caller is to find one, which then calls `keep` or `release`; also when
            whoever was about to did not within `stale_s` seconds. "busy" while somebody else does. "other" when the key
            came with another fingerprint.
        """
        ...

    async def keep(self, key: str, answer: KeptAnswer) -> None: ...

    async def release(self, key: str) -> None:
        """There is no answer worth keeping."""
        ...

    async def prune(self, older_s: float) -> None:
        """Forget what was claimed longer ago."""
        ...
