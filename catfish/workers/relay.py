"""Passing on what cannot be handed over as a descriptor: bytes of a TLS connection, and requests that Hypercorn serves.

Both go over a Unix connection that the process whose session it is has taken (`handover`), and that it serves like any
other: to it a relay is a client without TLS.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from catfish.http.asgi import Receive, Scope, Send
from catfish.net.plain_stream import PlainStream
from catfish.net.stream_driver import BROKEN
from catfish.wire.http import find_head_end

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 65_536
ANSWER_HEAD_BYTES_MAX: Final = 65_536
"""Of another worker's answer, so of our own making."""

OF_THE_CONNECTION: Final = frozenset((b"connection", b"expect", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"))
"""Fields that speak of one connection only (RFC 9110 section 7.6.1), and one that Hypercorn has answered already."""
OF_THE_SERVER: Final = frozenset((b"date", b"server"))
"""Fields that Hypercorn adds to every answer, so to this one as well."""


async def pass_bytes(client: trio.abc.Stream, worker: PlainStream, *, stall_s: float) -> None:
    """Pass bytes on, both ways, until the worker has said everything or one of them is lost. Closes both.

    Args:
        stall_s: seconds after which a client that takes nothing is given up.
    """
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_up, client, worker, nursery.cancel_scope)
            try:
                while data := await worker.receive_some(SLICE_BYTES):
                    with trio.move_on_after(stall_s) as scope:
                        await client.send_all(data)
                    if scope.cancelled_caught:
                        break
            except BROKEN:
                pass  # either is gone: the other one hears of it when it is closed
            nursery.cancel_scope.cancel()
    finally:
        worker.cut()
        with trio.move_on_after(1.0):  # TLS says goodbye, if the client takes it
            try:
                await client.aclose()
            except BROKEN:
                pass


async def _pass_up(client: trio.abc.Stream, worker: PlainStream, scope: trio.CancelScope) -> None:
    try:
        while data := await client.receive_some(SLICE_BYTES):
            await worker.send_all(data)
        await worker.send_eof()  # the rest of the worker's answer is awaited
    except BROKEN:
        scope.cancel()


def build_request(scope: Scope) -> bytes:
    """The head of an ASGI scope's request, for a connection that it alone is sent over (RFC 9112 section 3)."""
    target = scope.get("raw_path") or scope["path"].encode("ascii", "replace")
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in scope["headers"] if name.lower() not in OF_THE_CONNECTION]
    if is_chunked(scope):
        lines.append(b"transfer-encoding: chunked")
    return b"\r\n".join((*lines, b"connection: close", b"", b""))


def is_chunked(scope: Scope) -> bool:
    """Whether the client did not say how long the body is."""
    return any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"])


async def pass_request(scope: Scope, receive: Receive, send: Send, worker: PlainStream) -> bool:
    """Pass on what follows the head of a request (`build_request`), and the answer back. Closes `worker`.

    Returns:
        False when the worker was lost before it answered: then nothing was sent to the client.
    """
    gone = False
    answer = b""

    async def watch() -> None:
        """Until the answer begins. After that a client that leaves is Hypercorn's affair, which must not be interrupted
        while it ends the exchange."""
        nonlocal gone
        try:
            await _pass_body(is_chunked(scope), receive, worker)
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
        except _ClientGone:
            gone = True
        except BROKEN:
            return  # it may have answered before it had read everything
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            answer = await _receive_head(worker)
            nursery.cancel_scope.cancel()
        if answer and not gone:
            await _pass_answer(answer, worker, send)
    finally:
        worker.cut()
    return gone or bool(answer)


class _ClientGone(Exception):
    pass


async def _pass_body(chunked: bool, receive: Receive, worker: PlainStream) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if chunked and body:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if body:
            await worker.send_all(body)
    if chunked:
        await worker.send_all(b"0\r\n\r\n")


async def _receive_head(worker: PlainStream) -> bytes:
    """The beginning of an answer, a whole head at least; nothing when there is none."""
    data = b""
    try:
        while find_head_end(data) < 0:
            more = await worker.receive_some(SLICE_BYTES)
            if not more or len(data) > ANSWER_HEAD_BYTES_MAX:
                return b""
            data += more
    except BROKEN:
        return b""
    return data


async def _pass_answer(data: bytes, worker: PlainStream, send: Send) -> None:
    """Pass on an answer that begins with `data`. One that is cut off is cut off for the client as well."""
    end = find_head_end(data)
    status, headers, length = parse_answer(data[:end])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    left = length - len(data) + end
    await send({"type": "http.response.body", "body": data[end:], "more_body": left > 0})
    while left > 0:
        try:
            data = await worker.receive_some(SLICE_BYTES)
        except BROKEN:
            data = b""
        if not data:
            log.debug("a worker was lost in the middle of an answer")
            break
        left -= len(data)
        await send({"type": "http.response.body", "body": data, "more_body": left > 0})


def parse_answer(head: bytes) -> tuple[int, list[tuple[bytes, bytes]], int]:
    """Status, header fields and length of an answer of ours (RFC 9112 section 4).

    Raises:
        ValueError: it is not one of Engine.IO's, which have a length.
    """
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    headers = []
    length = None
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"content-length":
            length = int(value)
        if name not in OF_THE_CONNECTION | OF_THE_SERVER:
            headers.append((name, value))
    if length is None:
        raise ValueError("an answer without a length")
    return int(first.split(b" ", 2)[1]), headers, length
