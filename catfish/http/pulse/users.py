"""Signing in, and finding others."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from catfish.config import Settings
from catfish.contracts.pulsechat_shapes import show_account, show_found, show_own_account
from catfish.errors import Rejected
from catfish.http.pulse.common import answering, show_error
from catfish.http.refusals import telling
from catfish.http.requests import parameter, read
from catfish.http.routing import route
from catfish.http.trust import TrustedAddresses, has_api_key
from catfish.rooms.policy import bad_request
from catfish.server.accounts import Accounts


class Login(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who signed in at a provider, as a front end's own server found out."""

    name: str
    email: str
    provider: str
    oauth_id: str
    image: str | None = None


class WhichUser(msgspec.Struct):
    id: str


def routes(accounts: Accounts, settings: Settings) -> list[BaseRoute]:
    trusted = TrustedAddresses(settings.login_from)

    async def login(request: Request) -> Response:
        if not (has_api_key(request, settings) or trusted.sent(request)):
            raise Rejected("forbidden", "only servers of `login_from`, or with the API key, sign users in")
        body = await read(request, settings, Login)
        account = await accounts.sign_in(**msgspec.structs.asdict(body))
        user = show_own_account(account, await accounts.sign(account))
        return JSONResponse({"message": "Logged in Sucessfully!", "user": user}, headers={"cache-control": "no-store"})

    async def search(request: Request, user: str) -> dict[str, Any]:
        page = parameter(request, "pageNumber") or ""
        found = await accounts.search(
            user, parameter(request, "query") or "", int(page) if page.isascii() and page.isdigit() else 1
        )
        return {"users": [show_found(each) for each in found]}

    async def show(request: Request, user: str) -> dict[str, Any]:
        id = parameter(request, "id")
        if id is None and "content-type" in request.headers:
            id = (await read(request, settings, WhichUser)).id
        if not id:
            raise bad_request("id", "is required")
        account = await accounts.find(id)
        if account is None:
            return {"message": "No User found"}
        return {"user": show_own_account(account) if account.id == user else show_account(account)}

    return [
        route("/api/auth/login", post=telling(show_error, login)),
        route("/api/users/all", get=answering(accounts, search)),
        route("/api/user", get=answering(accounts, show)),
    ]
