"""Accounts with a password: register, log in, go on, log out. Logging in shares its path with PulseChat's, see
`catfish.http.pulse.users`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from catfish.contracts.pulsechat_shapes import show_own_account
from catfish.errors import Rejected
from catfish.http import shapes
from catfish.http.operations import Operation, Operations, json_answer
from catfish.http.requests import read, token_of
from catfish.http.trust import has_api_key
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance
from catfish.server.logins import Logged, Logins, Tokens

TAG: Final = "accounts"
NO_STORE: Final = {"cache-control": "no-store"}

Password = Annotated[str, Meta(min_length=1, description="Hashed with Argon2id; nothing else of it is kept.")]
RefreshToken = Annotated[str, Meta(min_length=1, description="Good for one use; the answer has the next one.")]


class Registration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    email: str
    password: Password
    name: str | None = None
    """How others see the account; the part of the email before the @ when left out."""


class PasswordLogin(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    email: str
    password: Password


class NewPassword(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    password: Password
    """The one so far."""
    newPassword: Password


class Refresh(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    refreshToken: RefreshToken


class Logout(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    refreshToken: RefreshToken
    everywhere: bool = False
    """End every login of the account, and its open sessions."""


def show_tokens(tokens: Tokens) -> dict[str, Any]:
    """As RFC 6749 section 5.1 has them, in our spelling."""
    return {
        "accessToken": tokens.access,
        "refreshToken": tokens.refresh,
        "tokenType": "Bearer",
        "expiresIn": tokens.expires_in_s,
    }


def answer_logged(logged: Logged, message: str, status: int = 200) -> Response:
    """The account with its tokens; `user.token` is where PulseChat's front end looks for the access token."""
    user = show_own_account(logged.account, logged.tokens.access)
    return json_answer({"message": message, "user": user, **show_tokens(logged.tokens)}, status, NO_STORE)


def operations(instance: Instance, accounts: Accounts, logins: Logins) -> list[Operation]:
    settings = instance.settings

    async def register(request: Request) -> Response:
        is_server = has_api_key(request, settings)
        if not (is_server or logins.is_open):
            raise Rejected("forbidden", "only servers with the API key make accounts here (setting `registration`)")
        body = await read(request, settings, Registration)
        return answer_logged(await logins.register(**msgspec.structs.asdict(body)), "Registered", 201)

    async def refresh(request: Request) -> Response:
        body = await read(request, settings, Refresh)
        return json_answer(show_tokens((await logins.refresh(body.refreshToken)).tokens), 200, NO_STORE)

    async def log_out(request: Request) -> Response:
        body = await read(request, settings, Logout)
        await logins.log_out(body.refreshToken, everywhere=body.everywhere)
        return json_answer({}, 200, NO_STORE)

    async def change_password(request: Request) -> Response:
        token = token_of(request)
        if token is None:
            raise Rejected("unauthorized", "token: is required")
        user = (await accounts.verify(token)).user
        body = await read(request, settings, NewPassword)
        return answer_logged(await logins.change_password(user, body.password, body.newPassword), "Password changed")

    found = Operations(instance, TAG)
    found.add(
        "post",
        "/api/auth/register",
        "Make an account with an email and a password",
        register,
        access="anyone",
        body=Registration,
        answer=shapes.LoggedAnswer,
        status=201,
        more="Where `registration` admits that. Nobody checks whose email it is: when a provider later vouches for it"
        " (`POST /api/auth/login`), the account is the provider's, and the password ends.",
    )
    found.add(
        "post",
        "/api/auth/refresh",
        "Get the next access token",
        refresh,
        access="anyone",
        body=Refresh,
        answer=shapes.TokensAnswer,
        more="A refresh token that comes a second time was stolen: then all that followed from the same login end.",
    )
    found.add(
        "post",
        "/api/auth/logout",
        "Log out",
        log_out,
        access="anyone",
        body=Logout,
        answer=shapes.Nothing,
        more="Refresh tokens of that login end; access tokens are short-lived, and run out.",
    )
    found.add(
        "post",
        "/api/auth/password",
        "Change one's password",
        change_password,
        access="token",
        body=NewPassword,
        answer=shapes.LoggedAnswer,
        more="Every other login of the account ends.",
    )
    return found.all
