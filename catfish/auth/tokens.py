"""JSON Web Tokens (RFC 7519): whose they are, and whether that is true.

Keys come from the settings: secrets, public keys, the set of an issuer. What a server signs itself (for accounts, see
`server.accounts`) is signed with `jwt_secret`, or else with a secret that all servers of a database share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import jwt

from catfish.auth.jwks import PublishedKeys
from catfish.auth.keys import ALGORITHMS, HMAC, Key, find, parse_pem, secret_key
from catfish.config import Settings
from catfish.errors import Rejected, StartError
from catfish.rooms.grants import Grants, parse_grants
from catfish.rooms.policy import Policy

log = logging.getLogger(__name__)

SECRET_BYTES_MIN: Final = 32
"""RFC 7518 section 3.2: as long as the hash of HS256; who uses a shorter one is told so at start."""
KID_CHARS_MAX: Final = 256


@attrs.frozen
class Identity:
    """What a valid token says."""

    user: str
    """Claim `sub`, else `id`."""
    name: str | None
    claims: dict[str, Any]
    expires_at: int | None = None
    """Milliseconds since the epoch, claim `exp` and the leeway; None: never."""
    grants: Grants | None = None
    """Claim `rooms`; None: it restricts nothing."""


class Foreign(Rejected):
    """A token that none of our keys has signed, or none at all: nothing that it says counts."""

    def __init__(self, message: str) -> None:
        super().__init__("unauthorized", f"token: {message}")


class Expired(Rejected):
    """A token that was good once."""

    def __init__(self) -> None:
        super().__init__("unauthorized", "token: has expired")


class TokenStatistics(NamedTuple):
    """Tokens that were looked at, and those that were refused; fetches of published keys, and those that failed."""

    checked: int
    refused: int
    fetches: int
    failures: int


class TokenVerifier:
    """Checks tokens as the settings say.

    Raises:
        StartError: a key of the settings cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = Policy(settings)
        self._keys = load_keys(settings)
        self._published = None if settings.jwks_url is None else PublishedKeys(settings.jwks_url, settings)
        self.own_secret: Callable[[], Awaitable[str]] | None = None
        """Gives the secret of the database; set by the one who has one. May be rejected as `unavailable`."""
        self._own: Key | None = None
        self.checked = 0
        self.refused = 0
        self.required = settings.auth == "required"
        """Whether nobody comes in without a token."""
        self.checks = bool(self._keys) or self._published is not None
        """Whether the settings have a key. Without one, a token that is not our own says nothing, good or bad."""

    async def recognise(self, token: str | None) -> Identity | None:
        """Who somebody is by a token that came along with something else; None: a guest.

        Raises:
            Rejected: unauthorized; not for a foreign token where nobody can tell what it is worth.
        """
        if token is None:
            if self.required:
                raise Rejected("unauthorized", "token: is required")
            return None
        try:
            return await self.verify(token)
        except Foreign:
            if self.checks or self.required:
                raise
            return None

    def statistics(self) -> TokenStatistics:
        published = self._published
        fetches, failures = (0, 0) if published is None else (published.fetches, published.failures)
        return TokenStatistics(self.checked, self.refused, fetches, failures)

    async def verify(self, token: str) -> Identity:
        """
        Raises:
            Rejected: unauthorized, and why (`Expired` is one kind); unavailable, when keys cannot be had at the moment.
        """
        self.checked += 1
        try:
            return await self._verify(token)
        except Rejected:
            self.refused += 1
            raise

    async def _verify(self, token: str) -> Identity:
        algorithm, kid = self._read_header(token)
        claims = self._try(token, await self._find(algorithm, kid), algorithm)
        if claims is None and self._published is not None and algorithm not in HMAC:
            claims = self._try(token, await self._published.find(algorithm, kid), algorithm)
        if claims is None:
            named = "" if kid is None else f" (kid {kid[:64]!r})"
            raise Foreign(f"its signature is wrong, or by a key that the server does not have{named}")
        return self._identify(claims)

    def _try(self, token: str, keys: Iterable[Key], algorithm: str) -> dict[str, Any] | None:
        """What the token says, if one of these keys has signed it."""
        for key in keys:
            try:
                return self._decode(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        return None

    def _read_header(self, token: str) -> tuple[str, str | None]:
        """The algorithm and the name of the key that a token claims to be signed with."""
        bytes_max = self._settings.token_bytes_max
        if len(token) > bytes_max:
            raise Foreign(f"has {len(token)} characters, at most {bytes_max} are allowed")
        if not token.isascii():
            raise Foreign("is no JSON Web Token")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Foreign("is no JSON Web Token") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if "crit" in header:  # RFC 7515 section 4.1.11: what is critical and not understood is refused
            raise Foreign("has critical extensions, which are not understood here")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise Foreign("is not signed in a way that counts here (alg)")
        if kid is not None and (not isinstance(kid, str) or len(kid) > KID_CHARS_MAX):
            raise Foreign("names no key (kid)")
        return algorithm, kid

    async def _find(self, algorithm: str, kid: str | None) -> list[Key]:
        """Keys of the settings, and our own."""
        if algorithm in HMAC and self._own is None and self._settings.jwt_secret is None:
            if self.own_secret is not None:
                self._own = secret_key(await self.own_secret())
            elif not self.checks:
                raise Foreign("this server has no secret to check tokens with")
        return find(self._keys if self._own is None else (*self._keys, self._own), algorithm, kid)

    def _decode(self, token: str, key: Key, algorithm: str) -> dict[str, Any]:
        settings = self._settings
        # `sub` and `jti` may be numbers in tokens of other servers, and their clocks may be ahead of ours: `nbf` says
        # from when a token counts, `iat` does not (RFC 7519 section 4.1.6).
        options: Any = {"verify_sub": False, "verify_jti": False, "verify_iat": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.material,
                algorithms=[algorithm],
                audience=list(settings.jwt_audience) or None,
                issuer=settings.jwt_issuer,
                leeway=settings.jwt_leeway_s,
                options=options,
            )
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError:
            raise Expired from None
        except jwt.ImmatureSignatureError:
            raise Rejected("unauthorized", "token: is not valid yet (nbf)") from None
        except jwt.InvalidIssuerError:
            raise Rejected("unauthorized", "token: is by another issuer (iss) than the server asks for") from None
        except jwt.InvalidAudienceError:
            raise Rejected("unauthorized", "token: is for another audience (aud) than this server") from None
        except jwt.MissingRequiredClaimError as error:
            raise Rejected("unauthorized", f"token: lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise Rejected("unauthorized", "token: its claims cannot be read") from None
        return claims

    def _identify(self, claims: dict[str, Any]) -> Identity:
        user = claims.get("sub", claims.get("id"))
        if isinstance(user, bool) or not isinstance(user, (str, int)) or user == "":
            raise Rejected("unauthorized", "token: names no user (sub or id)")
        try:
            user = self._policy.user(str(user), "sub")
        except (Rejected, ValueError) as error:  # Python writes no number of more than 4,300 digits
            raise Rejected("unauthorized", f"token: {error}") from None
        try:
            grants = parse_grants(claims.get("rooms"))
        except ValueError as error:
            raise Rejected("unauthorized", f"token: rooms: {error}") from None
        name = claims.get("name")
        expires_at = None
        if "exp" in claims:
            expires_at = int(claims["exp"]) * 1000 + round(self._settings.jwt_leeway_s * 1000)
        return Identity(user, name if isinstance(name, str) and name else None, claims, expires_at, grants)


def load_keys(settings: Settings) -> list[Key]:
    """The keys that the settings hold. Raises StartError for one that is none."""
    keys = []
    secrets = [] if settings.jwt_secret is None else [("jwt_secret", settings.jwt_secret)]
    secrets += [("jwt_secrets_former", secret) for secret in settings.jwt_secrets_former]
    for name, secret in secrets:
        try:
            keys.append(secret_key(secret))
        except ValueError as error:
            raise StartError(f"{name} {error}") from None
        if len(secret.encode()) < SECRET_BYTES_MIN:
            log.warning("%s is short, it can be guessed; take %d random bytes or more", name, SECRET_BYTES_MIN)
    for given in settings.jwt_keys:
        is_text = given.lstrip().startswith("-----BEGIN")
        title = "a key in jwt_keys" if is_text else f"{given}, which jwt_keys names,"
        try:
            keys += parse_pem(given if is_text else Path(given).expanduser().read_text("utf-8"))
        except OSError as error:
            raise StartError(f"{title} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StartError(f"{title} is not a text in PEM") from None
        except ValueError as error:
            raise StartError(f"{title} {error}") from None
    if settings.jwks_url is not None and settings.jwks_url.startswith("http:"):
        log.warning("jwks_url is not https: who is on the way to it can make tokens for anybody")
    return keys


def sign(
    claims: dict[str, Any], secret: str, valid_s: int, *, issuer: str | None = None, audience: Sequence[str] = ()
) -> str:
    """A token with these claims, which expires; signed with HS256."""
    now = int(time.time())
    about: dict[str, Any] = {**claims, "iat": now, "exp": now + valid_s}
    if issuer is not None:
        about["iss"] = issuer
    if audience:
        about["aud"] = audience[0]
    return jwt.encode(about, secret, algorithm="HS256")
