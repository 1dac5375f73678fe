"""Requests have ids, are counted, and are logged without what is secret in them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from catfish.errors import Rejected
from catfish.http.app import build_app
from catfish.http.asgi import App
from catfish.http.observed import HttpFigures, Observed
from catfish.http.routing import route
from catfish.log import request_id
from tests.http.harness import Answer, call, open_api

log = logging.getLogger("catfish.test")


async def answer_with_id(request: Any) -> Any:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(request_id.get() or "")


async def refuse(request: Any) -> Any:
    raise Rejected("busy", "later", 1000)


async def fail(request: Any) -> Any:
    raise ZeroDivisionError


ROUTES = [route("/id", get=answer_with_id), route("/busy", get=refuse), route("/fault", get=fail)]


def observed(figures: HttpFigures, **options: Any) -> App:
    app: Any = build_app(ROUTES)
    return Observed(app, figures, **options)


async def get(app: App, target: str, **headers: str) -> Answer:
    return await call(app, "GET", target, headers={key.replace("_", "-"): value for key, value in headers.items()})


@pytest.mark.parametrize("sane", ["a", "7f3c-1", "x" * 128, "Root=1-67891233-abcdef"])
async def test_a_sane_request_id_is_taken_and_returned(sane: str) -> None:
    answer = await get(observed(HttpFigures()), "/id", x_request_id=sane)
    assert answer.body.decode() == answer.headers["x-request-id"] == sane


@pytest.mark.parametrize("odd", ["", "a b", "x" * 129, "a\x7f", "ä", "<script>", 'a"b'])
async def test_an_odd_request_id_is_replaced(odd: str) -> None:
    app = observed(HttpFigures())
    answers = [await get(app, "/id", x_request_id=odd) for _ in range(2)]
    drawn = [answer.headers["x-request-id"] for answer in answers]
    assert odd not in drawn
    assert [answer.body.decode() for answer in answers] == drawn
    assert len(set(drawn)) == 2


async def test_requests_are_counted_by_status_and_refusals_by_code() -> None:
    figures = HttpFigures()
    app = observed(figures, polls=lambda path: path == "/poll")
    for target in ("/id", "/id", "/busy", "/fault", "/nothing", "/poll"):
        await get(app, target)
    assert figures.statuses == {200: 2, 503: 1, 500: 1, 404: 1}
    assert figures.refusals == {"busy": 1}
    assert (figures.polls, figures.seconds.count, figures.open) == (1, 5, 0)


async def test_what_fails_is_logged_with_its_id_and_without_its_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "catfish"):
        await get(observed(HttpFigures()), "/busy?token=hush", x_request_id="r1")
        await get(observed(HttpFigures()), "/id?token=hush")
        assert [record.message for record in caplog.records] == ["request"]
        await get(observed(HttpFigures(), logs_all=True), "/id?token=hush")
    lines = [vars(record) for record in caplog.records]
    assert [(line["path"], line["status"], line["code"]) for line in lines] == [
        ("/busy", 503, "busy"),
        ("/id", 200, None),
    ]
    assert "hush" not in str(lines)


async def test_metrics_are_for_the_machine_itself_and_for_the_key(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    api = await open_api(nursery, api_key="secret key", metrics_from=("10.0.0.0/8",))

    async def status(peer: str, **headers: str) -> int:
        return (await call(api.app, "GET", "/metrics", headers=headers, peer=peer)).status

    assert await status("10.1.2.3") == 200
    assert await status("127.0.0.1") == 401
    assert await status("127.0.0.1", **{"x-api-key": "secret key"}) == 200
    assert await status("127.0.0.1", authorization="Bearer secret key") == 200
    assert await status("127.0.0.1", **{"x-api-key": "another key"}) == 401
    assert await status("10.1.2.3", **{"x-forwarded-for": "203.0.113.9"}) == 401
