"""Bodies, methods and origins, whatever the route."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.http.harness import Api, call, open_api

PATH = "/api/messages"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}


@pytest.fixture
async def api(nursery: trio.Nursery) -> Api:
    return await open_api(nursery, origins=("https://chat.example",), request_body_bytes_max=1000)


@pytest.mark.parametrize(
    "body",
    [b"", b"{bad", b"\xff", b"[" * 900, b'"text"', b"[]", b"null", b'{"a":1}x', b'{"a":"\\ud800"'],
)
async def test_a_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    answer = await api.post(PATH, body)
    assert answer.status == 400
    assert answer.json["error"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_must_say_that_it_is_json(api: Api, kind: str) -> None:
    answer = await call(api.app, "POST", PATH, b'{"roomCode":"abc234"}', {"content-type": kind} if kind else {})
    assert answer.status == 400
    assert "application/json" in answer.json["error"]


async def test_parameters_of_the_type_do_not_matter(api: Api) -> None:
    answer = await api.post(PATH, {"roomCode": "x"}, content_type="Application/JSON; charset=utf-8")
    assert answer.json["error"] == "roomCode must have 3 to 12 characters"


async def test_a_body_that_is_too_long_is_refused_before_all_of_it_came(api: Api) -> None:
    pieces = [b"x" * 600] * 2 + [b"never asked for"]
    answer = await call(api.app, "POST", PATH, pieces, {"content-type": "application/json"})
    assert (answer.status, answer.json["code"]) == (413, "too_large")


async def test_a_body_that_does_not_come_is_given_up(api: Api, autojump_clock: MockClock) -> None:
    answer = await call(api.app, "POST", PATH, [], {"content-type": "application/json"})
    assert (answer.status, answer.json["code"]) == (408, "too_slow")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "BREW"])
async def test_other_methods_are_refused_as_json(api: Api, method: str) -> None:
    answer = await api.send(method, PATH, {})
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}


@pytest.mark.parametrize("origin", ["https://chat.example", "http://localhost:5173", "http://server.example"])
@pytest.mark.parametrize("path", ["/api/health", PATH, "/nothing"])
async def test_pages_of_allowed_origins_read_every_answer(api: Api, origin: str, path: str) -> None:
    answer = await api.get(path, origin=origin, host="server.example")
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("path", [PATH, "/api/chats/all"])
async def test_a_preflight_request_is_answered_with_what_is_allowed(api: Api, path: str) -> None:
    headers = {"origin": "http://localhost:5173", **PREFLIGHT}
    answer = await call(api.app, "OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert answer.headers["access-control-allow-headers"] == "content-type,authorization"
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(","))
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_pages_of_other_origins_are_told_nothing(api: Api) -> None:
    for origin in ("http://other.test", "null", "https://chat.example.evil.test"):
        answer = await api.get("/api/health", origin=origin)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        answer = await call(api.app, "OPTIONS", PATH, headers={"origin": origin, **PREFLIGHT})
        assert answer.status == 204
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_origin_may_be_allowed(nursery: trio.Nursery) -> None:
    api = await open_api(nursery, origins=("*",))
    answer = await api.get("/api/health", origin="http://other.test")
    assert answer.headers["access-control-allow-origin"] == "http://other.test"
