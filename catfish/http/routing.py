"""Routes that answer OPTIONS and HEAD as HTTP has it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from catfish.http.refusals import Handler


def route(path: str, **handlers: Handler) -> Route:
    """A route with a handler for each method, such as `get=…`. It answers OPTIONS with what it allows (RFC 9110 section
    9.3.7), and HEAD where it answers GET."""
    by_method = {method.upper(): handler for method, handler in handlers.items()}
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    allowed = ", ".join(sorted({*by_method, "OPTIONS"}))

    async def answer(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allowed})
        return await by_method[request.method](request)

    return Route(path, answer, methods=[*by_method, "OPTIONS"], name=path)
