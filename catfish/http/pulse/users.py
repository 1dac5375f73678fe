"""Signing in, and finding others."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.contracts.pulsechat_shapes import show_account, show_found, show_own_account
from catfish.errors import Rejected
from catfish.http import shapes
from catfish.http.operations import Operation
from catfish.http.pulse.common import answering, operations_of
from catfish.http.requests import parameter, read
from catfish.http.trust import TrustedAddresses, has_api_key
from catfish.rooms.policy import bad_request
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance

TAG = "accounts"


class Login(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who signed in at a provider, as a front end's own server found out."""

    name: str
    email: str
    provider: str
    oauth_id: str
    image: str | None = None


class WhichUser(msgspec.Struct):
    id: str


class Wanted(msgspec.Struct):
    query: Annotated[str, Meta(description="A part of the name, in any case.")] | None = None
    pageNumber: Annotated[str, Meta(description="From 1 on, thirty a page; what is no number is 1.")] | None = None


class WhichUserToShow(msgspec.Struct):
    id: str | None = None


def operations(instance: Instance, accounts: Accounts) -> list[Operation]:
    settings = instance.settings
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

    found = operations_of(instance, TAG)
    found.add(
        "post",
        "/api/auth/login",
        "Sign somebody in whom a provider vouched for",
        login,
        access="server",
        body=Login,
        answer=shapes.LoginAnswer,
        more="For a front end's own server, which has asked the provider. The first time makes the account.",
    )
    found.add(
        "get",
        "/api/users/all",
        "Find accounts by a part of their name, newest first",
        answering(accounts, search),
        access="token",
        query=Wanted,
        answer=shapes.FoundAnswer,
    )
    found.add(
        "get",
        "/api/user",
        "Show an account",
        answering(accounts, show),
        access="token",
        query=WhichUserToShow,
        answer=shapes.UserAnswer,
        more="The id may also come as `{id}` in a JSON body.",
    )
    return found.all
