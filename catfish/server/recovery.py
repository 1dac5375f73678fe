"""Connection state recovery for Socket.IO clients: who was cut off gets back its session, with all that it missed.

Theory of operation. With `recovery_s` above 0 a client is given a secret (`pid`). Every event that it is sent carries
an offset: how far it has been told what happens in each of its rooms (`ROOM.REVISION`, several joined by `-`). What
the session is (its user, vocabulary, rooms) is saved in the database before the client hears that it changed: answers
to a handler that enters or leaves a room are held until then. So any instance can restore it, also after a crash:

    take the record -> enter its rooms again -> read what is durable behind the offset -> tell it -> go on live

A session is restored whole or not at all. It is not when it was away for too long, when a room no longer admits it,
when it missed more than `MISSED_MAX` events, or when the database does not answer: then it is a new one, and the
client knows (`recovered: false`). Ephemeral events are not repeated.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from catfish.contracts.interface import Origin, Vocabulary
from catfish.errors import Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.events import DurableEvent
from catfish.rooms.grants import parse_grants
from catfish.rooms.ports import SessionStore, StoreUnavailable
from catfish.rooms.room import LiveRoom
from catfish.server.engineio import Packets
from catfish.server.instance import Instance
from catfish.server.socketio import Restored, Socket

if TYPE_CHECKING:
    from catfish.server.participant import Participant
    from catfish.server.vocabularies import Speaker

log = logging.getLogger(__name__)

MISSED_MAX: Final = 10_000
"""Events that a client is told when it comes back; a session that missed more is a new one."""
PRUNE_S: Final = 60.0


class SavedRoom(msgspec.Struct, array_like=True):
    id: str
    number: int
    revision: int
    """When it was entered; what the client has been told until it got an event."""
    grace_s: float
    origin: Origin | None


class SavedSession(msgspec.Struct):
    sid: str
    user: str
    name: str
    identified: bool
    namespace: str
    vocabulary: str
    state: Any
    rooms: list[SavedRoom]
    grants: dict[str, list[str]] | None = None
    expires_at: int | None = None


def format_offset(positions: Mapping[int, int]) -> str:
    """Revisions by room number, as text: `12.345-17.9`; `-` when there is no room."""
    return "-".join(f"{number}.{revision}" for number, revision in positions.items()) or "-"


def parse_offset(offset: str | None) -> dict[int, int] | None:
    """The inverse; None when it is no offset. Without one the client was told nothing."""
    if offset is None or offset == "-":
        return {}
    positions = {}
    for part in offset.split("-"):
        number, dot, revision = part.partition(".")
        if not (dot and number.isdecimal() and revision.isdecimal()) or len(part) > 40 or not part.isascii():
            return None
        positions[int(number)] = int(revision)
    return positions


class SessionRecovery:
    """Implements `server.socketio.Recovery` for the namespaces of an instance."""

    def __init__(self, instance: Instance, sessions: SessionStore, vocabularies: Mapping[str, Vocabulary]) -> None:
        self._instance = instance
        self._sessions = sessions
        self._vocabularies = vocabularies
        self._window_s = instance.settings.recovery_s
        self._speakers: dict[str, Speaker] = {}
        self._ended: set[str] = set()
        self._work = trio.Event()
        self.restored = 0
        self.refused = 0

    def begin(self, socket: Socket) -> str:
        pid = secrets.token_urlsafe(24)
        speaker: Speaker = socket.data
        speaker.secret = _hash(pid)
        self._speakers[speaker.secret] = speaker
        return pid

    async def save(self, speaker: Speaker) -> None:
        """Remember what the session is, if that is not what is remembered already."""
        if speaker.secret is None or speaker.vocabulary is None:
            return
        who = speaker.who
        record = SavedSession(
            sid=speaker.socket.id,
            user=who.user,
            name=who.name,
            identified=who.identified,
            namespace=speaker.socket.namespace,
            vocabulary=speaker.vocabulary.name,
            state=who.state,
            rooms=[
                SavedRoom(each.live.id, each.live.number, each.entered_at, each.grace_s, each.origin)
                for each in who.attendances
            ],
            grants=None if who.grants is None else who.grants.claim(),
            expires_at=who.expires_at,
        )
        plain = msgspec.to_builtins(record)
        if plain == speaker.saved:
            return
        try:
            await self._sessions.save(speaker.secret, self._instance.id, plain)
            speaker.saved = plain
        except StoreUnavailable as error:
            # What is remembered is not true any more, so nobody may come back to it.
            log.info("a session cannot be saved and will not be recovered", extra={"error": str(error)})
            self._speakers.pop(speaker.secret, None)
            speaker.secret = None

    def ended(self, speaker: Speaker) -> None:
        """The connection of a session has ended; its time to come back runs."""
        if speaker.secret is not None and self._speakers.pop(speaker.secret, None) is not None:
            if speaker.saved is not None:
                self._ended.add(speaker.secret)
                self._work.set()
            speaker.secret = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note in the database which sessions have ended, and forget those that nobody came back to."""
        task_status.started()
        prune_at = 0.0
        while True:
            with trio.move_on_after(PRUNE_S):
                await self._work.wait()
            self._work = trio.Event()
            try:
                while self._ended:
                    secret = next(iter(self._ended))
                    await self._sessions.end(secret, self._instance.id)
                    self._ended.discard(secret)
                if trio.current_time() >= prune_at:
                    await self._sessions.prune(self._window_s)
                    prune_at = trio.current_time() + PRUNE_S
            except StoreUnavailable as error:
                log.debug("ended sessions are noted later", extra={"error": str(error)})
                await trio.sleep(1.0)
                self._work.set()

    async def finish(self) -> None:
        """The instance stops: whoever was connected may come back to another one."""
        try:
            await self._sessions.end_all(self._instance.id)
        except StoreUnavailable as error:
            log.info("ended sessions could not be noted", extra={"error": str(error)})

    # Coming back

    async def restore(self, socket: Socket, pid: str, offset: str | None) -> Restored | None:
        speaker: Speaker = socket.data
        try:
            missed = await self._restore(speaker, _hash(pid), offset)
        except (StoreUnavailable, Rejected) as problem:
            log.debug("a session cannot be recovered", extra={"error": str(problem)})
            missed = None
        if missed is None:
            self.refused += 1
            await speaker.start_over()
            return None
        sid, packets = missed
        speaker.secret = _hash(pid)
        self._speakers[speaker.secret] = speaker
        self.restored += 1
        return Restored(sid, pid, packets)

    async def _restore(self, speaker: Speaker, secret: str, offset: str | None) -> tuple[str, list[Packets]] | None:
        former = self._speakers.pop(secret, None)
        if former is not None:
            former.secret = (
                None  # its connection is dead, though nobody has noticed; what it was lives on in the record
            )
            former.socket.client.session.close()
        self._ended.discard(secret)
        plain = await self._sessions.take(secret, self._instance.id, self._window_s)
        positions = parse_offset(offset)
        if plain is None or positions is None:
            return None
        record = msgspec.convert(plain, SavedSession)
        vocabulary = self._vocabularies.get(record.vocabulary)
        known = {room.number for room in record.rooms}
        if vocabulary is None or record.namespace != speaker.socket.namespace or not positions.keys() <= known:
            return None
        who = speaker.who
        if who.identified and who.user != record.user:
            return None
        if not await self._take_identity(who, record):
            return None
        speaker.vocabulary = vocabulary
        told = {room.number: positions.get(room.number, room.revision) for room in record.rooms}
        missed: list[tuple[LiveRoom, list[DurableEvent]]] = []
        left = MISSED_MAX
        for room in record.rooms:
            entry = await who.join(room=room.id, create=False, grace_s=room.grace_s, origin=room.origin)
            events = await self._read(room.number, told[room.number], entry.revision, left)
            if events is None:
                return None
            left -= len(events)
            missed.append((entry.live, events))
        speaker.speak(vocabulary)
        speaker.saved = plain
        packets: list[Packets] = []
        for live, events in missed:
            for event in events:
                told[live.number] = event.revision
                packed = speaker.pack(event, live, format_offset(told))
                if packed is not None:
                    packets.append(packed)
        return record.sid, packets

    async def _take_identity(self, who: Participant, record: SavedSession) -> bool:
        """Make it the user that it was; False when it may not be that one any more."""
        if who.identified:  # by a token that came with this connection
            grants, expires_at = who.grants, who.expires_at
        elif record.identified:
            grants, expires_at = parse_grants(record.grants), record.expires_at
            if expires_at is not None and expires_at <= now_ms():
                return False
        else:
            await self._instance.registry.check(record.user)
            grants = expires_at = None
        is_identified = who.identified or record.identified
        who.resume(record.user, record.name, identified=is_identified, grants=grants, expires_at=expires_at)
        who.state = record.state
        return True

    async def _read(self, number: int, after: int, upto: int, limit: int) -> list[DurableEvent] | None:
        """What happened in a room, oldest first; None when that is more than `limit`."""
        found: list[DurableEvent] = []
        while after < upto:
            page = await self._instance.store.changes(number, after=after, limit=500)
            if not page:
                break
            found += [event for event in page if event.revision <= upto]
            if len(found) > limit:
                return None
            after = page[-1].revision
        return found


def _hash(pid: str) -> str:
    """What the database knows of a secret: whoever reads it there cannot use it."""
    return hashlib.sha256(pid.encode("utf-8", "replace")).hexdigest()
