"""`/metrics`: the numbers of this server and of all its workers, for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from catfish.errors import Rejected
from catfish.http.health import TAG
from catfish.http.operations import Operation
from catfish.http.trust import TrustedAddresses, has_api_key
from catfish.server.instance import Instance

Expose = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Takes what a request accepts; gives the content type and the text."""


def operations(instance: Instance, expose: Expose) -> list[Operation]:
    trusted = TrustedAddresses(instance.settings.metrics_from)

    async def show(request: Request) -> Response:
        if not (trusted.sent(request) or has_api_key(request, instance.settings)):
            raise Rejected("unauthorized", "the key of the server API is required")
        content_type, body = await expose(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    return [
        Operation(
            method="get",
            path="/metrics",
            summary="Tell the numbers of all workers, for Prometheus",
            more="For addresses in `metrics_from`, and for whoever has the API key.",
            tag=TAG,
            access="server",
            respond=show,
            answer=str,
            kind="text/plain",
        )
    ]
