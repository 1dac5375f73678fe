"""POST requests that are carried out once, however often they are sent (draft-ietf-httpapi-idempotency-key-header).

A client chooses a key for each request that it may have to repeat, and sends it in `Idempotency-Key`. The first request
under a key is carried out; the others get its answer, with `Idempotency-Replayed: true`, on whichever instance they
arrive, as long as the key is remembered. Keys of different callers and paths have nothing to do with each other.

Only success is remembered, since a refused request has done nothing; and no answer that is not to be stored (RFC 9111
section 5.2.2.5), such as one with a token. An instance that dies while it works leaves the key taken for `STALE_S`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import MutableMapping
from typing import Any, Final

import trio
from starlette.requests import Request
from starlette.responses import Response

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.http.refusals import Handler
from catfish.http.requests import read_body
from catfish.rooms.directory import Answers, KeptAnswer
from catfish.rooms.policy import bad_request
from catfish.rooms.ports import StoreUnavailable
from catfish.server.archive import available
from catfish.server.identification import token_in_query

log = logging.getLogger(__name__)

HEADER: Final = "idempotency-key"
REPLAYED: Final = {"idempotency-replayed": "true"}
KEY_CHARS_MAX: Final = 255
STALE_S: Final = 60.0
BUSY_RETRY_MS: Final = 1_000
PRUNE_S: Final = 3_600.0
CREDENTIALS: Final = ("authorization", "x-api-key")


class Idempotency:
    def __init__(self, settings: Settings, answers: Answers) -> None:
        self._settings = settings
        self._answers = answers
        self._prune_at = float("-inf")

    def once(self, handler: Handler) -> Handler:
        """The handler of a POST route, carried out once for each key.

        It raises `Rejected` as the handler itself does: bad_request, key_reused, in_progress, unavailable.
        """

        async def respond(request: Request) -> Response:
            key = request.headers.get(HEADER)
            return await (handler(request) if key is None else self._respond(request, key, handler))

        return respond

    async def _respond(self, request: Request, key: str, handler: Handler) -> Response:
        if not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
            raise bad_request("Idempotency-Key", f"must have 1 to {KEY_CHARS_MAX} printable characters")
        body = await read_body(request, self._settings) if _has_body(request) else b""
        credentials = [request.headers.get(each, "") for each in CREDENTIALS]
        if token_in_query(request.url.query) is not None:
            credentials.append(request.url.query)
        name = _hash(request.method, request.url.path, *credentials, key)
        await self._prune()
        found = await available(self._answers.claim(name, hashlib.sha256(body).hexdigest(), STALE_S))
        if found == "other":
            raise Rejected("key_reused", "Idempotency-Key: came with another request before")
        if found == "busy":
            raise Rejected("in_progress", "the first request under that key is under way", BUSY_RETRY_MS)
        if isinstance(found, KeptAnswer):
            return Response(found.body, found.status, REPLAYED, found.kind)
        return await self._carry_out(request, name, body, handler)

    async def _carry_out(self, request: Request, name: str, body: bytes, handler: Handler) -> Response:
        """Carry out a request, and remember its answer."""
        response: Response | None = None
        try:
            response = await handler(Request(request.scope, _replaying(body)))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._settings.database_timeout_s):
                await self._remember(name, response)
        return response

    async def _remember(self, name: str, response: Response | None) -> None:
        try:
            if response is None or not _is_kept(response):
                await self._answers.release(name)
            else:
                kind = response.headers.get("content-type", "application/json")
                kept = KeptAnswer(status=response.status_code, kind=kind, body=bytes(response.body))
                await self._answers.keep(name, kept)
        except StoreUnavailable as error:
            log.info("the answer to an idempotent request is not remembered", extra={"error": str(error)})

    async def _prune(self) -> None:
        now = trio.current_time()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_S
            await available(self._answers.prune(self._settings.idempotency_s))


def _is_kept(response: Response) -> bool:
    return response.status_code < 400 and "no-store" not in response.headers.get("cache-control", "")


def _has_body(request: Request) -> bool:
    """Whether a body follows (RFC 9112 section 6.3)."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _hash(*parts: str) -> str:
    """Of several texts, which nobody can shift from one to the next."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()


def _replaying(body: bytes) -> Any:
    """What Starlette reads a request's body from, for a body that was read before."""
    given = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            await trio.sleep_forever()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
