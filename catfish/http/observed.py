"""Every request over HTTP: its id, what it counts for, its span, and its line in the log.

A client, or the proxy in front of us, may name a request with `X-Request-Id`; otherwise a name is drawn. It is in the
answer, and in every line that is logged on the way.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import trio

from catfish.histogram import SECONDS, Histogram
from catfish.http.asgi import App, Receive, Scope, Send
from catfish.log import request_id
from catfish.tracing import OFF, Tracing

log = logging.getLogger(__name__)

HEADER: Final = b"x-request-id"
SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""Ids that are taken as they come: they go into answers and logs."""


class HttpFigures:
    """Requests since the start."""

    __slots__ = ("open", "polls", "refusals", "seconds", "statuses")

    def __init__(self, refusals: Counter[str] | None = None) -> None:
        self.open = 0
        """That are being answered."""
        self.polls = 0
        """Of long polling, which are counted here alone."""
        self.refusals: Counter[str] = Counter() if refusals is None else refusals
        """By the code that was told."""
        self.seconds = Histogram(SECONDS)
        self.statuses: Counter[int] = Counter()


class Observed:
    """An ASGI application around the others.

    Args:
        polls: whether a path is one of long polling, where an answer is late because nothing happened.
        logs_all: whether each request has its line, not only those that failed by our fault.
    """

    def __init__(
        self,
        app: App,
        figures: HttpFigures,
        *,
        polls: Callable[[str], bool] = lambda path: False,
        logs_all: bool = False,
        tracing: Tracing = OFF,
    ) -> None:
        self._app = app
        self._figures = figures
        self._polls = polls
        self._logs_all = logs_all
        self.tracing: Tracing = tracing
        """May be set later."""
        self._prefix = secrets.token_hex(4)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = self._name(scope)
        marked = id.encode("ascii")
        status = 0

        async def send_marked(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # One that another worker has put there is the same.
                others = [field for field in message.get("headers", ()) if field[0] != HEADER]
                message["headers"] = [*others, (HEADER, marked)]
            await send(message)

        figures = self._figures
        figures.open += 1
        began = trio.current_time()
        before = request_id.set(id)
        try:
            if self.tracing is OFF:
                await self._app(scope, receive, send_marked)
            else:
                carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                about: dict[str, str | int | float] = {
                    "http.request.method": scope["method"],
                    "url.path": scope["path"],
                }
                with self.tracing.span(f"{scope['method']} request", about, carrier) as span:
                    await self._app(scope, receive, send_marked)
                    span.set({"http.response.status_code": status, "catfish.request_id": id})
        finally:
            figures.open -= 1
            self._note(scope, status, trio.current_time() - began)
            request_id.reset(before)

    def _name(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == HEADER and SANE.fullmatch(value):
                return bytes(value).decode("ascii")
        id = f"{self._prefix}-{next(self._count):x}"
        # Whoever the request is passed on to calls it the same.
        scope["headers"] = [*(field for field in scope["headers"] if field[0] != HEADER), (HEADER, id.encode("ascii"))]
        return id

    def _note(self, scope: Scope, status: int, took_s: float) -> None:
        """The request is over; status 0: nobody waited for the answer."""
        figures = self._figures
        if self._polls(scope["path"]):
            figures.polls += 1
        else:
            figures.statuses[status] += 1
            figures.seconds.observe(took_s)
        code = scope.get("refusal")
        if code is not None:
            figures.refusals[code] += 1
        if status >= 500 or self._logs_all:
            # Without the query: there may be a token in it.
            about = {"method": scope["method"], "path": scope["path"], "status": status, "code": code}
            log.log(
                logging.WARNING if status >= 500 else logging.INFO,
                "request",
                extra={**about, "took_ms": round(took_s * 1000, 1)},
            )
