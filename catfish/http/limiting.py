"""Requests over HTTP, as many as the settings `limit_rest_…` and `limit_login_…` let through. Long polling has its own.

Not limited: who is exempt (`limits_exempt`), a server with the API key, and probes (`/health`). What is limited by user
is asked for where the token is looked at, see `requests.identify`.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.http.asgi import App, Receive, Scope, Send, client_of
from catfish.http.refusals import answer
from catfish.http.trust import TrustedAddresses, has_api_key
from catfish.server.limits import Limits

UNLIMITED: Final = frozenset(("/health", "/api/health", "/metrics"))
PASSWORDS: Final = frozenset(("/api/auth/login", "/api/auth/register", "/api/auth/password"))
"""Routes that check or set a password."""


class Limiting:
    """An ASGI application in front of another, which does not hear of requests that are too many."""

    def __init__(self, app: App, limits: Limits, settings: Settings) -> None:
        self._app = app
        self._limits = limits
        self._settings = settings
        self._servers = TrustedAddresses(settings.login_from)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in UNLIMITED:
            request = Request(scope)
            try:
                self._measure(request)
            except Rejected as refusal:
                await answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _measure(self, request: Request) -> None:
        address = client_of(request.scope)
        limits = self._limits
        if limits.exempts(address, request.headers) or has_api_key(request, self._settings):
            return
        limits.take("rest", address=address)
        if request.method == "POST" and request.scope["path"] in PASSWORDS and not self._servers.sent(request):
            limits.take("login", address=address)
