"""Asking somebody to be a friend, and answering."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute

from catfish.config import Settings
from catfish.contracts.pulsechat_shapes import show_account, show_conversation, show_request
from catfish.http.pulse.common import answering
from catfish.http.requests import read
from catfish.http.routing import route
from catfish.server.accounts import Accounts


class WhichFriend(msgspec.Struct):
    friendId: str


class Accepted(msgspec.Struct):
    requestId: int
    friendId: str


class Declined(msgspec.Struct):
    requestId: int


def routes(accounts: Accounts, settings: Settings) -> list[BaseRoute]:
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

    return [
        route("/api/friendrequest/send", post=answering(accounts, send)),
        route("/api/friend/requests", get=answering(accounts, show)),
        route("/api/friend/accept", post=answering(accounts, accept)),
        route("/api/friend/decline", post=answering(accounts, decline)),
        route("/api/friend/remove", post=answering(accounts, remove)),
    ]
