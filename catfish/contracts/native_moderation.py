"""The native vocabulary's requests about others: roles, invitations, removal, mutes, reports, blocks."""

from __future__ import annotations

from typing import Final

from catfish.contracts.interface import Participant, Reply
from catfish.contracts.native_requests import EMPTY, Answer, Handler, Request
from catfish.rooms.model import Role


class SetRole(Request, kw_only=True):
    room: str
    user: str
    role: Role


class RoleAnswer(Answer, kw_only=True):
    role: Role


class OfRoom(Request, kw_only=True):
    """Somebody, and a room."""

    room: str
    user: str


class MuteUser(Request, kw_only=True):
    room: str
    user: str
    duration_ms: int | None = None


class UntilAnswer(Answer, kw_only=True):
    until: int


class BanUser(Request, kw_only=True):
    room: str
    user: str
    duration_ms: int | None = None
    address: bool = False


class ReportRoom(Request, kw_only=True):
    room: str
    reason: str
    user: str | None = None
    seq: int | None = None


class ReportAnswer(Answer, kw_only=True):
    report: int


class OfUser(Request, kw_only=True):
    user: str


class NoFields(Request, kw_only=True):
    pass


class BlockedAnswer(Answer, kw_only=True):
    users: list[str]


async def room_role(who: Participant, request: SetRole, reply: Reply) -> None:
    reply(RoleAnswer(role=await who.moderation.set_role(request.room, request.user, request.role)))


async def room_invite(who: Participant, request: OfRoom, reply: Reply) -> None:
    reply(RoleAnswer(role=await who.moderation.invite(request.room, request.user)))


async def room_kick(who: Participant, request: OfRoom, reply: Reply) -> None:
    await who.moderation.kick(request.room, request.user)
    reply(EMPTY)


async def room_mute(who: Participant, request: MuteUser, reply: Reply) -> None:
    reply(UntilAnswer(until=await who.moderation.mute(request.room, request.user, request.duration_ms)))


async def room_unmute(who: Participant, request: OfRoom, reply: Reply) -> None:
    await who.moderation.mute(request.room, request.user, 0)
    reply(EMPTY)


async def room_ban(who: Participant, request: BanUser, reply: Reply) -> None:
    banning = who.moderation.ban(request.room, request.user, request.duration_ms, address=request.address)
    reply(UntilAnswer(until=await banning))


async def room_unban(who: Participant, request: OfRoom, reply: Reply) -> None:
    await who.moderation.unban(request.room, request.user)
    reply(EMPTY)


async def room_report(who: Participant, request: ReportRoom, reply: Reply) -> None:
    report = await who.moderation.report(request.room, request.user, request.seq, request.reason)
    reply(ReportAnswer(report=report))


async def user_block(who: Participant, request: OfUser, reply: Reply) -> None:
    await who.moderation.block(request.user, True)
    reply(EMPTY)


async def user_unblock(who: Participant, request: OfUser, reply: Reply) -> None:
    await who.moderation.block(request.user, False)
    reply(EMPTY)


async def user_blocked(who: Participant, request: NoFields, reply: Reply) -> None:
    reply(BlockedAnswer(users=await who.moderation.blocked()))


HANDLERS: Final[dict[str, Handler]] = {
    "room:role": Handler(SetRole, room_role),
    "room:invite": Handler(OfRoom, room_invite),
    "room:kick": Handler(OfRoom, room_kick),
    "room:mute": Handler(MuteUser, room_mute),
    "room:unmute": Handler(OfRoom, room_unmute),
    "room:ban": Handler(BanUser, room_ban),
    "room:unban": Handler(OfRoom, room_unban),
    "room:report": Handler(ReportRoom, room_report),
    "user:block": Handler(OfUser, user_block),
    "user:unblock": Handler(OfUser, user_unblock),
    "user:blocked": Handler(NoFields, user_blocked),
}
