"""Refusals as answers: the status of each code, and the one shape in which routes of our own tell them.

`{"status": "fail" | "error", "code": …, "message": …}`; "fail" is the client's fault, "error" the server's. Routes that
existing clients know have shapes of their own, and the code as well.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.errors import Rejected

Handler = Callable[[Request], Awaitable[Response]]
Shape = Callable[[int, Rejected], dict[str, Any]]
"""The body of an answer, from its status and the refusal."""

STATUS: Final[Mapping[str, int]] = {
    "bad_request": 400,
    "bad_credentials": 401,
    "unauthorized": 401,
    "forbidden": 403,
    "banned": 403,
    "muted": 403,
    "blocked": 403,
    "not_in_room": 403,
    "not_your_message": 403,
    "no_such_code": 404,
    "no_such_conversation": 404,
    "no_such_member": 404,
    "no_such_message": 404,
    "no_such_report": 404,
    "no_such_request": 404,
    "no_such_room": 404,
    "no_such_user": 404,
    "too_slow": 408,
    "already_friends": 409,
    "already_in_room": 409,
    "email_taken": 409,
    "in_progress": 409,
    "request_answered": 409,
    "room_closed": 409,
    "room_full": 409,
    "too_many_rooms": 409,
    "user_taken": 409,
    "too_large": 413,
    "key_reused": 422,
    "rate_limited": 429,
    "internal": 500,
    "busy": 503,
    "draining": 503,
    "unavailable": 503,
}
"""What is not here is the client's fault: 400."""


def status_of(refusal: Rejected) -> int:
    return STATUS.get(refusal.code, 400)


def show(status: int, code: str, message: str) -> dict[str, Any]:
    return {"status": "error" if status >= 500 else "fail", "code": code, "message": message}


def code_of(status: int) -> str:
    """The code of an answer that has no refusal behind it, such as `method_not_allowed` for 405."""
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")


def answer(refusal: Rejected, shape: Shape | None = None) -> Response:
    """The answer to a refused request: with `Retry-After` (RFC 9110 section 10.2.3) when it may be repeated, and
    `WWW-Authenticate` (section 11.6.1) when a token would help."""
    status = status_of(refusal)
    headers = {"cache-control": "no-store"}
    if refusal.retry_after_ms is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after_ms / 1000))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    body = show(status, refusal.code, refusal.message) if shape is None else shape(status, refusal)
    return JSONResponse(body, status, headers=headers)


def telling(shape: Shape, handler: Handler) -> Handler:
    """The handler, with its refusals answered in that shape."""

    async def told(request: Request) -> Response:
        try:
            return await handler(request)
        except Rejected as refusal:
            request.scope["refusal"] = refusal.code
            return answer(refusal, shape)

    return told
