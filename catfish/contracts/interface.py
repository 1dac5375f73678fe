"""What a vocabulary can do, and what it must offer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from catfish.errors import Rejected
from catfish.rooms.commands import Command
from catfish.rooms.events import Device, Event
from catfish.rooms.model import Member, Message, Room, RoomKind
from catfish.rooms.policy import Policy
from catfish.rooms.ports import Page
from catfish.rooms.room import LiveRoom

Reply = Callable[[Any], None]
"""Answers one request, once: with a value, or with a `Rejected`. When the client wanted no answer, values are dropped
and refusals reported in the vocabulary's way."""


class Entry(msgspec.Struct, kw_only=True):
    """A room that was entered."""

    room: Room
    member: Member
    first: bool
    """The user was in the room on no other device and not within its grace period."""
    revision: int
    """The newest durable change that `room` shows."""
    live: LiveRoom


class Pairing(msgspec.Struct, kw_only=True):
    """A matched room that was entered."""

    room: Room
    peer: Member | None
    """The stranger who waited there; None when the user now waits itself."""


class Participant(Protocol):
    """One session: who it is, and what it can do.

    Coroutine methods wait for the store; a handler that uses them is itself a coroutine and runs on the connection's
    own task, in the order in which events came. Plain methods act at once. All raise `Rejected`.
    """

    session: str
    """Id of the session."""
    user: str
    """Id of the user; the session's id until it says otherwise."""
    name: str
    state: Any
    """Whatever the vocabulary wants to remember of this session."""

    policy: Policy
    """The checks for ids, names and texts, with the server's limits."""

    async def authenticate(self, token: str | None, user: str | None, name: str | None) -> None:
        """Say who this is. Rejected: unauthorized; forbidden while the session is in rooms under another id."""
        ...

    def emit(self, event: str, *args: Any) -> None:
        """Send an event to this session alone, in its own vocabulary's terms."""
        ...

    def disconnect(self) -> None:
        """End the session from the server's side."""
        ...

    def live(self, room: str) -> LiveRoom:
        """The room of that id, which the session is in. Rejected: not_in_room."""
        ...

    @property
    def rooms(self) -> Sequence[str]:
        """Ids of the rooms that the session is in, in the order in which it entered them."""
        ...

    async def create(self, *, kind: RoomKind, name: str | None = None, capacity: int | None = None) -> Room:
        """Make a room with a code. Its creator does not enter by that."""
        ...

    async def find(self, *, room: str | None = None, code: str | None = None) -> tuple[int, Room]:
        """A room and its number, whether or not the session is in it. Rejected: no_such_room, no_such_code."""
        ...

    async def join(
        self, *, room: str | None = None, code: str | None = None, create: bool = True, grace_s: float | None = None
    ) -> Entry:
        """Enter a room by its id or its code. `create` makes an open room of that id when there is none.

        `grace_s` is how long the user may be gone unnoticed when the connection is lost; None means the setting.
        What happens in the room reaches the session only after the handler is done and its reply is out.
        """
        ...

    async def leave(self, room: str) -> None:
        """Leave a room. The others hear of it, unless the user is there on another device."""
        ...

    async def match(self, interests: Sequence[str] = (), *, grace_s: float | None = None) -> Pairing:
        """Meet a stranger, or wait for one. Rejected `already_in_room` while in a matched room with someone."""
        ...

    async def history(
        self, number: int, *, before: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Page:
        """Stored messages of a room by its number."""
        ...

    async def changed_since(self, number: int, seq: int) -> list[Message]:
        """Messages up to `seq` that changed after message `seq` was stored."""
        ...

    def send(
        self,
        *,
        number: int,
        room: str,
        content: str,
        name: str | None = None,
        client_id: str | None = None,
        reply_to: int | None = None,
        data: Any = None,
        origin: Any = None,
        done: Callable[[Message | Rejected], None],
    ) -> None:
        """Store a message and tell the room; `done` is called once it is committed, after the room was told."""
        ...

    def change(self, live: LiveRoom, command: Command, done: Callable[[Any], None]) -> None:
        """Store an edit, a deletion, a reaction or a read position and tell the room; `done` gets the store's answer
        or a `Rejected`."""
        ...

    def say(self, room: str, event: Event) -> None:
        """Tell the other sessions in the room at once; nothing is stored."""
        ...

    def say_to(self, room: str, user: str, event: Event) -> None:
        """Tell every session of one member. Rejected: no_such_member."""
        ...

    def toggle(self, room: str, device: Device, on: bool, *, origin: Any = None) -> None:
        """Switch one's camera, microphone or screen on or off, and tell the others."""
        ...


Handled = Coroutine[Any, Any, None] | None
"""What handling an event gives: None when it is done (or will be answered later through its `Reply`), else the
coroutine that does it, to be run in order."""


class Vocabulary(Protocol):
    """A family of clients: the names and shapes of its events."""

    name: str

    def render(self, event: Event) -> tuple[str, tuple[Any, ...]] | None:
        """What members who speak this vocabulary hear of an event: its name and its arguments, or None."""
        ...
