"""Engine.IO's long polling over HTTP: an ASGI application in front of an `EngineServer`, to be mounted at its path.

    GET  …/?EIO=4&transport=polling              handshake: opens a session
    GET  …/?EIO=4&transport=polling&sid=…        poll: waits for packets
    POST …/?EIO=4&transport=polling&sid=…        packets from the client; answered `ok`
    OPTIONS                                      CORS preflight, for pages that `Settings.origins` allows

Source: the Engine.IO protocol, version 4; for cross-origin requests the Fetch standard, section 3.2.
"""

from __future__ import annotations

from typing import Final

import trio

from catfish.http.asgi import Headers, Receive, Scope, Send, client_of, peer_of
from catfish.http.cors import allowing, is_preflight, preflight
from catfish.server.engineio.refusal import ClientGone, EngineRefusal
from catfish.server.engineio.server import EngineServer, parse_query
from catfish.server.engineio.session import Session
from catfish.server.engineio.states import Reason
from catfish.wire import engineio as wire
from catfish.wire.http import RequestHead

TEXT: Final = (b"content-type", b"text/plain; charset=UTF-8")
HTML: Final = (b"content-type", b"text/html")
"""Of the answer to a POST, as the reference server has it: some browsers would offer text/plain as a download."""
JSON: Final = (b"content-type", b"application/json")


class PollingApp:
    """ASGI application for everything on the path of an `EngineServer` that is no WebSocket."""

    def __init__(self, engine: EngineServer) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("WebSockets of this path are served by the listener, not by ASGI")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        address = client_of(scope)
        cors = self._cors(headers, address)
        try:
            if is_preflight(scope["method"], headers):
                await self._answer_preflight(headers, cors, send)
                return
            query = parse_query(scope["query_string"].decode("latin-1"))
            session = self._engine.admit(scope["method"], query, headers, address, upgrade=False)
            self._engine.measure(address, headers, opens=session is None)
            if session is None:
                body, kind = self._engine.open_polling(_head(scope, headers), peer_of(scope)), TEXT
            elif scope["method"] == "GET":
                body, kind = await poll(session, receive), TEXT
            else:
                await session.post(_Body(receive).read)
                body, kind = b"ok", HTML
        except EngineRefusal as refusal:
            fields = [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
            await answer(send, refusal.status, refusal.body, [JSON, *cors, *fields])
        except ClientGone:
            pass  # nobody is there to be answered
        else:
            await answer(send, 200, body, [kind, *cors])

    def _cors(self, headers: dict[str, str], address: str) -> Headers:
        """The fields that let a page of another origin read the answer; none for pages that may not connect."""
        origin = headers.get("origin")
        if origin is None or not self._engine.allows(headers, address):
            return []
        return allowing(origin)

    async def _answer_preflight(self, headers: dict[str, str], cors: Headers, send: Send) -> None:
        if not cors:
            raise EngineRefusal(wire.FORBIDDEN)
        await answer(send, 204, b"", [*cors, *preflight(headers, b"GET,POST")])


async def poll(session: Session, receive: Receive) -> bytes:
    """Wait for packets, and for the client to leave; who leaves ends its session.

    Raises:
        EngineRefusal: see `Session.poll`.
        ClientGone: it left.
    """
    body = b""
    refusal: EngineRefusal | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        session.fail(Reason.TRANSPORT_ERROR)  # answers the poll, though nobody is there

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            body = await session.poll()
        except EngineRefusal as found:
            refusal = found
        nursery.cancel_scope.cancel()
    if gone:
        raise ClientGone
    if refusal is not None:
        raise refusal
    return body


class _Body:
    """The body of a request as it comes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    async def read(self) -> bytes | None:
        """The next piece; None at the end. Raises: ClientGone."""
        if not self._more:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._more = message.get("more_body", False)
        piece = message.get("body", b"")
        assert isinstance(piece, bytes)
        return piece


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    start = [*headers, (b"cache-control", b"no-store"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def _head(scope: Scope, headers: dict[str, str]) -> RequestHead:
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return RequestHead(scope["method"], f"{path}?{query}", path, query, (1, 1), headers)
