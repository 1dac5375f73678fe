"""`/`: what this is.

PulseChat's clients and probes expect an answer there, Chat POC's expect none: a server where somebody has an account
answers, any other has nothing on that path.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.http import shapes
from catfish.http.health import SERVICE, TAG
from catfish.http.operations import Operation
from catfish.server.accounts import Accounts


def operations(accounts: Accounts) -> list[Operation]:
    async def show(request: Request) -> Response:
        if not await accounts.are_there():
            raise HTTPException(404)
        return JSONResponse({"service": SERVICE, "docs": "/docs", "openapi": "/openapi.json"})

    return [
        Operation(
            method="get",
            path="/",
            summary="Tell what this is",
            more="404 while nobody has an account.",
            tag=TAG,
            access="anyone",
            respond=show,
            answer=shapes.Service,
        )
    ]
