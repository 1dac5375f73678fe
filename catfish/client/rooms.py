"""What the client remembers of a room, so that its user sees every message once and in order.

Pure. A room is either *live*: the next message is the one after `seq`; or it *catches up*: events are held while what
was missed is read from the room's history, and follow it. Reconnecting, a gap, and a user who lags behind the buffer
lead to catching up, and nothing else does.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, TypeVar

import attrs
import msgspec

from catfish.errors import PROTOCOL_ERROR, PeerError
from catfish.wire.native import Event


class Room(msgspec.Struct, rename="camel"):
    """What the client must know of a room in a reply."""

    id: str
    kind: str
    seq: int
    created_at: int
    code: str | None = None


class Joined(msgspec.Struct):
    """The reply to `room:join`."""

    room: Room
    members: list[Any]
    messages: list[dict[str, Any]]
    seq: int
    more: bool = False
    changed: list[Any] = []


class Paired(msgspec.Struct):
    """The reply to `room:match` and `room:next`."""

    room: Room


class Page(msgspec.Struct):
    """The reply to `chat:history`."""

    messages: list[dict[str, Any]]
    more: bool


T = TypeVar("T")


def understand(reply: Any, type: type[T]) -> T:
    """A reply as the protocol promises it. Raises PeerError when it is not."""
    try:
        value = msgspec.convert(reply, type)
    except msgspec.ValidationError as error:
        raise PeerError(PROTOCOL_ERROR, f"a reply that is not one: {error}") from None
    if isinstance(value, Page) and value.more and not value.messages:
        raise PeerError(PROTOCOL_ERROR, "a page without messages after which there are more")
    return value


class Verdict(Enum):
    DELIVER = "deliver"
    DUPLICATE = "duplicate"
    """Delivered before."""
    GAP = "gap"
    """Messages before it are missing."""


@attrs.define(eq=False)
class RoomView:
    """One room that the client is in."""

    room: str
    kind: str
    created_at: int
    """Tells a room from a later one with the same id, whose messages are numbered anew. 0: not known yet, and neither
    is `seq`."""
    seq: int
    """Number of the last message that was handed on; 0 for none."""
    code: str | None = None
    """With which it was entered, if so; it is entered the same way again."""
    held_max: int = 256
    """Events that are held while catching up; with one more all are let go, and catching up starts once more."""
    leaving: bool = False
    catching_up: bool = False
    held: deque[Event] = attrs.field(factory=deque, init=False)
    changed: dict[int, Any] = attrs.field(factory=dict, init=False)
    """Earlier messages that changed while the client was away, by their numbers. They outlive a cut: the next reply
    tells of what changed after the messages that were handed on meanwhile."""
    overflowed: bool = attrs.field(default=False, init=False)
    """There was no place for an event; from then on none is held until catching up begins anew."""
    lost: int = attrs.field(default=0, init=False)
    """Events that were let go and that history does not bring back."""

    @classmethod
    def of(cls, room: Room, seq: int, code: str | None, held_max: int) -> RoomView:
        """From the `room` of a reply, of which the messages up to `seq` are known."""
        private_code = room.code if room.kind == "private" else None
        return cls(room.id, room.kind, room.created_at, seq, code or private_code, held_max)

    def join_data(self) -> dict[str, Any]:
        """What to ask for to come back."""
        where = {"room": self.room} if self.code is None else {"code": self.code}
        return {**where, "since": self.seq} if self.created_at else {**where, "limit": 0}

    @classmethod
    def moved(cls, room: str, held_max: int) -> RoomView:
        """Of a matched room to which the server has moved the user; nothing but its id is known."""
        return cls(room, "matched", 0, 0, held_max=held_max)

    def adopt(self, reply: Joined) -> None:
        """Learn what was not known. What was said before the user was moved is not for this one."""
        told = [seq for event in self.held if (seq := message_seq(event))]
        self.created_at, self.seq = reply.room.created_at, min([reply.seq, *(seq - 1 for seq in told)])

    def is_other(self, room: Room) -> bool:
        """Whether the room that answered is not the one whose messages were counted here."""
        return room.created_at != self.created_at

    def renumber(self, room: Room) -> None:
        """Follow that other room, from its first message on."""
        self.created_at, self.seq = room.created_at, 0
        self.changed.clear()
        self.held.clear()

    def judge(self, event: Event) -> Verdict:
        """What to do with an event of this room while it is live; the caller then says `advance`."""
        seq = message_seq(event)
        if seq == 0 or seq == self.seq + 1:
            return Verdict.DELIVER
        return Verdict.DUPLICATE if seq <= self.seq else Verdict.GAP

    def advance(self, event: Event) -> None:
        """The event was handed on."""
        self.seq = max(self.seq, message_seq(event))

    def note_changed(self, messages: list[Any]) -> None:
        """Remember earlier messages as they are now, until everything that was missed has been handed on."""
        self.changed.update((seq_of(message), message) for message in messages)

    def hold(self, event: Event) -> None:
        """Keep an event until what was missed has been handed on."""
        self.held.append(event)
        if len(self.held) > self.held_max or self.overflowed:
            self.overflowed = True
            self.lost += sum(message_seq(held) == 0 for held in self.held)
            self.held.clear()

    def start_over(self) -> int:
        """Begin to catch up, or begin again. Returns how many events were lost since the last time."""
        lost, self.lost = self.lost, 0
        self.overflowed = False
        self.catching_up = True
        return lost

    def cut(self) -> None:
        """The connection broke: what was held came too early to follow what the next one brings."""
        self.held.clear()
        self.catching_up = self.overflowed = False


def message_seq(event: Event) -> int:
    """The number of the message that the event brings; 0 for any other event, and for messages that are not stored."""
    return seq_of(event.data) if event.name == "chat:message" else 0


def seq_of(message: Any) -> int:
    """The number of a message. Raises PeerError when it has none."""
    seq = message.get("seq") if isinstance(message, dict) else None
    if type(seq) is not int or seq < 0:
        raise PeerError(PROTOCOL_ERROR, "a message without a proper seq")
    return seq
