"""`/api/messages`, which several existing clients know: a parameter of the query, or a field of the body, tells whose
form is meant. Chat POC's is the one for everything else."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from catfish.http import chatpoc, yum
from catfish.http.pulse import conversations
from catfish.http.pulse.common import answering
from catfish.http.refusals import telling
from catfish.http.requests import decode_json, read_body
from catfish.http.routing import route
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

PATH: Final = "/api/messages"


def message_routes(instance: Instance, accounts: Accounts) -> list[BaseRoute]:
    async def list_of_chatpoc(request: Request) -> Response:
        return await chatpoc.list_messages(instance, request)

    async def list_of_yum(request: Request) -> Response:
        return await yum.list_messages(instance, accounts, request)

    async def list_of_pulse(request: Request, user: str) -> dict[str, Any]:
        return await conversations.list_messages(accounts, request, user)

    lists = {
        "roomCode": telling(chatpoc.show_error, list_of_chatpoc),
        "roomId": telling(yum.show_error, list_of_yum),
        "chatId": answering(accounts, list_of_pulse),
    }

    async def list_messages(request: Request) -> Response:
        key = next((key for key in lists if key in request.query_params), "roomCode")
        return await lists[key](request)

    async def post_message(request: Request) -> Response:
        body = await read_body(request, instance.settings)
        fields = decode_json(body, dict)
        if "chatId" not in fields:
            return await chatpoc.post_message(instance, request, fields)

        async def send(request: Request, user: str) -> dict[str, Any]:
            return await conversations.send(accounts, decode_json(body, conversations.NewMessage), user)

        return await answering(accounts, send)(request)

    return [route(PATH, get=list_messages, post=telling(chatpoc.show_error, post_message))]
