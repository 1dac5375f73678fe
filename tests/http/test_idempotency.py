"""POST requests that are carried out once."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catfish.config import Settings
from catfish.http.app import build_app
from catfish.http.idempotency import Idempotency
from catfish.http.routing import route
from catfish.rooms.ports import StoreUnavailable
from catfish.store.postgres import PostgresStore
from tests.e2e.process import until
from tests.http.harness import Answer, call


class World:
    """A route that counts how often it is carried out."""

    def __init__(self, postgres: PostgresStore) -> None:
        self.idempotency = Idempotency(Settings(request_body_bytes_max=100), postgres.answers)
        self.bodies: list[bytes] = []
        self.status = 201
        self.headers: dict[str, str] = {}
        self.held: trio.Event | None = None
        paths = ("/one", "/other")
        self.app = build_app([route(path, post=self.idempotency.once(self.handle)) for path in paths])

    async def handle(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        if self.held is not None:
            await self.held.wait()
        if self.status == 500:
            raise ZeroDivisionError
        return JSONResponse({"times": len(self.bodies)}, self.status, self.headers)

    async def post(
        self, key: str | None, body: bytes = b"{}", path: str = "/one", fields: dict[str, str] | None = None
    ) -> Answer:
        headers = {"content-type": "application/json", "content-length": str(len(body)), **(fields or {})}
        if key is not None:
            headers["idempotency-key"] = key
        return await call(self.app, "POST", path, body, headers)


@pytest.fixture
def world(postgres: PostgresStore) -> World:
    return World(postgres)


async def test_the_second_request_gets_the_answer_of_the_first(world: World) -> None:
    first, second = await world.post("k", b'{"a":1}'), await world.post("k", b'{"a":1}')
    assert (first.status, first.json, "idempotency-replayed" in first.headers) == (201, {"times": 1}, False)
    assert (second.status, second.json, second.headers["idempotency-replayed"]) == (201, {"times": 1}, "true")
    assert second.headers["content-type"] == "application/json"
    assert world.bodies == [b'{"a":1}']


async def test_without_a_key_every_request_is_carried_out(world: World) -> None:
    assert [(await world.post(None)).json["times"] for _ in range(3)] == [1, 2, 3]


async def test_keys_of_different_callers_and_paths_are_different(world: World) -> None:
    for fields in ({}, {"authorization": "Bearer a"}, {"authorization": "Bearer b"}, {"x-api-key": "Bearer a"}):
        for path in ("/one", "/other"):
            assert "idempotency-replayed" not in (await world.post("k", path=path, fields=fields)).headers


async def test_another_request_under_the_same_key_is_a_mistake(world: World) -> None:
    await world.post("k", b"{}")
    answer = await world.post("k", b"{ }")
    assert (answer.status, answer.json["code"]) == (422, "key_reused")


async def test_while_the_first_is_under_way_the_second_is_told_to_wait(world: World, nursery: trio.Nursery) -> None:
    world.held = trio.Event()
    answers: list[Answer] = []

    async def first() -> None:
        answers.append(await world.post("k"))

    nursery.start_soon(first)
    with trio.fail_after(10):
        await until(lambda: bool(world.bodies))
    busy = await world.post("k")
    assert (busy.status, busy.json["code"], busy.headers["retry-after"]) == (409, "in_progress", "1")
    world.held.set()
    with trio.fail_after(10):
        await until(lambda: bool(answers))
    assert (await world.post("k")).json == answers[0].json == {"times": 1}


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
async def test_what_was_refused_or_failed_is_carried_out_again(world: World, status: int) -> None:
    world.status = status
    assert (await world.post("k")).status == status
    world.status = 201
    assert (await world.post("k")).json == {"times": 2}


async def test_answers_that_are_not_to_be_stored_are_not(world: World) -> None:
    world.headers = {"cache-control": "no-store"}
    assert [(await world.post("k")).json["times"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("key", ["", "x" * 256, "ü\x00"])
async def test_keys_that_are_none(world: World, key: str) -> None:
    answer = await world.post(key)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert world.bodies == []


async def test_bodies_are_limited_with_a_key_too(world: World) -> None:
    assert (await world.post("k", b"x" * 101)).status == 413
    assert (await world.post("k", fields={"content-type": "text/plain"})).status == 400
    assert world.bodies == []


async def test_a_request_without_a_body_may_have_a_key(world: World) -> None:
    headers = {"idempotency-key": "k"}
    answers = [await call(world.app, "POST", "/one", b"", headers) for _ in range(2)]
    assert [answer.json["times"] for answer in answers] == [1, 1]


async def test_a_client_that_leaves_frees_the_key(world: World, nursery: trio.Nursery) -> None:
    world.held = trio.Event()
    with trio.move_on_after(0.5):
        await world.post("k")
    world.held = None
    assert (await world.post("k")).json == {"times": 2}


async def test_an_answer_that_cannot_be_remembered_is_given_all_the_same(
    world: World, postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(postgres.answers, "keep", away)
    assert (await world.post("k")).json == {"times": 1}
    monkeypatch.setattr(postgres.answers, "claim", away)
    answer = await world.post("k")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
