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
from catfish.http.logins import PasswordLogin, answer_logged
from catfish.http.operations import Operation
from catfish.http.pulse.common import answering, operations_of
from catfish.http.requests import decode_json, parameter, read, read_body
from catfish.http.trust import TrustedAddresses, has_api_key
from catfish.rooms.policy import bad_request
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance
from catfish.server.logins import Logins

TAG = "accounts"
LOGGED_IN = "Logged in Sucessfully!"  # as existing front ends know it


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


class _Either(msgspec.Struct):
    password: Any = None


def _has_password(body: bytes) -> bool:
    """Whether somebody logs in by password, well or badly."""
    try:
        return msgspec.json.decode(body, type=_Either).password is not None
    except (ValueError, RecursionError):
        return False  # it is told what is wrong with it as with any other body


def operations(instance: Instance, accounts: Accounts, logins: Logins) -> list[Operation]:
    settings = instance.settings
    trusted = TrustedAddresses(settings.login_from)

    async def login(request: Request) -> Response:
        sent = await read_body(request, settings)
        if _has_password(sent):
            by_password = decode_json(sent, PasswordLogin)
            return answer_logged(await logins.log_in(by_password.email, by_password.password), LOGGED_IN)
        if not (has_api_key(request, settings) or trusted.sent(request)):
            raise Rejected("forbidden", "only servers of `login_from`, or with the API key, sign users in")
        body = decode_json(sent, Login)
        account = await accounts.sign_in(**msgspec.structs.asdict(body))
        user = show_own_account(account, await accounts.sign(account))
        return JSONResponse({"message": LOGGED_IN, "user": user}, headers={"cache-control": "no-store"})

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
        "Log in by email and password, or sign somebody in whom a provider vouched for",
        login,
        access="server",
        body=(PasswordLogin, Login),
        answer=(shapes.LoggedAnswer, shapes.LoginAnswer),
        more="Without a password it is for a front end's own server, which has asked the provider; the first time makes"
        " the account. Who logs in by password gets an access token for some minutes and a refresh token.",
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
