"""What a vocabulary can do, and what it must offer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from catfish.errors import Rejected
from catfish.rooms.commands import Change
from catfish.rooms.events import Device, Event
from catfish.rooms.grants import Grants
from catfish.rooms.model import Access, Member, Message, Role, Room, RoomKind
from catfish.rooms.permissions import Right
from catfish.rooms.policy import Policy
from catfish.rooms.ports import Page
from catfish.rooms.room import LiveRoom

Reply = Callable[..., None]
"""Answers one request, once.

Natively with one value or with a `Rejected`; when the client wanted no answer, values are dropped and refusals become
an event. For Socket.IO clients with the values of the acknowledgement, however many, at once or later.
"""

Origin = tuple[str, Any]
"""A vocabulary's name, and a value for members who speak the same one; see `rooms.events.Event.origin`."""


class Entry(msgspec.Struct, kw_only=True):
    """A room that was entered."""

    room: Room
    member: Member
    first: bool
    """The user was in the room on no other device and not within its grace period."""
    returning: bool
    """`first`, and the user was in the room before and told to be gone while others stayed."""
    revision: int
    """The newest durable change that `room` shows."""
    members: list[Member]
    """Who was in the room at that moment; events of those who come and go from then on follow the answer."""
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
    identified: bool
    """A token says who it is: its id cannot be chosen."""
    grants: Grants | None
    """What its token restricts it to."""
    state: Any
    """Whatever the vocabulary wants to remember of this session; None at first. Plain data (what JSON holds), so that a
    session can be continued by another instance."""

    policy: Policy
    """The checks for ids, names and texts, with the server's limits."""

    expires_at: int | None
    """When the token runs out, in milliseconds since the epoch; None: never, or there is none. Unless another one has
    come by then, the session ends."""

    async def authenticate(self, token: str | None, user: str | None, name: str | None) -> None:
        """Say who this is. Rejected: unauthorized; forbidden while the session is in rooms under another id."""
        ...

    async def introduce(self, *, user: str | None = None, name: str | None = None) -> None:
        """Take the id and the name that a client gives itself; an id that a token gave stays.

        With an id and no name it is called by its id. Rejected: bad_request; user_taken, for an id of somebody who
        signs in; forbidden while the session is in rooms under another id.
        """
        ...

    async def check_author(self, user: str, *, vouched: bool = False) -> None:
        """Whether the session, which has no token, may write in the name of that user: of a guest; with `vouched` of an
        account, too, for which a provider vouches. Rejected: user_taken, unavailable."""
        ...

    def may_be_author(self, user: str) -> bool:
        """Whether that is known without asking, with `vouched`."""
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

    async def create(
        self,
        *,
        kind: RoomKind | None,
        access: Access | None = None,
        name: str | None = None,
        capacity: int | None = None,
    ) -> Room:
        """Make a room with a code. Its creator owns it, and does not enter by that."""
        ...

    def hosted(self, *, room: str | None = None, code: str | None = None) -> LiveRoom | None:
        """The room if this instance has it in memory (somebody here is in it), without asking the store."""
        ...

    async def find(self, *, room: str | None = None, code: str | None = None) -> tuple[int, Room]:
        """A room and its number, whether or not the session is in it. Rejected: no_such_room, no_such_code."""
        ...

    async def join(
        self,
        *,
        room: str | None = None,
        code: str | None = None,
        create: bool = True,
        grace_s: float | None = None,
        origin: Origin | None = None,
    ) -> Entry:
        """Enter a room by its id or its code. `create` makes an open room of that id when there is none.

        `grace_s` is how long the user may be gone unnoticed when the connection is lost; None means the setting.
        `origin` goes with what the others hear of this coming and, later, going.
        What happens in the room reaches the session only after the handler is done and its reply is out.
        """
        ...

    async def leave(self, room: str) -> None:
        """Leave a room. The others hear of it, unless the user is there on another device."""
        ...

    async def match(
        self,
        interests: Sequence[str] = (),
        *,
        again: bool = False,
        grace_s: float | None = None,
        origin: Origin | None = None,
    ) -> Pairing:
        """Meet a stranger, or wait for one. Rejected `already_in_room` while with one. `again`: whoever was met just
        now may be met again at once."""
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
        user: str | None = None,
        name: str | None = None,
        client_id: str | None = None,
        reply_to: int | None = None,
        data: Any = None,
        created_at: int | None = None,
        origin: Origin | None = None,
        done: Callable[[Message | Rejected], None],
    ) -> None:
        """Store a message and tell the room; `done` is called once it is committed, after the room was told.

        `user` and `name` are the author's where that is not the session's user; `created_at` is in milliseconds since
        the epoch where it is not now. The same `client_id` of the same author in the same room is stored and told once.
        """
        ...

    def change(self, live: LiveRoom, command: Change, done: Callable[[Any], None]) -> None:
        """Store an edit, a deletion, a reaction or a read position and tell the room; `done` gets the store's answer
        or a `Rejected`."""
        ...

    def say(self, room: str, event: Event, *, everyone: bool = False) -> None:
        """Tell the other sessions in the room at once, or `everyone` with this one; nothing is stored."""
        ...

    def say_to(self, room: str, user: str, event: Event) -> None:
        """Tell every session of one member. Rejected: no_such_member."""
        ...

    def toggle(self, room: str, device: Device, on: bool, *, origin: Origin | None = None) -> None:
        """Switch one's camera, microphone or screen on or off, and tell the others."""
        ...

    def check(self, right: Right, live: LiveRoom) -> None:
        """Whether the session may do that in a room that it is in. Rejected: forbidden, muted."""
        ...

    @property
    def moderation(self) -> Moderating:
        """What it can do about others."""
        ...


