"""Durable things done in somebody's name, with or without a session: they are stored, and then the room is told, on
whichever instance its members are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from catfish.contracts.interface import Origin
from catfish.errors import Rejected
from catfish.rooms.codes import draw_code, draw_id
from catfish.rooms.commands import (
    AUTOMATIC_CLIENT_ID,
    Change,
    Changed,
    CloseRoom,
    CreateRoom,
    Delete,
    Edit,
    React,
    Read,
    RoomRecord,
    SendMessage,
    Sent,
)
from catfish.rooms.events import (
    DurableEvent,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
    MessageSent,
    MessagesRead,
)
from catfish.rooms.model import Access, Message, RoomKind
from catfish.rooms.permissions import kind_and_access
from catfish.rooms.policy import Policy, bad_request
from catfish.server.journal import Journal
from catfish.server.supervisor import RoomSupervisor

CODE_TRIES: Final = 8
"""Draws before a room's code is given up; with a million rooms one draw in nine hundred is taken."""


class Publisher:
    """Of one instance. What is submitted at the same time is stored and told in that order."""

    def __init__(self, journal: Journal, supervisor: RoomSupervisor, policy: Policy) -> None:
        self._journal = journal
        self._policy = policy
        self._supervisor = supervisor
        self._automatic = AUTOMATIC_CLIENT_ID + draw_id("p")
        self._sent = 0

    def send(
        self, command: SendMessage, done: Callable[[Message | Rejected], None], origin: Origin | None = None
    ) -> None:
        """Store a message and tell the room; `done` is called once it is committed, after the room was told.

        A command without a client id gets one of ours, so that a repeated transaction stores nothing twice.

        Raises:
            Rejected: bad_request, busy.
        """
        if command.client_id is None:
            self._sent += 1
            command.client_id = f"{self._automatic}:{self._sent}"
        elif command.client_id.startswith(AUTOMATIC_CLIENT_ID):
            raise bad_request("clientId", f"must not begin with {AUTOMATIC_CLIENT_ID}")

        def stored(answer: Sent | Rejected) -> None:
            if isinstance(answer, Rejected):
                if answer.code == "room_closed":
                    self._supervisor.hear_closed(command.number)
                done(answer)
                return
            # A repeated one is told again: a room drops what it was told before.
            message = answer.message
            event = MessageSent(room=message.room, message=message, revision=answer.revision, origin=origin)
            self._supervisor.tell_durable(command.number, event)
            done(message)

        self._journal.submit(command, stored)

    def change(self, room: str, command: Change, done: Callable[[Changed | Read | Rejected], None]) -> None:
        """Store an edit, a deletion, a reaction or a read position and tell the room of that id; `done` gets the
        store's answer.

        Raises:
            Rejected: busy.
        """

        def stored(answer: Changed | Read | Rejected) -> None:
            if isinstance(answer, Changed) and not answer.unchanged:
                self._supervisor.tell_durable(command.number, _changed(room, command, answer.revision))
            elif isinstance(answer, Read) and answer.moved:
                live = self._supervisor.find(room)
                if live is not None:
                    self._supervisor.tell(live, MessagesRead(room=room, user=command.user, seq=answer.seq))
            done(answer)

        self._journal.submit(command, stored)

    async def create(
        self,
        *,
        kind: RoomKind | None,
        name: str | None,
        capacity: int | None,
        user: str,
        id: str | None = None,
        access: Access | None = None,
    ) -> RoomRecord:
        """Make a room with a code. With an `id` that the same user made a room by before, it is that room.
        Of `kind` and `access` either says the other; a matched room that has a code is for the two who come by it.

        Raises:
            Rejected: bad_request, or as the store.
        """
        if name is not None:
            name = self._policy.name(name)
        kind, access = kind_and_access(kind, access)
        capacity = self._policy.capacity(kind, capacity)
        id = draw_id("r") if id is None else id
        for _ in range(CODE_TRIES):
            command = CreateRoom(
                id=id, kind=kind, access=access, code=draw_code(), name=name, capacity=capacity, user=user
            )
            try:
                record: RoomRecord = await self._journal.perform(command, lambda record: record)
            except Rejected as refusal:
                if refusal.code != "code_taken":
                    raise
            else:
                return record
        raise Rejected("internal", "no free code was found")

    async def close(self, number: int, room: str) -> bool:
        """Close a room; its members hear so, wherever they are. False when it was closed already."""
        closed: bool = await self._journal.perform(CloseRoom(number=number), lambda closed: closed)
        self._supervisor.tell_closed(number, room)
        return closed

    async def post(self, command: SendMessage, origin: Origin | None = None) -> Message:
        """`send`, and wait for it. Rejected: as the store, or as `send`."""
        message: Message = await _answer(lambda done: self.send(command, done, origin))
        return message

    async def perform(self, room: str, command: Change) -> Changed | Read:
        """`change`, and wait for it. Rejected: as the store, or as `change`."""
        answer: Changed | Read = await _answer(lambda done: self.change(room, command, done))
        return answer


async def _answer(submit: Callable[[Callable[[Any], None]], None]) -> Any:
    """Wait until `done` is called. What was submitted happens also when the caller is cancelled."""
    answered = trio.Event()
    answers: list[Any] = []

    def done(answer: Any) -> None:
        answers.append(answer)
        answered.set()

    submit(done)
    await answered.wait()
    if isinstance(answers[0], Rejected):
        raise answers[0]
    return answers[0]


def _changed(room: str, command: Change, revision: int) -> DurableEvent:
    """The event that tells of a stored change."""
    match command:
        case Edit(seq=seq, user=user, content=content, at=at):
            return MessageEdited(room=room, revision=revision, seq=seq, user=user, content=content, edited_at=at)
        case Delete(seq=seq, user=user, at=at):
            return MessageDeleted(room=room, revision=revision, seq=seq, user=user, deleted_at=at)
        case React(seq=seq, user=user, emoji=emoji, on=on):
            return MessageReacted(room=room, revision=revision, seq=seq, user=user, emoji=emoji, on=on)
        case _:
            raise TypeError(f"{type(command).__name__} changes no message")
