"""`/api/messages`, which several existing clients know: a parameter of the query or a field of the body tells whose
form is meant. Chat POC's is the one for everything else."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from catfish.errors import Rejected
from catfish.http import chatpoc, yum
from catfish.http.refusals import answer
from catfish.http.requests import read_object
from catfish.http.routing import route
from catfish.server.instance import Instance

PATH: Final = "/api/messages"
LISTS: Final = {
    "roomCode": (chatpoc.list_messages, chatpoc.show_error),
    "roomId": (yum.list_messages, yum.show_error),
}


def message_routes(instance: Instance) -> list[BaseRoute]:
    async def list_messages(request: Request) -> Response:
        key = next((key for key in LISTS if key in request.query_params), "roomCode")
        handler, shape = LISTS[key]
        try:
            return await handler(instance, request)
        except Rejected as refusal:
            return answer(refusal, shape)

    async def post_message(request: Request) -> Response:
        try:
            return await chatpoc.post_message(instance, request, await read_object(request, instance.settings))
        except Rejected as refusal:
            return answer(refusal, chatpoc.show_error)

    return [route(PATH, get=list_messages, post=post_message)]