class Moderating(Protocol):
    """What somebody can do about others. Rejected: no_such_room, forbidden and the like, by `rooms.permissions`."""

    async def set_role(self, room: str, user: str, role: Role) -> Role:
        """Make somebody a moderator, a member, or nobody special."""
        ...

    async def invite(self, room: str, user: str) -> Role:
        """Let somebody come in; its role now."""
        ...

    async def mute(self, room: str, user: str, duration_ms: int | None) -> int:
        """Let somebody not speak, for so long or for good; 0 takes it back. Returns until when."""
        ...

    async def kick(self, room: str, user: str) -> None:
        """Remove somebody, who may come back."""
        ...

    async def ban(self, room: str, user: str, duration_ms: int | None, *, address: bool) -> int:
        """Remove somebody, who may not come back, nor others from where it is when `address`. Returns until when."""
        ...

    async def unban(self, room: str, user: str) -> bool:
        """Whether it was banned."""
        ...

    async def report(self, room: str, user: str | None, seq: int | None, reason: str) -> int:
        """Tell the operator, with the last messages of the room; the report's id."""
        ...

    async def block(self, user: str, on: bool) -> bool:
        """Have nothing to do with somebody, or again; whether that changed anything."""
        ...

    async def blocked(self) -> list[str]:
        """Whom one has blocked."""
        ...


Handled = Coroutine[Any, Any, None] | None
"""What handling an event gives: None when it is done (or will be answered later through its `Reply`), else the
coroutine that does it, to be run in order."""


class Vocabulary(Protocol):
    """A family of Socket.IO clients: the names and shapes of its events.

    A socket speaks the vocabulary that claims the first event it sends. From then on every event of it is handled by
    that vocabulary alone; one that it does not know is ignored and counted.
    """

    name: str

    def claims(self, event: str, args: Sequence[Any]) -> bool:
        """Whether a socket whose first event this is speaks the vocabulary. Never raises, whatever `args` hold."""
        ...

    def handle(self, who: Participant, event: str, args: Sequence[Any], reply: Reply | None) -> Handled:
        """Do what an event asks for. `args` are what came with it, `bytes` for binary attachments; `reply` is None when
        the client gave no acknowledgement function.

        Raises `Unknown` for an event that is not the vocabulary's, and `Rejected` (here or in the coroutine) for what
        is refused, which `refuse` then tells.
        """
        ...

    def refuse(self, who: Participant, event: str, args: Sequence[Any], refusal: Rejected, reply: Reply | None) -> None:
        """Tell of a refusal in the vocabulary's way, or not at all; it is counted in any case."""
        ...

    def render(self, event: Event, room: LiveRoom) -> tuple[str, tuple[Any, ...]] | None:
        """What members who speak this vocabulary hear of an event: its name and its arguments, or None."""
        ...


class Unknown(Exception):
    """The vocabulary has no such event."""
