"""Roles, invitations, removal, mutes, blocks and reports: for users with a token, and for servers with the API key."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from catfish.errors import Rejected
from catfish.http.operations import Call, Operation, Operations
from catfish.http.rooms import Camel, Limit, Strict
from catfish.rooms.model import Message, Role
from catfish.rooms.moderation import Actor, Report, Standing
from catfish.rooms.permissions import Right
from catfish.rooms.policy import SEQ_MAX, USER_CHARS_MAX
from catfish.server.access import Access
from catfish.server.archive import available
from catfish.server.instance import Instance
from catfish.server.moderation import DURATION_MS_MAX, REASON_CHARS_MAX, Desk

TAG = "moderation"
Duration = Annotated[int, Meta(ge=1, le=DURATION_MS_MAX, description="Milliseconds; for good when left out.")]
UNTIL = "Times are milliseconds since the epoch; the end of the year 9999 for what lasts until it is taken back."


class Somebody(Strict):
    user: str


class NewRole(Strict):
    user: str
    role: Annotated[Role, Meta(description="moderator, member or none.")]


class RoleAnswer(Camel):
    user: str
    role: Role


class NewMute(Strict):
    user: str
    duration_ms: Duration | None = None


class NewBan(Strict):
    user: str
    duration_ms: Duration | None = None
    address: Annotated[bool, Meta(description="Ban the addresses too from which the user is in the room.")] = False


class UntilAnswer(Camel):
    user: str
    until: int
    """0: not any more."""


class Kicked(Camel):
    user: str


class Changed(Camel):
    changed: bool


class StandingsQuery(Strict):
    cursor: Annotated[str, Meta(max_length=USER_CHARS_MAX, description="`next` of the page before.")] = ""
    limit: Limit | None = None


class StandingAnswer(Camel):
    user: str
    role: Role
    muted_until: int
    banned_until: int


class StandingsAnswer(Camel):
    owner: str
    standings: list[StandingAnswer]
    """By the users' ids; the owner is not among them."""
    next: str | None


class NewReport(Strict):
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_CHARS_MAX)]
    user: Annotated[str, Meta(description="Whom it is about.")] | None = None
    seq: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="Which message it is about.")] | None = None


class Reported(Camel):
    report: int


class ReportsQuery(Strict):
    handled: Annotated[bool, Meta(description="Those that were handled as well.")] = False
    cursor: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="`next` of the page before.")] | None = None
    limit: Limit | None = None


class ReportAnswer(Camel):
    id: int
    at: int
    room: str
    by: str
    user: str | None
    seq: int | None
    reason: str
    messages: list[Message]
    """The last ones at that time, oldest first, as they were then."""
    handled_at: int | None


class ReportsAnswer(Camel):
    reports: list[ReportAnswer]
    """The newest first."""
    next: int | None


class Handled(Camel):
    handled: bool


class BlockedAnswer(Camel):
    users: list[str]


