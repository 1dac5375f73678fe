"""Requests to an ASGI application, as an ASGI server makes them, on Trio.

api = await open_api(nursery)
answer = await api.get("/api/messages?roomCode=abc234")
assert (answer.status, answer.json) == (200, [])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

import attrs
import msgspec
import trio

from catfish.http.api import Stores, build_api
from catfish.http.asgi import App
from catfish.http.health import Health
from catfish.rooms.accounts import AccountStore
from catfish.server.accounts import Accounts
from catfish.store.postgres import PostgresStore
from tests.doubles.memory_store import MemoryStore
from tests.server.harness import Server, start_server


class NoAccounts:
    """Of a server where nobody has one."""

    async def any_account(self) -> bool:
        return False

    async def secret(self, name: str, drawn: str) -> str:
        return drawn

    async def may_enter(self, room: str, account: str) -> bool:
        return True


async def expose_nothing(accept: str) -> tuple[str, bytes]:
    return "text/plain", b""


READY = Health(ready=True, uptime_s=12.3456)


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def call(
    app: App,
    method: str,
    target: str,
    body: bytes | list[bytes] = b"",
    headers: Mapping[str, str] | None = None,
    *,
    peer: str = "127.0.0.1",
    raw_path: bytes | None = None,
) -> Answer:
    """One request (https://asgi.readthedocs.io/en/latest/specs/www.html); a HEAD's body is left out, as servers do.

    `body` may come in pieces; after the last one the client waits.
    """
    sent: list[dict[str, Any]] = []
    pieces = [body] if isinstance(body, bytes) else body
    waiting = iter(pieces)

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        for piece in waiting:
            more = piece is not pieces[-1]
            return {"type": "http.request", "body": piece, "more_body": more}
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode() if raw_path is None else raw_path,
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in {"host": "localhost", **(headers or {})}.items()
        ],
        "client": (peer, 1) if peer else None,
        "server": ("127.0.0.1", 8080),
    }
    try:
        await app(scope, receive, send)
    except ZeroDivisionError:
        pass  # Starlette raises on what a handler of the tests raised, once it is answered
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], fields, b"" if method == "HEAD" else content)


class Api:
    """The HTTP side of a server whose other clients are those of `tests.server.harness`."""

    def __init__(self, server: Server, accounts: AccountStore, stores: Stores) -> None:
        self.server = server
        self.accounts = Accounts(server.instance, accounts)
        if server.instance.tokens.required:
            server.instance.admits = self.accounts.admits
        self.app = build_api(server.instance, self.accounts, stores, lambda: READY, expose_nothing)

    async def get(self, target: str, **headers: str) -> Answer:
        return await call(self.app, "GET", target, headers=_fields(headers))

    async def send(self, method: str, target: str, content: Any = None, **headers: str) -> Answer:
        """A request with a JSON body."""
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        return await call(self.app, method, target, body, {"content-type": "application/json", **_fields(headers)})

    async def post(self, target: str, content: Any = None, **headers: str) -> Answer:
        return await self.send("POST", target, content, **headers)


def _fields(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def open_api(nursery: trio.Nursery, **settings: Any) -> Api:
    """Without accounts, and without a database."""
    nothing: Any = None
    stores = Stores(administration=nothing, answers=nothing, directory=nothing, logins=nothing)
    return Api(await start_server(nursery, **settings), cast(AccountStore, NoAccounts()), stores)


async def open_api_on(store: PostgresStore, nursery: trio.Nursery, **settings: Any) -> Api:
    server = await start_server(nursery, cast(MemoryStore, store), **settings)
    stores = Stores(
        administration=store.administration, answers=store.answers, directory=store.directory, logins=store.logins
    )
    return Api(server, store.accounts, stores)
