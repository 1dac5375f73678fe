"""The native vocabulary: `docs/protocol.md` describes it for those who write clients.

Each event has a request struct, which says what its data must look like, and a handler. A plain handler acts at once; a
coroutine waits its turn on the connection's task. Durable requests answer through `reply` when they are committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from catfish import __version__
from catfish.contracts import native_moderation
from catfish.contracts.interface import Participant, Reply
from catfish.contracts.native_requests import EMPTY, Answer, Handler, Request
from catfish.errors import Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.commands import Delete, Edit, MarkRead, React
from catfish.rooms.events import (
    Announced,
    Custom,
    Device,
    Event,
    MediaStarted,
    MemberJoined,
    MemberLeft,
    MessageSent,
    Said,
    Signal,
    Typing,
)
from catfish.rooms.model import Access, Member, Message, Room, RoomKind
from catfish.rooms.permissions import Right
from catfish.rooms.policy import bad_request
from catfish.wire.native import check_data

JSON_BYTES_PER_CHAR_MAX: Final = 6
"""A control character becomes \\u001f; what is longer in UTF-8 is not escaped."""


class Hello(Request, kw_only=True):
    token: str | None = None
    user: str | None = None
    name: str | None = None


class Limits(Answer, kw_only=True):
    """What the server accepts, so that clients need not find out."""

    message_bytes_max: int
    content_chars_max: int
    data_bytes_max: int
    history_page_max: int
    rooms_per_session_max: int
    requests_waiting_max: int


class Welcome(Answer, kw_only=True):
    session: str
    user: str
    name: str
    heartbeat_ms: int
    limits: Limits
    version: str
    expires_at: int | None = None


class CreateRoom(Request, kw_only=True):
    kind: RoomKind | None = None
    access: Access | None = None
    name: str | None = None
    capacity: int | None = None


class RoomAnswer(Answer, kw_only=True):
    room: Room


class JoinRoom(Request, kw_only=True):
    room: str | None = None
    code: str | None = None
    since: int | None = None
    limit: int | None = None


class JoinAnswer(Answer, kw_only=True):
    room: Room
    members: list[Member]
    messages: list[Message]
    """With `since` the messages after it, oldest first; else the newest ones, oldest first."""
    seq: int
    """The newest message when the room was entered; what came later follows as events."""
    more: bool
    """With `since`: there are more up to `seq` than the limit let through. Else: there are older ones."""
    changed: list[Message] = msgspec.field(default_factory=list)
    """With `since`: earlier messages as they are now, when they changed after message `since` came."""


class MatchRoom(Request, kw_only=True):
    interests: list[str] = msgspec.field(default_factory=list)


class MatchAnswer(Answer, kw_only=True):
    room: Room
    matched: bool
    peer: Member | None = None


class InRoom(Request, kw_only=True):
    room: str


class MembersAnswer(Answer, kw_only=True):
    members: list[Member]


class Emit(Request, kw_only=True):
    room: str
    event: str
    data: Any = None


class Send(Request, kw_only=True):
    room: str
    content: str
    client_id: str | None = None
    reply_to: int | None = None
    data: Any = None


class SendAnswer(Answer, kw_only=True):
    seq: int
    id: int
    created_at: int


class History(Request, kw_only=True):
    room: str
    before: int | None = None
    after: int | None = None
    limit: int | None = None


class HistoryAnswer(Answer, kw_only=True):
    messages: list[Message]
    more: bool


class EditMessage(Request, kw_only=True):
    room: str
    seq: int
    content: str


class DeleteMessage(Request, kw_only=True):
    room: str
    seq: int


class ReactTo(Request, kw_only=True):
    room: str
    seq: int
    emoji: str
    on: bool


class ReadUpTo(Request, kw_only=True):
    room: str
    seq: int


class ShowTyping(Request, kw_only=True):
    room: str
    on: bool


class ToggleMedia(Request, kw_only=True):
    room: str
    device: Device
    on: bool


class SendSignal(Request, kw_only=True):
    room: str
    to: str
    data: Any


def _check_data(who: Participant, data: Any) -> None:
    bytes_max = who.policy.settings.data_bytes_max
    # Encoding to measure is not worth it for a text that is within the limit however it is escaped.
    if type(data) is not str or len(data) * JSON_BYTES_PER_CHAR_MAX > bytes_max:
        check_data(data, bytes_max)


async def hello(who: Participant, request: Hello, reply: Reply) -> None:
    await who.authenticate(request.token, request.user, request.name)
    settings = who.policy.settings
    reply(
        Welcome(
            session=who.session,
            user=who.user,
            name=who.name,
            heartbeat_ms=round(settings.heartbeat_s * 1000),
            limits=Limits(
                message_bytes_max=settings.message_bytes_max,
                content_chars_max=settings.content_chars_max,
                data_bytes_max=settings.data_bytes_max,
                history_page_max=settings.history_page_max,
                rooms_per_session_max=settings.rooms_per_session_max,
                requests_waiting_max=settings.requests_waiting_max,
            ),
            version=__version__,
            expires_at=who.expires_at,
        )
    )


def ping(who: Participant, request: Any, reply: Reply) -> None:
    reply(request)


async def room_create(who: Participant, request: CreateRoom, reply: Reply) -> None:
    creating = who.create(kind=request.kind, access=request.access, name=request.name, capacity=request.capacity)
    reply(RoomAnswer(room=await creating))


async def room_join(who: Participant, request: JoinRoom, reply: Reply) -> None:
    limit = who.policy.limit(request.limit)
    since = request.since
    if since is not None:
        who.policy.seq("since", since, 0)
    entry = await who.join(room=request.room, code=request.code)
    live, newest = entry.live, entry.room.seq
    messages: list[Message] = []
    changed: list[Message] = []
    if since is None:
        if newest and limit:
            messages = (await who.history(live.number, before=newest + 1, limit=limit)).messages
        more = messages[0].seq > 1 if messages else newest > 0
    else:
        if since < newest and limit:
            # What is newer than the answer's `seq` follows as events.
            page = await who.history(live.number, after=since, limit=limit)
            messages = [message for message in page.messages if message.seq <= newest]
        more = (messages[-1].seq if messages else since) < newest
        if since and entry.revision != newest:
            changed = await who.changed_since(live.number, min(since, newest))
    reply(JoinAnswer(room=entry.room, members=entry.members, messages=messages, seq=newest, more=more, changed=changed))


async def room_match(who: Participant, request: MatchRoom, reply: Reply) -> None:
    pairing = await who.match(who.policy.interests(request.interests))
    reply(MatchAnswer(room=pairing.room, matched=pairing.peer is not None, peer=pairing.peer))


async def room_next(who: Participant, request: MatchRoom, reply: Reply) -> None:
    interests = who.policy.interests(request.interests)
    for room in [room for room in who.rooms if who.live(room).is_of_strangers]:
        await who.leave(room)
    pairing = await who.match(interests)
    reply(MatchAnswer(room=pairing.room, matched=pairing.peer is not None, peer=pairing.peer))


async def room_leave(who: Participant, request: InRoom, reply: Reply) -> None:
    who.live(request.room)
    await who.leave(request.room)
    reply(EMPTY)


def room_members(who: Participant, request: InRoom, reply: Reply) -> None:
    reply(MembersAnswer(members=who.live(request.room).list_members(who.policy.settings.members_listed_max)))


def room_emit(who: Participant, request: Emit, reply: Reply) -> None:
    data = request.data
    if data is not None:
        _check_data(who, data)
    who.say(request.room, Custom(room=request.room, user=who.user, event=who.policy.event(request.event), data=data))
    reply(EMPTY)


def chat_send(who: Participant, request: Send, reply: Reply) -> None:
    live = who.live(request.room)
    policy = who.policy
    if request.data is not None:
        _check_data(who, request.data)
    if request.reply_to is not None:
        policy.seq("replyTo", request.reply_to)
        if request.reply_to > live.seq:
            raise Rejected("no_such_message", f"replyTo: there is no message {request.reply_to} in the room")

    def stored(answer: Message | Rejected) -> None:
        if isinstance(answer, Rejected):
            reply(answer)
        else:
            reply(SendAnswer(seq=answer.seq, id=answer.id, created_at=answer.created_at))

    who.send(
        number=live.number,
        room=live.id,
        content=policy.content(request.content),
        client_id=policy.client_id(request.client_id),
        reply_to=request.reply_to,
        data=request.data,
        done=stored,
    )


async def chat_history(who: Participant, request: History, reply: Reply) -> None:
    live = who.live(request.room)
    who.check(Right.READ, live)
    limit = who.policy.limit(request.limit)
    if request.before is not None and request.after is not None:
        raise bad_request("before", "cannot be combined with after")
    if request.before is not None:
        who.policy.seq("before", request.before)
    if request.after is not None:
        who.policy.seq("after", request.after, 0)
    page = await who.history(live.number, before=request.before, after=request.after, limit=limit)
    reply(HistoryAnswer(messages=page.messages, more=page.more))


def _empty(reply: Reply) -> Callable[[Any], None]:
    def done(answer: Any) -> None:
        reply(answer if isinstance(answer, Rejected) else EMPTY)

    return done


def chat_edit(who: Participant, request: EditMessage, reply: Reply) -> None:
    live = who.live(request.room)
    content = who.policy.content(request.content)
    who.change(
        live, Edit(number=live.number, seq=request.seq, user=who.user, content=content, at=now_ms()), _empty(reply)
    )


def chat_delete(who: Participant, request: DeleteMessage, reply: Reply) -> None:
    live = who.live(request.room)
    command = Delete(number=live.number, seq=request.seq, user=who.user, at=now_ms(), grants=who.grants)
    who.change(live, command, _empty(reply))


def chat_react(who: Participant, request: ReactTo, reply: Reply) -> None:
    live = who.live(request.room)
    emoji = who.policy.emoji(request.emoji)
    command = React(number=live.number, seq=request.seq, user=who.user, emoji=emoji, on=request.on, at=now_ms())
    who.change(live, command, _empty(reply))


def chat_read(who: Participant, request: ReadUpTo, reply: Reply) -> None:
    live = who.live(request.room)
    who.policy.seq("seq", request.seq, 0)
    who.change(live, MarkRead(number=live.number, user=who.user, seq=request.seq), _empty(reply))


def chat_typing(who: Participant, request: ShowTyping, reply: Reply) -> None:
    who.say(request.room, Typing(room=request.room, user=who.user, on=request.on))
    reply(EMPTY)


def media_toggle(who: Participant, request: ToggleMedia, reply: Reply) -> None:
    who.toggle(request.room, request.device, request.on)
    reply(EMPTY)


def media_started(who: Participant, request: InRoom, reply: Reply) -> None:
    who.say(request.room, MediaStarted(room=request.room, user=who.user))
    reply(EMPTY)


def signal(who: Participant, request: SendSignal, reply: Reply) -> None:
    _check_data(who, request.data)
    who.say_to(request.room, request.to, Signal(room=request.room, user=who.user, data=request.data))
    reply(EMPTY)


HANDLERS: Final[dict[str, Handler]] = {
    "hello": Handler(Hello, hello),
    "ping": Handler(Any, ping),
    "room:create": Handler(CreateRoom, room_create),
    "room:join": Handler(JoinRoom, room_join),
    "room:match": Handler(MatchRoom, room_match),
    "room:next": Handler(MatchRoom, room_next),
    "room:leave": Handler(InRoom, room_leave),
    "room:members": Handler(InRoom, room_members),
    "room:emit": Handler(Emit, room_emit),
    "chat:send": Handler(Send, chat_send),
    "chat:history": Handler(History, chat_history),
    "chat:edit": Handler(EditMessage, chat_edit),
    "chat:delete": Handler(DeleteMessage, chat_delete),
    "chat:react": Handler(ReactTo, chat_react),
    "chat:read": Handler(ReadUpTo, chat_read),
    "chat:typing": Handler(ShowTyping, chat_typing),
    "media:toggle": Handler(ToggleMedia, media_toggle),
    "media:started": Handler(InRoom, media_started),
    "signal": Handler(SendSignal, signal),
    **native_moderation.HANDLERS,
}
"""Every event that a client may send."""


class Draining(Answer, kw_only=True):
    """Data of `server:draining`."""

    reconnect_after_ms: int


def render(event: Event) -> tuple[str, Any] | None:
    """An event's native name and data; None for what other vocabularies tell each other."""
    kind = type(event)
    if kind is MessageSent:
        assert isinstance(event, MessageSent)
        return event.name, event.message
    if kind is Announced:
        return None
    if kind is Said:
        assert isinstance(event, Said)
        if not event.content:
            return None
        return event.name, Message(
            room=event.room,
            seq=0,
            id=0,
            user=event.user,
            name=event.user_name,
            content=event.content,
            created_at=event.said_at,
        )
    if kind is MemberLeft:
        event = msgspec.structs.replace(event, origin=None, user_name="", stamp=0)
    elif kind is MemberJoined:
        event = msgspec.structs.replace(event, origin=None, stamp=0)
    elif event.origin is not None:
        event = msgspec.structs.replace(event, origin=None)
    return event.name, event
