"""The HTTP application: health, and a JSON answer to everything that is not there.

Errors have one shape, see `catfish.http.refusals`. A fault in a handler is answered 500 and logged with its traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from catfish.errors import Rejected
from catfish.http import refusals
from catfish.http.routing import route

log = logging.getLogger(__name__)

SERVICE: Final = "chat-service"
"""The name that existing clients and their probes expect."""


@attrs.frozen
class Health:
    """The state of the server, as `/health` tells it."""

    ready: bool
    """Whether it serves: started, its store reachable, not draining."""
    uptime_s: float
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """Further members of the answer, such as the state of the database; for operators, without secrets."""


def build_app(health: Callable[[], Health], routes: Iterable[BaseRoute] = ()) -> Starlette:
    """The application; `health` is asked for every probe and must not block."""

    async def get_health(_: Request) -> Response:
        now = health()
        ready = {"status": "ok" if now.ready else "unavailable", "service": SERVICE, **_probe(now)}
        return _uncached(ready | {key: value for key, value in now.details.items() if key not in ready}, now)

    async def get_api_health(_: Request) -> Response:
        now = health()
        return _uncached(_probe(now), now)

    app = Starlette(
        routes=[route("/health", get=get_health), route("/api/health", get=get_api_health), *routes],
        exception_handlers={
            HTTPException: _answer_http_exception,
            Rejected: _answer_refusal,
            Exception: _answer_fault,
        },
    )
    app.router.redirect_slashes = False
    return app


def _probe(health: Health) -> dict[str, Any]:
    return {"ok": health.ready, "uptime": round(health.uptime_s, 3)}


def _uncached(content: dict[str, Any], health: Health) -> Response:
    return JSONResponse(content, 200 if health.ready else 503, headers={"cache-control": "no-store"})


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"Can't find {_raw_path(request)} on this server!"
    elif error.status_code == 405:
        message = f"{request.method} is not possible on {_raw_path(request)}"
    else:
        message = error.detail
    content = refusals.show(error.status_code, refusals.code_of(error.status_code), message)
    return JSONResponse(content, error.status_code, headers=error.headers)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return refusals.answer(error)


async def _answer_fault(request: Request, error: Exception) -> Response:
    log.error("a handler failed", exc_info=error, extra={"method": request.method, "path": _raw_path(request)})
    return JSONResponse(refusals.show(500, "internal", "A fault of the server; it is in its log."), 500)


def _raw_path(request: Request) -> str:
    """The path as the client wrote it, percent-encoded, without the query; always ASCII."""
    raw = request.scope.get("raw_path")
    return raw.decode("ascii", "replace") if isinstance(raw, bytes) else request.url.path
