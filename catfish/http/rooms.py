"""Rooms, their members and their messages, for clients and for servers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from catfish.errors import Rejected
from catfish.http.operations import Call, Operation, Operations
from catfish.rooms.codes import draw_id
from catfish.rooms.commands import RoomRecord
from catfish.rooms.directory import Directory
from catfish.rooms.model import Access, Member, Message, Room, RoomKind
from catfish.rooms.permissions import Right, check_granted
from catfish.rooms.policy import SEQ_MAX, bad_request
from catfish.rooms.ports import Administration
from catfish.server.access import Access as Door
from catfish.server.archive import available
from catfish.server.instance import Instance

TAG = "rooms"
Limit = Annotated[int, Meta(ge=1, le=200, description="Of a page; the settings may allow less.")]
Seq = Annotated[int, Meta(ge=0, le=SEQ_MAX)]


class Camel(msgspec.Struct, rename="camel", kw_only=True):
    """Names in JSON are camelCase."""


class Strict(Camel, forbid_unknown_fields=True):
    """What a client sends; a field that is not listed is refused."""


class RoomAnswer(Camel):
    room: Room


class NewRoom(Strict):
    kind: Annotated[RoomKind, Meta(description="Of `kind` and `access` either says the other.")] | None = None
    access: Annotated[Access, Meta(description="Whom it admits; `pair` is what matching makes.")] | None = None
    name: str | None = None
    capacity: int | None = None
    user: str | None = None
    """Who makes it; only servers say that of others."""


class ListedRoom(Camel):
    room: Room
    number: int
    created_by: str
    closed_at: int | None


class RoomsQuery(Strict):
    kind: RoomKind | None = None
    name: Annotated[str, Meta(max_length=128, description="A part of the id, name or code, in any case.")] | None = None
    closed: Annotated[bool, Meta(description="Closed rooms as well.")] = False
    cursor: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="`next` of the page before.")] | None = None
    limit: Limit | None = None


class RoomsAnswer(Camel):
    rooms: list[ListedRoom]
    """The newest first."""
    next: int | None


class MembersQuery(Strict):
    cursor: Annotated[int, Meta(ge=0, le=SEQ_MAX, description="`next` of the page before.")] = 0
    limit: Limit | None = None


class MembersAnswer(Camel):
    members: list[Member]
    """In the order in which they entered."""
    next: int | None


class MessagesQuery(Strict):
    before: Annotated[Seq, Meta(description="Messages just below that sequence number.")] | None = None
    after: Annotated[Seq, Meta(description="Messages just above that sequence number.")] | None = None
    limit: Limit | None = None


class MessagesAnswer(Camel):
    messages: list[Message]
    """Oldest first; deleted ones without their content."""
    more: bool


class Closed(Camel):
    closed: bool
    """False: it was closed already."""


class Rooms:
    def __init__(self, instance: Instance, access: Door, directory: Directory, rooms: Administration) -> None:
        self._instance = instance
        self._access = access
        self._directory = directory
        self._rooms = rooms

    def operations(self) -> list[Operation]:
        found = Operations(self._instance, TAG)
        found.typed(
            "get",
            "/api/rooms",
            "List rooms, the newest first",
            self.list,
            access="key",
            query=RoomsQuery,
            answer=RoomsAnswer,
        )
        found.typed(
            "post",
            "/api/rooms",
            "Make a room with a code",
            self.create,
            access="caller",
            body=NewRoom,
            answer=RoomAnswer,
            status=201,
            more="Who makes it owns it, and does not enter it by that. A matched room made so is for two who come by"
            " its code.",
        )
        found.typed("get", "/api/rooms/{room}", "Show a room", self.show, access="caller", answer=RoomAnswer)
        found.typed(
            "delete",
            "/api/rooms/{room}",
            "Close a room",
            self.close,
            access="caller",
            answer=Closed,
            more="For servers, and for the user who made it. Members hear `room:closed`.",
        )
        found.typed(
            "get",
            "/api/codes/{code}",
            "Find a room by its code",
            self.find,
            access="caller",
            answer=RoomAnswer,
        )
        found.typed(
            "get",
            "/api/rooms/{room}/members",
            "List who is in a room",
            self.members,
            access="caller",
            query=MembersQuery,
            answer=MembersAnswer,
        )
        found.typed(
            "get",
            "/api/rooms/{room}/messages",
            "List messages of a room",
            self.messages,
            access="caller",
            query=MessagesQuery,
            answer=MessagesAnswer,
        )
        return found.all

    async def list(self, call: Call) -> RoomsAnswer:
        query: RoomsQuery = call.query
        page = await available(
            self._rooms.rooms(
                kind=query.kind,
                name=query.name,
                closed=query.closed,
                below=query.cursor,
                limit=self._limit(query.limit),
            )
        )
        rooms = [
            ListedRoom(
                room=each.record.room,
                number=each.record.number,
                created_by=each.record.created_by,
                closed_at=each.closed_at,
            )
            for each in page.rooms
        ]
        return RoomsAnswer(rooms=rooms, next=rooms[-1].number if page.more and rooms else None)

    async def create(self, call: Call) -> RoomAnswer:
        body: NewRoom = call.body
        if body.user is not None:
            self._instance.policy.user(body.user)
            if not call.is_server and body.user != call.user:
                raise Rejected("forbidden", "user: only servers make rooms for others")
        id = draw_id("r")
        check_granted(Right.JOIN, id, call.by.grants)
        record = await self._instance.publisher.create(
            kind=body.kind,
            access=body.access,
            name=body.name,
            capacity=body.capacity,
            user=body.user or call.user or draw_id("s"),
            id=id,
        )
        return RoomAnswer(room=record.room)

    async def show(self, call: Call) -> RoomAnswer:
        return RoomAnswer(room=(await self._room(Right.SEE, call)).room)

    async def find(self, call: Call) -> RoomAnswer:
        return RoomAnswer(room=(await self._access.allow(Right.SEE, call.by, code=call.path["code"])).room)

    async def close(self, call: Call) -> Closed:
        record = await self._room(Right.CLOSE, call)
        return Closed(closed=await self._instance.publisher.close(record.number, record.room.id))

    async def members(self, call: Call) -> MembersAnswer:
        query: MembersQuery = call.query
        record = await self._room(Right.SEE, call)
        page = await available(self._directory.members(record.number, query.cursor, self._limit(query.limit)))
        return MembersAnswer(members=page.members, next=page.next)

    async def messages(self, call: Call) -> MessagesAnswer:
        query: MessagesQuery = call.query
        if query.before is not None and query.after is not None:
            raise bad_request("before", "does not go with after")
        limit = self._limit(query.limit)
        record, page = await self._instance.archive.record_with_history(
            call.path["room"], before=query.before, after=query.after, limit=limit
        )
        await self._access.check(Right.READ, call.by, record)
        return MessagesAnswer(messages=page.messages, more=page.more)

    async def _room(self, right: Right, call: Call) -> RoomRecord:
        return await self._access.allow(right, call.by, room=call.path["room"])

    def _limit(self, limit: int | None) -> int:
        return self._instance.policy.limit(limit)
