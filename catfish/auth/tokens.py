"""JSON Web Tokens (RFC 7519), signed with the server's secret."""

from __future__ import annotations

import time
from typing import Any, Final

import attrs
import jwt

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.grants import Grants, parse_grants

ALGORITHMS: Final = ("HS256", "HS384", "HS512")
"""Accepted signatures: those with a shared secret. `none` and everything else is refused."""


@attrs.frozen
class Identity:
    """What a valid token says."""

    user: str
    """Claim `sub`, else `id`."""
    name: str | None
    claims: dict[str, Any]
    expires_at: int | None = None
    """Milliseconds since the epoch, claim `exp`; None: never."""
    grants: Grants | None = None
    """Claim `rooms`; None: it restricts nothing."""


class TokenVerifier:
    """Checks tokens against `Settings.jwt_secret`."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self.required = settings.auth == "required"
        """Whether nobody comes in without a token."""
        self.checks = self._secret is not None
        """Whether it can tell a good token from a bad one."""

    def verify(self, token: str) -> Identity:
        """Raises:
        Rejected: `unauthorized`, and why; also when no secret is set.
        """
        if self._secret is None:
            raise Rejected("unauthorized", "token: this server has no secret to check tokens with")
        return verify(token, self._secret)


def sign(claims: dict[str, Any], secret: str, valid_s: int) -> str:
    """A token with these claims, which expires."""
    now = int(time.time())
    return jwt.encode({**claims, "iat": now, "exp": now + valid_s}, secret, algorithm="HS256")


def verify(token: str, secret: str) -> Identity:
    """
    Raises:
        Rejected: `unauthorized`, and why: malformed, wrong signature, expired, no user in it.
    """
    try:
        # `sub` may be a number in tokens of other servers; PyJWT would refuse that.
        options: Any = {"verify_sub": False}
        claims = jwt.decode(token, secret, algorithms=list(ALGORITHMS), options=options)
    except jwt.ExpiredSignatureError:
        raise Rejected("unauthorized", "token: has expired") from None
    except jwt.PyJWTError as error:
        raise Rejected("unauthorized", f"token: {str(error)[:100].lower()}") from None
    user = claims.get("sub", claims.get("id"))
    if not isinstance(user, (str, int)) or user == "":
        raise Rejected("unauthorized", "token: names no user (sub or id)")
    name = claims.get("name")
    try:
        grants = parse_grants(claims.get("rooms"))
    except ValueError as error:
        raise Rejected("unauthorized", f"token: rooms: {error}") from None
    expires_at = claims["exp"] * 1000 if "exp" in claims else None
    return Identity(str(user), name if isinstance(name, str) and name else None, claims, expires_at, grants)
