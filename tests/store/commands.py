"""Commands as the tests write them, and what they expect to be answered."""

from __future__ import annotations

import itertools
from typing import Any, TypeVar

from catfish.errors import Rejected
from catfish.rooms.commands import (
    Away,
    Command,
    CreateRoom,
    Delete,
    Edit,
    Join,
    Joined,
    Leave,
    Match,
    React,
    Rematch,
    SendMessage,
)
from catfish.rooms.model import Role, RoomKind
from catfish.rooms.moderation import Actor, Invite, Mute, Remove, SetRole, Unban
from catfish.rooms.ports import Store

A = TypeVar("A")
_client_ids = itertools.count(1)

NOW = 1_800_000_000_000
"""A time of messages; milliseconds since the epoch."""


def create(id: str, user: str = "ada", *, code: str | None = None, **given: Any) -> CreateRoom:
    kind = given.pop("kind", RoomKind.OPEN)
    name, capacity, access = given.pop("name", None), given.pop("capacity", None), given.pop("access", None)
    return CreateRoom(id=id, kind=kind, access=access, code=code, name=name, capacity=capacity, user=user)


def join(room: str | None, user: str, instance: str = "i1", *, code: str | None = None, **given: Any) -> Join:
    return Join(
        room=room,
        code=code,
        create=given.pop("create", room is not None),
        user=user,
        name=given.pop("name", user.title()),
        instance=instance,
        with_members=given.pop("members", False),
        **given,
    )


def leave(number: int, user: str, instance: str = "i1", *, away_since: int | None = None) -> Leave:
    return Leave(number=number, user=user, instance=instance, away_since=away_since)


def away(number: int, user: str, instance: str = "i1") -> Away:
    return Away(number=number, user=user, instance=instance)


def match(
    user: str,
    *interests: str,
    instance: str = "i1",
    avoid: tuple[str, ...] = (),
    room: str = "",
    pause_ms: int = 0,
) -> Match:
    return Match(
        user=user,
        name=user.title(),
        instance=instance,
        interests=interests,
        avoid=avoid,
        new_room=room or f"m-{next(_client_ids)}",
        pause_ms=pause_ms,
    )


def actor(by: str) -> Actor:
    """Who has that id; `server` is a server with the API key."""
    return Actor(user=by, server=by == "server")


def set_role(number: int, by: str, user: str, role: Role) -> SetRole:
    return SetRole(number=number, by=actor(by), user=user, role=role)


def invite(number: int, by: str, user: str) -> Invite:
    return Invite(number=number, by=actor(by), user=user)


def mute(number: int, by: str, user: str, duration_ms: int | None = None) -> Mute:
    return Mute(number=number, by=actor(by), user=user, duration_ms=duration_ms)


def kick(number: int, by: str, user: str) -> Remove:
    return Remove(number=number, by=actor(by), user=user)


def ban(number: int, by: str, user: str, duration_ms: int | None = None, *, address: bool = False) -> Remove:
    return Remove(number=number, by=actor(by), user=user, ban=True, duration_ms=duration_ms, address=address)


def unban(number: int, by: str, user: str) -> Unban:
    return Unban(number=number, by=actor(by), user=user)


def rematch(number: int, user: str, instance: str = "i1") -> Rematch:
    return Rematch(number=number, user=user, instance=instance)


def send(
    number: int, user: str = "ada", content: str = "hello", client_id: str | None = "", **given: Any
) -> SendMessage:
    return SendMessage(
        number=number,
        room="not looked at",
        user=user,
        name=given.pop("name", user.title()),
        content=content,
        client_id=f"c{next(_client_ids)}" if client_id == "" else client_id,
        reply_to=given.pop("reply_to", None),
        data=given.pop("data", None),
        created_at=given.pop("at", NOW),
        **given,
    )


def edit(number: int, seq: int, content: str, user: str = "ada", at: int = NOW + 1) -> Edit:
    return Edit(number=number, seq=seq, user=user, content=content, at=at)


def delete(number: int, seq: int, user: str = "ada", at: int = NOW + 2) -> Delete:
    return Delete(number=number, seq=seq, user=user, at=at)


def react(number: int, seq: int, user: str = "ada", emoji: str = "👍", on: bool = True, at: int = NOW + 3) -> React:
    return React(number=number, seq=seq, user=user, emoji=emoji, on=on, at=at)


async def perform(store: Store, command: Command, kind: type[A]) -> A:
    """Commit one command and take its answer, which is of that kind."""
    (answer,) = await store.commit([command])
    assert isinstance(answer, kind), answer
    return answer


async def refused(store: Store, command: Command) -> str:
    """Commit one command that is refused; its code."""
    return (await perform(store, command, Rejected)).code


async def make_room(store: Store, id: str = "lobby", *users: str, instance: str = "i1") -> int:
    """An open room with those users in it; its number."""
    joined = [await perform(store, join(id, user, instance), Joined) for user in users or ("ada",)]
    return joined[0].record.number
