"""`/api/messages`, which several existing clients know: a parameter of the query, or a field of the body, tells whose
form is meant. Chat POC's is the one for everything else."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from catfish.http import chatpoc, shapes, yum
from catfish.http.operations import Operation, Operations
from catfish.http.pulse import conversations
from catfish.http.pulse.common import answering, show_error
from catfish.http.refusals import telling
from catfish.http.requests import decode_json, read_body
from catfish.server.access import Access
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

PATH: Final = "/api/messages"
TAG: Final = "messages"
PROBLEMS: Final = (shapes.ChatPocProblem, shapes.YumProblem, shapes.PulseProblem)


class MessagesOf(msgspec.Struct):
    """Of `roomCode`, `roomId` and `chatId` there is one."""

    roomCode: str | None = None
    roomId: str | None = None
    chatId: str | None = None
    limit: str | None = None
    beforeId: int | None = None
    cursor: str | None = None
    pageParam: str | None = None


class PostedMessage(msgspec.Struct):
    """Either `roomCode`, `sender` and `content`, or `chatId` and `message`."""

    roomCode: str | None = None
    sender: str | None = None
    content: str | None = None
    chatId: str | None = None
    message: str | None = None


def operations(instance: Instance, accounts: Accounts, access: Access) -> list[Operation]:
    async def list_of_chatpoc(request: Request) -> Response:
        return await chatpoc.list_messages(instance, access, request)

    async def list_of_yum(request: Request) -> Response:
        return await yum.list_messages(instance, access, request)

    async def list_of_pulse(request: Request, user: str) -> dict[str, Any]:
        return await conversations.list_messages(accounts, request, user)

    lists = {
        "roomCode": telling(chatpoc.show_error, list_of_chatpoc),
        "roomId": telling(yum.show_error, list_of_yum),
        "chatId": telling(show_error, answering(accounts, list_of_pulse)),
    }

    async def list_messages(request: Request) -> Response:
        key = next((key for key in lists if key in request.query_params), "roomCode")
        return await lists[key](request)

    async def post_message(request: Request) -> Response:
        body = await read_body(request, instance.settings)
        fields = decode_json(body, dict)
        if "chatId" not in fields:
            return await chatpoc.post_message(instance, access, request, fields)

        async def send(request: Request, user: str) -> dict[str, Any]:
            return await conversations.send(accounts, decode_json(body, conversations.NewMessage), user)

        return await telling(show_error, answering(accounts, send))(request)

    found = Operations(instance, TAG, chatpoc.show_error, PROBLEMS)
    found.add(
        "get",
        PATH,
        "List messages: of a room by its code, of an open room by its id, of a conversation",
        list_messages,
        access="caller",
        query=MessagesOf,
        answer=(list[shapes.ChatPocMessage], shapes.YumPage, shapes.HistoryAnswer),
        more="By code with `limit` and `beforeId`, by id with `limit` and `cursor`: newest first."
        " Of a conversation (with a token) with `pageParam`: thirty, oldest first.",
    )
    found.add(
        "post",
        PATH,
        "Send a message: to a room by its code, or to a conversation",
        post_message,
        access="caller",
        body=PostedMessage,
        answer=(shapes.ChatPocMessage, shapes.SentAnswer),
        status=201,
        also=(200,),
        more="Answered with 201 for a room, with 200 for a conversation, which takes a token.",
    )
    return found.all
