"""The HTTP application, called as an ASGI server calls it, on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from catfish.http import health
from catfish.http.app import build_app
from catfish.http.health import Health
from catfish.http.operations import build_routes
from catfish.http.routing import route
from tests.http.harness import call

READY = Health(ready=True, uptime_s=12.3456, details={"database": "ok", "status": "not this"})


@pytest.fixture
def app() -> Starlette:
    return build_app(build_routes(health.operations(lambda: READY)))


async def test_health_is_the_answer_that_every_existing_probe_expects(app: Starlette) -> None:
    answer = await call(app, "GET", "/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "service": "chat-service",
        "ok": True,
        "uptime": 12.346,
        "database": "ok",
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_api_health_is_the_short_form(app: Starlette) -> None:
    answer = await call(app, "GET", "/api/health")
    assert (answer.status, answer.json) == (200, {"ok": True, "uptime": 12.346})


async def test_a_server_that_is_not_ready_says_so_with_503() -> None:
    away = Health(ready=False, uptime_s=1.0, details={"database": "unavailable"})
    app = build_app(build_routes(health.operations(lambda: away)))
    answer = await call(app, "GET", "/health")
    assert answer.status == 503
    assert answer.json["status"] == "unavailable"
    assert answer.json["ok"] is False
    assert answer.json["database"] == "unavailable"
    answer = await call(app, "GET", "/api/health")
    assert (answer.status, answer.json) == (503, {"ok": False, "uptime": 1.0})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["/", "/nothing", "/health/", "/Health", "/api", "//", "/health/more"])
async def test_an_unknown_path_is_404_as_json(app: Starlette, method: str, path: str) -> None:
    answer = await call(app, method, path)
    assert answer.status == 404
    assert answer.json == {"status": "fail", "code": "not_found", "message": f"Can't find {path} on this server!"}


async def test_the_path_is_told_as_the_client_wrote_it(app: Starlette) -> None:
    answer = await call(app, "GET", "/a b\n", raw_path=b"/a%20b%0A")
    assert answer.json["message"] == "Can't find /a%20b%0A on this server!"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_a_method_that_a_path_does_not_have_is_405_as_json(app: Starlette, method: str) -> None:
    answer = await call(app, method, "/health")
    assert answer.status == 405
    assert answer.json == {
        "status": "fail",
        "code": "method_not_allowed",
        "message": f"{method} is not possible on /health",
    }
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


async def test_head_is_get_without_the_body(app: Starlette) -> None:
    get, head = await call(app, "GET", "/health"), await call(app, "HEAD", "/health")
    assert (head.status, head.headers) == (200, get.headers)
    assert (await call(app, "HEAD", "/nothing")).status == 404


async def test_options_says_what_is_possible(app: Starlette) -> None:
    answer = await call(app, "OPTIONS", "/health")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_errors_of_handlers_are_json_too(app: Starlette, caplog: pytest.LogCaptureFixture) -> None:
    def raising(error: Exception) -> Callable[[Request], Awaitable[Response]]:
        async def handler(_: Request) -> Response:
            raise error

        return handler

    app.router.routes.append(route("/taken", get=raising(HTTPException(409, "taken", {"x-by": "1"}))))
    app.router.routes.append(route("/broken", get=raising(ZeroDivisionError("with a secret"))))
    app.router.routes.append(route("/away", get=raising(HTTPException(503, "come back"))))
    taken = await call(app, "GET", "/taken")
    assert taken.status == 409
    assert taken.json == {"status": "fail", "code": "conflict", "message": "taken"}
    assert taken.headers["x-by"] == "1"
    away = await call(app, "GET", "/away")
    assert away.json == {"status": "error", "code": "service_unavailable", "message": "come back"}
    broken = await call(app, "GET", "/broken")
    assert broken.status == 500
    assert broken.json["code"] == "internal"
    assert b"secret" not in broken.body
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert vars(record)["path"] == "/broken"