class Moderation:
    def __init__(self, instance: Instance, access: Access) -> None:
        self._instance = instance
        self._access = access
        self._moderation = instance.store.moderation

    def operations(self) -> list[Operation]:
        found = Operations(self._instance, TAG)
        typed, room = found.typed, "/api/rooms/{room}"
        typed(
            "post",
            f"{room}/roles",
            "Make somebody a moderator, a member, or nobody special",
            self.set_role,
            access="caller",
            body=NewRole,
            answer=RoleAnswer,
            more="By the owner. `none` takes an invitation back.",
        )
        typed(
            "post",
            f"{room}/invitations",
            "Let somebody come in",
            self.invite,
            access="caller",
            body=Somebody,
            answer=RoleAnswer,
        )
        typed(
            "post",
            f"{room}/kicks",
            "Remove somebody, who may come back",
            self.kick,
            access="caller",
            body=Somebody,
            answer=Kicked,
        )
        typed(
            "post",
            f"{room}/mutes",
            "Let somebody not speak",
            self.mute,
            access="caller",
            body=NewMute,
            answer=UntilAnswer,
            more=UNTIL,
        )
        typed(
            "delete",
            f"{room}/mutes/{{user}}",
            "Let somebody speak again",
            self.unmute,
            access="caller",
            answer=UntilAnswer,
        )
        typed(
            "post",
            f"{room}/bans",
            "Remove somebody, who may not come back",
            self.ban,
            access="caller",
            body=NewBan,
            answer=UntilAnswer,
            more=UNTIL,
        )
        typed(
            "delete",
            f"{room}/bans/{{user}}",
            "Let somebody come in again",
            self.unban,
            access="caller",
            answer=Changed,
            more="With the addresses that were banned together with it.",
        )
        typed(
            "get",
            f"{room}/standings",
            "List who is what in a room, and who is muted or banned",
            self.standings,
            access="caller",
            query=StandingsQuery,
            answer=StandingsAnswer,
            more="For who moderates the room.",
        )
        typed(
            "post",
            f"{room}/reports",
            "Report what happens in a room",
            self.report,
            access="caller",
            body=NewReport,
            answer=Reported,
            status=201,
            more="The last messages of the room are kept with it.",
        )
        typed(
            "get",
            "/api/reports",
            "List reports, the newest first",
            self.reports,
            access="key",
            query=ReportsQuery,
            answer=ReportsAnswer,
        )
        typed(
            "post",
            "/api/reports/{report}/handled",
            "Note that a report was seen to",
            self.handle,
            access="key",
            answer=Handled,
        )
        typed(
            "get",
            "/api/users/{user}/blocks",
            "List whom a user has blocked",
            self.blocked,
            access="caller",
            answer=BlockedAnswer,
            more="For that user, and for servers; likewise the next ones.",
        )
        typed(
            "post",
            "/api/users/{user}/blocks",
            "Block somebody",
            self.block,
            access="caller",
            body=Somebody,
            answer=Changed,
            more="The two are not matched, and signals of neither reach the other.",
        )
        typed(
            "delete",
            "/api/users/{user}/blocks/{other}",
            "Block somebody no more",
            self.unblock,
            access="caller",
            answer=Changed,
        )
        return found.all  # fmt: skip

    # Rooms

    async def set_role(self, call: Call) -> RoleAnswer:
        body: NewRole = call.body
        return RoleAnswer(user=body.user, role=await self._desk(call).set_role(call.path["room"], body.user, body.role))

    async def invite(self, call: Call) -> RoleAnswer:
        user = call.body.user
        return RoleAnswer(user=user, role=await self._desk(call).invite(call.path["room"], user))

    async def kick(self, call: Call) -> Kicked:
        await self._desk(call).kick(call.path["room"], call.body.user)
        return Kicked(user=call.body.user)

    async def mute(self, call: Call) -> UntilAnswer:
        body: NewMute = call.body
        until = await self._desk(call).mute(call.path["room"], body.user, body.duration_ms)
        return UntilAnswer(user=body.user, until=until)

    async def unmute(self, call: Call) -> UntilAnswer:
        user = call.path["user"]
        return UntilAnswer(user=user, until=await self._desk(call).mute(call.path["room"], user, 0))

    async def ban(self, call: Call) -> UntilAnswer:
        body: NewBan = call.body
        banning = self._desk(call).ban(call.path["room"], body.user, body.duration_ms, address=body.address)
        return UntilAnswer(user=body.user, until=await banning)

    async def unban(self, call: Call) -> Changed:
        return Changed(changed=await self._desk(call).unban(call.path["room"], call.path["user"]))

    async def standings(self, call: Call) -> StandingsAnswer:
        query: StandingsQuery = call.query
        record = await self._access.allow(Right.MODERATE, call.known, room=call.path["room"])
        limit = self._instance.policy.limit(query.limit)
        page = await available(self._moderation.standings(record.number, query.cursor, limit))
        shown = [_standing(each) for each in page.standings]
        following = shown[-1].user if page.more and shown else None
        return StandingsAnswer(owner=record.created_by, standings=shown, next=following)

    # Reports

    async def report(self, call: Call) -> Reported:
        body: NewReport = call.body
        return Reported(report=await self._desk(call).report(call.path["room"], body.user, body.seq, body.reason))

    async def reports(self, call: Call) -> ReportsAnswer:
        query: ReportsQuery = call.query
        limit = self._instance.policy.limit(query.limit)
        page = await available(self._moderation.reports(below=query.cursor, limit=limit, handled=query.handled))
        shown = [_report(each) for each in page.reports]
        return ReportsAnswer(reports=shown, next=shown[-1].id if page.more and shown else None)

    async def handle(self, call: Call) -> Handled:
        text = call.path["report"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
        if not await available(self._moderation.handle(number)):
            raise Rejected("no_such_report", "report: there is no such report")
        return Handled(handled=True)

    # Blocks

    async def blocked(self, call: Call) -> BlockedAnswer:
        return BlockedAnswer(users=await self._desk_of(call).blocked())

    async def block(self, call: Call) -> Changed:
        return Changed(changed=await self._desk_of(call).block(call.body.user, True))

    async def unblock(self, call: Call) -> Changed:
        return Changed(changed=await self._desk_of(call).block(call.path["other"], False))

    def _desk(self, call: Call) -> Desk:
        return Desk(self._instance, call.known)

    def _desk_of(self, call: Call) -> Desk:
        """For what the user of the path does itself, or a server for it."""
        user = self._instance.policy.user(call.path["user"])
        if not call.is_server and call.known.user != user:
            raise Rejected("forbidden", "user: only servers do that for others")
        return Desk(self._instance, Actor(user=user))


def _standing(standing: Standing) -> StandingAnswer:
    return StandingAnswer(**msgspec.structs.asdict(standing))


def _report(report: Report) -> ReportAnswer:
    told = msgspec.structs.asdict(report)
    del told["number"]
    return ReportAnswer(**told)
