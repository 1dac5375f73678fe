"""Chat POC's messages over HTTP: whoever knows a room's code reads it and writes to it, as on its sockets.

Errors are `{"error": …}` in the words of its sockets, and a code.
"""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.contracts.chatpoc import check_code, check_message, error_text, show_message
from catfish.errors import Rejected
from catfish.http.requests import identify, parameter
from catfish.rooms.clock import now_ms
from catfish.rooms.codes import draw_id
from catfish.rooms.commands import SendMessage
from catfish.rooms.permissions import Right
from catfish.rooms.policy import SEQ_MAX
from catfish.server.access import Access, acting
from catfish.server.instance import Instance

CODE_REQUIRED: Final = "roomCode query param is required"
NUMBER: Final = re.compile(r"(-?)([0-9]+)(\.[0-9]+)?")


def show_error(status: int, refusal: Rejected) -> dict[str, Any]:
    return {"error": error_text(refusal), "code": refusal.code}


async def list_messages(instance: Instance, access: Access, request: Request) -> Response:
    """The newest messages, or those with ids below `beforeId`, newest first."""
    by = acting(await identify(request, instance))
    code = parameter(request, "roomCode")
    if code is None:
        raise Rejected("bad_request", CODE_REQUIRED)
    limit = _limit(request, instance.settings.history_page_default, instance.settings.history_page_max)
    before = _before(request)
    code = check_code(code)
    number = (await access.allow(Right.READ, by, code=code)).number
    page = await instance.archive.undeleted(number, below_id=before, limit=limit)
    return JSONResponse([show_message(message, number, code) for message in reversed(page.messages)])


async def post_message(instance: Instance, access: Access, request: Request, fields: dict[str, Any]) -> Response:
    """Store a message and tell the room; 201 with the message."""
    identity = await identify(request, instance)
    code, sender, content = check_message(fields, instance.settings.content_chars_max)
    record = await access.allow(Right.SEND, acting(identity), code=code)
    number = record.number
    command = SendMessage(
        number=number,
        room=record.room.id,
        user=draw_id("s") if identity is None else identity.user,  # a session of one message
        name=sender,
        content=content,
        client_id=None,
        reply_to=None,
        data=None,
        created_at=now_ms(),
        grants=None if identity is None else identity.grants,
    )
    message = await instance.publisher.post(command)
    return JSONResponse(show_message(message, number, code), 201)


def _limit(request: Request, default: int, most: int) -> int:
    """As the original read it: what is no number or negative says nothing, 0 asks for none."""
    text = parameter(request, "limit")
    number = NUMBER.fullmatch(text) if text is not None else None
    if number is None or number[1]:
        return default
    if number[3] is not None or len(number[2]) > 9 or int(number[2]) > most:
        raise Rejected("bad_request", f"limit must be a whole number up to {most}")
    return int(number[2])


def _before(request: Request) -> int | None:
    text = parameter(request, "beforeId")
    if text is None:
        return None
    number = NUMBER.fullmatch(text)
    if number is None or number[3] is not None:
        raise Rejected("bad_request", "beforeId must be a whole number")
    if number[1]:
        return 0
    return int(text) if len(number[2]) <= 16 else SEQ_MAX
