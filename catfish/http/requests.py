"""What a request holds: its body, its query, and who sends it.

A body counts as JSON only when it says so (`Content-Type: application/json`): a page of a foreign origin cannot send
that without asking first (Fetch standard, section 2.2.2), so that nobody's browser is made to write what it was not
allowed to.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec
import trio
from starlette.requests import Request

from catfish.auth.tokens import Identity
from catfish.config import Settings
from catfish.errors import Rejected
from catfish.http.asgi import client_of
from catfish.rooms.policy import bad_request
from catfish.server.identification import bearer_in, token_in_query
from catfish.server.instance import Instance
from catfish.server.limits import Limits
from catfish.wire.native import explain

T = TypeVar("T")
WHOLE: Final = re.compile(r"[0-9]{1,18}")


async def read_body(request: Request, settings: Settings) -> bytes:
    """The body, which says that it is JSON.

    Raises:
        Rejected: bad_request when it does not; too_large; too_slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise bad_request("body", "must be JSON, and say so (Content-Type: application/json)")
    body = bytearray()
    with trio.move_on_after(settings.request_body_timeout_s) as scope:
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > settings.request_body_bytes_max:
                    raise Rejected("too_large", f"body: has more than {settings.request_body_bytes_max} bytes")
    if scope.cancelled_caught:
        raise Rejected("too_slow", f"body: did not arrive within {settings.request_body_timeout_s:g} s")
    return bytes(body)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_json(body: bytes, kind: type[T]) -> T:
    """A body as what it must be. Rejected: bad_request; the message names the field."""
    try:
        value: T = _decoder(cast(Any, kind)).decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Rejected("bad_request", explain(error, "body")) from None
    return value


async def read(request: Request, settings: Settings, kind: type[T]) -> T:
    """The body as what it must be. Rejected: as `read_body` and `decode_json`."""
    return decode_json(await read_body(request, settings), kind)


def parameter(request: Request, name: str) -> str | None:
    """A parameter of the query; None when it is not there, or empty.

    Raises:
        Rejected: bad_request when it is there twice.
    """
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise bad_request(name, "comes more than once")
    return values[0] if values and values[0] else None


def whole_number(request: Request, name: str, least: int, most: int) -> int | None:
    """A parameter that must be a whole number within these bounds. Rejected: bad_request."""
    text = parameter(request, name)
    if text is None:
        return None
    if not WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise bad_request(name, f"must be a whole number from {least} to {most}")
    return int(text)


def bearer(request: Request) -> str | None:
    """What comes as a bearer token in the header of a request."""
    return bearer_in(request.headers.get("authorization"))


def token_of(request: Request) -> str | None:
    """The token that comes with a request, in its header or else in its query."""
    return bearer(request) or token_in_query(request.scope["query_string"].decode("latin-1"))


def measure_user(request: Request, limits: Limits, user: str) -> None:
    """A request with a good token of that user. Rejected: rate_limited."""
    if not limits.exempts(client_of(request.scope), request.headers):
        limits.take("rest", user=user)


async def identify(request: Request, instance: Instance) -> Identity | None:
    """Whom the token names; None when there is none, or nobody can tell what it is worth.

    Raises:
        Rejected: unauthorized, when the token is bad, or one is required and not there; rate_limited; unavailable.
    """
    identity = await instance.tokens.recognise(token_of(request))
    if identity is not None:
        instance.recognised(identity.user)
        measure_user(request, instance.limits, identity.user)
    return identity
