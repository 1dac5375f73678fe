"""`/`: what this is.

PulseChat's clients and probes expect an answer there, Chat POC's expect none: a server where somebody has an account
answers, any other has nothing on that path.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from catfish.http.app import SERVICE
from catfish.http.routing import route
from catfish.server.accounts import Accounts


def root_routes(accounts: Accounts) -> list[BaseRoute]:
    async def show(request: Request) -> Response:
        if not await accounts.are_there():
            raise HTTPException(404)
        return JSONResponse({"service": SERVICE})

    return [route("/", get=show)]
