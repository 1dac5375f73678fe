"""Conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.contracts.pulsechat_shapes import (
    show_conversation,
    show_in_history,
    show_overview,
    show_sent,
    show_with_members,
)
from catfish.errors import Rejected
from catfish.http import shapes
from catfish.http.operations import Operation
from catfish.http.pulse.common import answering, caller, operations_of
from catfish.http.requests import parameter, read, token_of
from catfish.rooms.policy import bad_request
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

TAG = "conversations"


class NewConversation(msgspec.Struct):
    members: list[str]
    isGroup: bool | None = None
    name: str | None = None


class WhichConversation(msgspec.Struct):
    chatId: str


class MessagesOf(msgspec.Struct):
    chatId: str
    pageParam: Annotated[str, Meta(description="Id of the oldest message that one has.")] | None = None


class WhichMessage(msgspec.Struct):
    messageId: str


class NewMessage(msgspec.Struct):
    chatId: str
    message: str | None = None


async def create(accounts: Accounts, body: NewConversation, user: str) -> dict[str, Any]:
    others = list(dict.fromkeys(member for member in body.members if member != user))
    if body.isGroup:
        if body.name is None or not body.name.strip():
            raise bad_request("name", "a group needs a name")
        conversation = await accounts.gather(user, others, body.name)
    elif not body.members:
        raise bad_request("members", "must not be empty")
    elif len(others) > 1:
        raise bad_request("members", "a conversation that is no group has one other member")
    else:
        conversation = await accounts.talk(user, others[0] if others else user)
    return {"conversation": show_conversation(conversation)}


async def list_messages(accounts: Accounts, request: Request, user: str) -> dict[str, Any]:
    """A page of messages, oldest first; also `GET /api/messages?chatId`."""
    id = parameter(request, "chatId")
    if id is None:
        raise bad_request("chatId", "is required")
    page = await accounts.history(user, id, parameter(request, "pageParam"))
    return {"messages": [show_in_history(message, page.number, page.authors) for message in page.messages]}


async def send(accounts: Accounts, body: NewMessage, user: str) -> dict[str, Any]:
    """Also `POST /api/messages {chatId, message}`."""
    message, number = await accounts.send(user, body.chatId, body.message)
    return {"message": show_sent(message, number)}


def operations(instance: Instance, accounts: Accounts) -> list[Operation]:
    settings = instance.settings

    async def create_one(request: Request, user: str) -> dict[str, Any]:
        return await create(accounts, await read(request, settings, NewConversation), user)

    async def list_all(request: Request, user: str) -> dict[str, Any]:
        return {"conversations": [show_overview(each, user) for each in await accounts.conversations(user)]}

    async def show(request: Request) -> Response:
        # In open mode a conversation's id is what admits, as on the sockets; who has a token must be a member.
        user = await caller(accounts, request) if token_of(request) or settings.auth == "required" else None
        body = await read(request, settings, WhichConversation)
        try:
            shown = show_with_members(await accounts.conversation(body.chatId, user))
        except Rejected as refusal:
            if refusal.code != "no_such_conversation":
                raise
            shown = None
        return JSONResponse({"conversation": shown, "status": 200})

    async def messages(request: Request, user: str) -> dict[str, Any]:
        return await list_messages(accounts, request, user)

    async def send_one(request: Request, user: str) -> dict[str, Any]:
        return await send(accounts, await read(request, settings, NewMessage), user)

    async def delete(request: Request, user: str) -> dict[str, Any]:
        id = parameter(request, "messageId")
        if id is None:
            raise bad_request("messageId", "is required")
        await accounts.delete(user, id)
        return {"message": "Message Deleted"}

    found = operations_of(instance, TAG)
    found.add(
        "post",
        "/api/new/chat",
        "Begin a conversation of two, or a group",
        answering(accounts, create_one),
        access="token",
        body=NewConversation,
        answer=shapes.ConversationAnswer,
        more="Two have one conversation, whoever begins it. A group has a name and two others at least.",
    )
    found.add(
        "get",
        "/api/chats/all",
        "List one's conversations: the one with oneself, then the latest",
        answering(accounts, list_all),
        access="token",
        answer=shapes.ConversationsAnswer,
    )
    found.add(
        "post",
        "/api/chat/id",
        "Show a conversation",
        show,
        access="caller",
        body=WhichConversation,
        answer=shapes.ShownConversationAnswer,
        more="Who has a token must be a member.",
    )
    found.add(
        "get",
        "/api/chat/messages",
        "List thirty messages of a conversation, oldest first",
        answering(accounts, messages),
        access="token",
        query=MessagesOf,
        answer=shapes.HistoryAnswer,
    )
    found.add(
        "post",
        "/api/chat/send/message",
        "Send a message to a conversation",
        answering(accounts, send_one),
        access="token",
        body=NewMessage,
        answer=shapes.SentAnswer,
    )
    found.add(
        "delete",
        "/api/chat/message",
        "Delete a message",
        answering(accounts, delete),
        access="token",
        query=WhichMessage,
        answer=shapes.DeletedAnswer,
        more="For its author; in a conversation of two for either.",
    )
    return found.all
