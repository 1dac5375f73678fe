"""What all of PulseChat's routes have alike: who calls, and how refusals are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.errors import Rejected
from catfish.http import shapes
from catfish.http.operations import Operations
from catfish.http.refusals import Handler
from catfish.http.requests import measure_user, token_of
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

Answering = Callable[[Request, str], Awaitable[dict[str, Any]]]
"""Handles a request of the user with that id; the members of the answer."""


def show_error(status: int, refusal: Rejected) -> dict[str, Any]:
    message = "Unauthorized" if refusal.code == "unauthorized" else refusal.message
    return {"status": status, "message": message, "code": refusal.code}


async def caller(accounts: Accounts, request: Request) -> str:
    """The user whom the token names. Rejected: unauthorized, unavailable, rate_limited."""
    token = token_of(request)
    if token is None:
        raise Rejected("unauthorized", "token: is required")
    user = (await accounts.verify(token)).user
    measure_user(request, accounts.limits, user)
    return user


def answering(accounts: Accounts, handler: Answering) -> Handler:
    """A handler for those who have a token; what it answers has the status in the body as well."""

    async def answer(request: Request) -> Response:
        return JSONResponse({**await handler(request, await caller(accounts, request)), "status": 200})

    return answer


def operations_of(instance: Instance, tag: str) -> Operations:
    return Operations(instance, tag, show_error, shapes.PulseProblem)
