"""The HTTP application: its routes, and a JSON answer to everything that is not there.

Errors have one shape, see `catfish.http.refusals`. A fault in a handler is answered 500 and logged with its traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from catfish.errors import Rejected
from catfish.http import refusals

log = logging.getLogger(__name__)


def build_app(routes: Iterable[BaseRoute]) -> Starlette:
    """The application."""
    app = Starlette(
        routes=list(routes),
        exception_handlers={
            HTTPException: _answer_http_exception,
            Rejected: _answer_refusal,
            Exception: _answer_fault,
        },
    )
    app.router.redirect_slashes = False
    return app


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
    request.scope["refusal"] = error.code
    return refusals.answer(error)


async def _answer_fault(request: Request, error: Exception) -> Response:
    log.error("a handler failed", exc_info=error, extra={"method": request.method, "path": _raw_path(request)})
    return JSONResponse(refusals.show(500, "internal", "A fault of the server; it is in its log."), 500)


def _raw_path(request: Request) -> str:
    """The path as the client wrote it, percent-encoded, without the query; always ASCII."""
    raw = request.scope.get("raw_path")
    return raw.decode("ascii", "replace") if isinstance(raw, bytes) else request.url.path
