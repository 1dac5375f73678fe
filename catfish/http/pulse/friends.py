"""Asking somebody to be a friend, and answering."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from catfish.contracts.pulsechat_shapes import show_account, show_conversation, show_request
from catfish.http import shapes
from catfish.http.operations import Operation
from catfish.http.pulse.common import answering, operations_of
from catfish.http.requests import read
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

TAG = "friends"


class WhichFriend(msgspec.Struct):
    friendId: str


class Accepted(msgspec.Struct):
    requestId: int
    friendId: str


class Declined(msgspec.Struct):
    requestId: int


def operations(instance: Instance, accounts: Accounts) -> list[Operation]:
    settings = instance.settings

    async def send(request: Request, user: str) -> dict[str, Any]:
        body = await read(request, settings, WhichFriend)
        found, new = await accounts.request(user, body.friendId)
        if not new:
            return {"message": "Request already sent", "existingFriend": show_request(found)}
        return {"friendRequest": show_request(found)}

    async def show(request: Request, user: str) -> dict[str, Any]:
        return {"friendRequests": [show_request(each) for each in await accounts.requests(user)]}

    async def accept(request: Request, user: str) -> dict[str, Any]:
        body = await read(request, settings, Accepted)
        conversation, friend = await accounts.accept(user, body.requestId, body.friendId)
        return {"newConversation": show_conversation(conversation), "newFriend": show_account(friend)}

    async def decline(request: Request, user: str) -> dict[str, Any]:
        body = await read(request, settings, Declined)
        return {"declinedRequest": show_request(await accounts.decline(user, body.requestId))}

    async def remove(request: Request, user: str) -> dict[str, Any]:
        body = await read(request, settings, WhichFriend)
        return {"removedFriend": show_account(await accounts.part(user, body.friendId))}

    found = operations_of(instance, TAG)
    found.add(
        "post",
        "/api/friendrequest/send",
        "Ask somebody to be a friend",
        answering(accounts, send),
        access="token",
        body=WhichFriend,
        answer=shapes.RequestAnswer,
        more="Where a request is pending between the two, that one is answered as `existingFriend`.",
    )
    found.add(
        "get",
        "/api/friend/requests",
        "List requests that one sent or received and that were not declined, newest first",
        answering(accounts, show),
        access="token",
        answer=shapes.RequestsAnswer,
    )
    found.add(
        "post",
        "/api/friend/accept",
        "Accept a request",
        answering(accounts, accept),
        access="token",
        body=Accepted,
        answer=shapes.AcceptedAnswer,
    )
    found.add(
        "post",
        "/api/friend/decline",
        "Decline a request",
        answering(accounts, decline),
        access="token",
        body=Declined,
        answer=shapes.DeclinedAnswer,
    )
    found.add(
        "post",
        "/api/friend/remove",
        "Be friends no more",
        answering(accounts, remove),
        access="token",
        body=WhichFriend,
        answer=shapes.RemovedAnswer,
    )
    return found.all
