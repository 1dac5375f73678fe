"""Messages in the double of the store."""

from __future__ import annotations

from catfish.rooms.commands import Changed, Delete, Edit, MarkRead, React, Read, SendMessage, Sent
from catfish.rooms.events import DurableEvent, MessageDeleted, MessageEdited, MessageReacted, MessageSent
from catfish.rooms.model import Message
from catfish.rooms.permissions import Right
from catfish.rooms.ports import Page
from catfish.store import refusals
from tests.doubles.memory_moderation import check, may
from tests.doubles.memory_room import Shelf, Stored, StoredRoom, as_of_now, shown, shown_client_id


class Messages:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def history(self, number: int, *, before: int | None = None, after: int | None = None, limit: int) -> Page:
        room = self._shelf.rooms.get(number)
        found = [] if room is None else room.messages
        if after is not None:
            found = [stored for stored in found if stored.message.seq > after]
            return Page(messages=[shown(stored) for stored in found[:limit]], more=len(found) > limit)
        if before is not None:
            found = [stored for stored in found if stored.message.seq < before]
        return Page(messages=[shown(stored) for stored in found[max(len(found) - limit, 0) :]], more=len(found) > limit)

    def undeleted(self, number: int, *, below: int | None, below_id: int | None, limit: int) -> Page:
        room = self._shelf.rooms.get(number)
        found = [
            stored
            for stored in ([] if room is None else room.messages)
            if stored.message.deleted_at is None
            and (below is None or stored.message.seq < below)
            and (below_id is None or stored.message.id < below_id)
        ]
        return Page(messages=[shown(stored) for stored in found[max(len(found) - limit, 0) :]], more=len(found) > limit)

    def changed_since(self, number: int, seq: int, limit: int) -> list[Message]:
        room = self._shelf.rooms.get(number)
        if room is None or seq < 1 or not room.messages:
            return []
        since = room.messages[min(seq, len(room.messages)) - 1].revision
        latest: dict[int, int] = {}
        for event in room.changes[since:]:
            if isinstance(event, MessageEdited | MessageDeleted | MessageReacted) and event.seq <= seq:
                latest[event.seq] = event.revision
        return [shown(room.messages[seq - 1]) for seq in sorted(latest, key=latest.__getitem__)[:limit]]

    def changes(self, number: int, *, after: int, limit: int) -> list[DurableEvent]:
        room = self._shelf.rooms.get(number)
        events = [] if room is None else room.changes[max(after, 0) : max(after, 0) + limit]
        return [as_of_now(event, room) for event in events if room is not None]

    def send(self, command: SendMessage) -> Sent:
        room = self._shelf.room(command.number)
        if command.client_id is not None:
            seq = room.client_ids.get((command.user, command.client_id))
            if seq is not None:
                stored = room.messages[seq - 1]
                return Sent(message=shown(stored), revision=stored.revision, repeated=True)
        if room.closed:
            raise refusals.room_closed()
        check(Right.SEND, room, command.user, self._shelf.now(), grants=command.grants, server=command.server)
        room.revision += 1
        message = Message(
            room=room.id,
            seq=len(room.messages) + 1,
            id=next(self._shelf.message_ids),
            user=command.user,
            name=command.name,
            content=command.content,
            client_id=shown_client_id(command.client_id),
            reply_to=command.reply_to,
            data=command.data,
            created_at=command.created_at,
        )
        room.messages.append(Stored(message=message, revision=room.revision, reactions={}))
        room.changes.append(MessageSent(room=room.id, revision=room.revision, message=message))
        if command.client_id is not None:
            room.client_ids[command.user, command.client_id] = message.seq
        return Sent(message=shown(room.messages[-1]), revision=room.revision, repeated=False)

    def _message(self, number: int, seq: int) -> tuple[StoredRoom, Stored]:
        room = self._shelf.rooms.get(number)
        stored = None if room is None else room.stored(seq)
        if room is None or stored is None:
            raise refusals.no_such_message(seq)
        return room, stored

    def edit(self, command: Edit) -> Changed:
        room, stored = self._message(command.number, command.seq)
        message = stored.message
        if message.deleted_at is not None:
            raise refusals.no_such_message(command.seq)
        if message.user != command.user:
            raise refusals.not_your_message()
        check(Right.SEND, room, command.user, self._shelf.now())
        message.content, message.edited_at = command.content, command.at
        room.revision += 1
        room.changes.append(
            MessageEdited(
                room=room.id,
                revision=room.revision,
                seq=command.seq,
                user=command.user,
                content=command.content,
                edited_at=command.at,
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def delete(self, command: Delete) -> Changed:
        room, stored = self._message(command.number, command.seq)
        message = stored.message
        moderates = may(Right.MODERATE, room, command.user, self._shelf.now(), grants=command.grants)
        if message.user != command.user and not moderates:
            raise refusals.not_your_message()
        if message.deleted_at is not None:
            return Changed(revision=0, unchanged=True)
        message.content, message.data, message.deleted_at = "", None, command.at
        stored.reactions.clear()
        room.revision += 1
        room.changes.append(
            MessageDeleted(
                room=room.id, revision=room.revision, seq=command.seq, user=command.user, deleted_at=command.at
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def react(self, command: React) -> Changed:
        room, stored = self._message(command.number, command.seq)
        if stored.message.deleted_at is not None:
            raise refusals.no_such_message(command.seq)
        check(Right.SEND, room, command.user, self._shelf.now())
        key = command.emoji, command.user
        if (key in stored.reactions) == command.on:
            return Changed(revision=0, unchanged=True)
        if command.on:
            stored.reactions[key] = None
        else:
            del stored.reactions[key]
        room.revision += 1
        room.changes.append(
            MessageReacted(
                room=room.id,
                revision=room.revision,
                seq=command.seq,
                user=command.user,
                emoji=command.emoji,
                on=command.on,
            )
        )
        return Changed(revision=room.revision, unchanged=False)

    def mark_read(self, command: MarkRead) -> Read:
        room = self._shelf.room(command.number)
        before = room.reads.get(command.user, 0)
        seq = min(command.seq, len(room.messages))
        if seq <= before:
            return Read(seq=before, moved=False)
        room.reads[command.user] = seq
        return Read(seq=seq, moved=True)
