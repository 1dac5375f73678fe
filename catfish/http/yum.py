"""Yum's messages over HTTP: pages of rooms, newest first."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.contracts.yum import show_message
from catfish.errors import Rejected
from catfish.http.requests import identify, parameter, whole_number
from catfish.rooms.permissions import Right
from catfish.rooms.policy import SEQ_MAX, bad_request
from catfish.server.access import Access, acting
from catfish.server.instance import Instance


def show_error(status: int, refusal: Rejected) -> dict[str, Any]:
    """As its sockets tell refusals."""
    return {"ok": False, "error": refusal.message, "code": refusal.code}


async def list_messages(instance: Instance, access: Access, request: Request) -> Response:
    """A page; `cursor` is the `nextCursor` of the one before. A room that nobody has entered yet is empty."""
    identity = await identify(request, instance)
    room_id = parameter(request, "roomId")
    if room_id is None:
        raise bad_request("roomId", "is required")
    limit = whole_number(request, "limit", 1, instance.settings.history_page_max)
    below = whole_number(request, "cursor", 1, SEQ_MAX)
    instance.policy.room(room_id, "roomId")
    try:
        record = await access.allow(Right.READ, acting(identity), room=room_id)
    except Rejected as refusal:
        if refusal.code != "no_such_room":
            raise
        return JSONResponse({"messages": [], "nextCursor": None})
    if limit is None:
        limit = instance.settings.history_page_default
    page = await instance.archive.undeleted(record.number, below=below, limit=limit)
    messages = [show_message(message) for message in reversed(page.messages)]
    next_cursor = str(page.messages[0].seq) if page.more and page.messages else None
    return JSONResponse({"messages": messages, "nextCursor": next_cursor})
