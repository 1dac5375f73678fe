"""Whether the server serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.http import shapes
from catfish.http.operations import Operation

SERVICE: Final = "chat-service"
"""The name that existing clients and their probes expect."""
TAG: Final = "health"


@attrs.frozen
class Health:
    """The state of the server, as `/health` tells it."""

    ready: bool
    """Whether it serves: started, its store reachable, not draining."""
    uptime_s: float
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """Further members of the answer, such as the state of the database; for operators, without secrets."""


def operations(health: Callable[[], Health]) -> list[Operation]:
    """`health` is asked for every probe and must not block."""

    async def get_health(_: Request) -> Response:
        now = health()
        ready = {"status": "ok" if now.ready else "unavailable", "service": SERVICE, **_probe(now)}
        return _uncached(ready | {key: value for key, value in now.details.items() if key not in ready}, now)

    async def get_api_health(_: Request) -> Response:
        now = health()
        return _uncached(_probe(now), now)

    return [
        Operation(
            method="get",
            path="/health",
            summary="Tell whether the server is ready, and how it is",
            more="503 when it is not, with the same members.",
            tag=TAG,
            access="anyone",
            respond=get_health,
            answer=shapes.FullHealth,
            problem=shapes.FullHealth,
        ),
        Operation(
            method="get",
            path="/api/health",
            summary="The same in short",
            tag=TAG,
            access="anyone",
            respond=get_api_health,
            answer=shapes.ShortHealth,
            problem=shapes.ShortHealth,
        ),
    ]


def _probe(health: Health) -> dict[str, Any]:
    return {"ok": health.ready, "uptime": round(health.uptime_s, 3)}


def _uncached(content: dict[str, Any], health: Health) -> Response:
    return JSONResponse(content, 200 if health.ready else 503, headers={"cache-control": "no-store"})
