"""What the tests of the client say: open a client, wait for what it tells, script what the server answers."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from catfish.client import Backoff, Client, Event, Rejected, connect
from tests.client.fake_server import NO_REPLY, FakeServer, FakeSession, Handler

URL = "ws://catfish.test/ws"


def open_client(server: FakeServer, **options: Any) -> AbstractAsyncContextManager[Client]:
    options.setdefault("user", "u-me")
    return connect(URL, dial=server.dial, backoff=Backoff(rng=random.Random(7)), **options)


async def next_event(client: Client, name: str | None = None) -> Event:
    """The next event, or the next of that name."""
    with trio.fail_after(100):
        async for event in client.events:
            if name in (None, event.name):
                return event
    raise AssertionError("no further events")


async def next_messages(client: Client, count: int) -> list[str]:
    return [(await next_event(client, "chat:message")).data["content"] for _ in range(count)]


def once(first: Handler, then: Handler) -> Handler:
    """A handler that does something else the first time."""
    calls = iter([first])
    return lambda session, data: next(calls, then)(session, data)


def refuse(code: str, retry_after_ms: int | None = None) -> Handler:
    def handler(session: FakeSession, data: Any) -> Any:
        raise Rejected(code, f"refused with {code}", retry_after_ms)

    return handler


def swallow(session: FakeSession, data: Any) -> Any:
    return NO_REPLY


def heard(session: FakeSession, *but: str) -> list[str]:
    return [event for event, _ in session.heard if event not in but]
