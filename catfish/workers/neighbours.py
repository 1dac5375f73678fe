"""The other workers, as one worker sees them: whose a request is, how it gets there, and what comes from them."""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs
import msgspec
import trio

from catfish.http.asgi import Receive, Scope, Send, peer_of
from catfish.net.listener import Listener
from catfish.net.neighbours import Hand
from catfish.net.plain_stream import PlainStream
from catfish.server.engineio.server import QUERY_FIELDS_MAX
from catfish.telemetry.scrape import Reply
from catfish.wire.http import RequestHead
from catfish.wire.websocket.handshake import is_upgrade
from catfish.workers.board import Board
from catfish.workers.control import FROM_PARENT, Alive, Lines, Ready, build_line
from catfish.workers.handover import BadHandover, Handed, confirm, offer, take
from catfish.workers.orders import Orders
from catfish.workers.relay import build_request, pass_bytes, pass_request
from catfish.workers.tags import draw_sid, tag_of

log = logging.getLogger(__name__)

INDEX_BYTES: Final = 4
"""Of a worker's number, in front of its reply."""
QUESTION_S: Final = 2.0
"""For the others to reply."""
SIGNS: Final = 4
"""Of life, within the time of silence after which a worker is killed."""


@attrs.define
class Handovers:
    """Requests since the start of this worker."""

    given: int = 0
    """Descriptors that another worker took from here."""
    relayed: int = 0
    """Requests and connections whose bytes pass through here, to another worker."""
    taken: int = 0
    """What came from others, in either way."""
    failed: int = 0
    """What nobody took: of a process that is gone, mostly."""


class Neighbours:
    """Implements `net.neighbours.Neighbours` and `app.Place`.

    Args:
        orders: of this worker.
        board: of all.
        control: this worker's end of the pair that joins it with its parent.
    """

    def __init__(self, orders: Orders, board: Board, control: trio.abc.Stream) -> None:
        settings = orders.settings
        self.index = orders.index
        self.handovers = Handovers()
        self.reply: Callable[[str], bytes] = lambda question: b""
        """What other workers are told; nothing: the question is not understood."""
        self.serving: tuple[str, ...] = ()
        """Processes that admit whatever comes."""
        self._tag = orders.tag
        self._entry = orders.entry
        self._directory = orders.directory
        self._settings = settings
        self._paths = {path.rstrip("/") for path in (*settings.socketio_paths, *settings.socketio_msgpack_paths)}
        self._board = board
        self._control = control
        self._streams = 0
        self._accepts = True
        # What was read in front of a request, and what goes with it.
        self._bytes_max = 2 * settings.request_head_bytes_max + 4_096

    @property
    def others_serve(self) -> bool:
        """Whether the server goes on when this worker stops."""
        return bool(self._others)

    def count_handovers(self) -> dict[str, int]:
        return attrs.asdict(self.handovers)

    def describe(self) -> dict[str, Any]:
        """For `/health`."""
        return {"worker": self.index, "handovers": attrs.asdict(self.handovers)}

    def draw_sid(self) -> str:
        """An id for a session of this process."""
        return draw_sid(self._tag)

    # `net.neighbours.Neighbours`

    def taker(self, head: RequestHead, stream: trio.abc.Stream, *, stopping: bool) -> Hand | None:
        tag = self._owner(head.path, head.query)
        if tag is None and stopping:
            tag = random.choice(self._others or [None])  # spreads load
        if tag is None or tag == self._tag:
            return None
        if isinstance(stream, PlainStream):
            return partial(self._hand_over, tag)
        if is_upgrade(head):
            return partial(self._pass_on, tag)
        return None  # `relay` sees to it

    def count(self, streams: int) -> None:
        self._streams = streams
        if self._accepts:
            self._board.write(self._entry, streams)

    def stopped(self) -> None:
        self._accepts = False
        self._board.clear(self._entry)

    def patience_s(self, streams: int) -> float:
        return self._board.patience_s(self._entry, streams)

    # `app.Place`

    async def relay(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Pass a polling request on to the worker whose session it is for. Returns False when it is to be served here:
        it is ours, or nobody's."""
        tag = self._owner(scope["path"], scope["query_string"].decode("latin-1"))
        if tag is None or tag == self._tag or scope["method"] == "OPTIONS":
            return False
        connection = await self._offer(tag, Handed(peer_of(scope), build_request(scope), relayed=True), None)
        if connection is None:
            return False
        return await pass_request(scope, receive, send, PlainStream(connection))

    async def run(self, listener: Listener, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take what others hand over, for `listener` to serve, and tell the parent that we are ready and alive."""
        path = self._directory / self._tag
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.setblocking(False)
            door.bind(str(path))
            door.listen(self._settings.backlog)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._open_door, door, listener)
                    nursery.start_soon(self._hear_parent)
                    nursery.start_soon(self._tell_parent)
                    self.count(self._streams)  # from now on the others leave connections to us
                    task_status.started()
            finally:
                path.unlink(missing_ok=True)

    # Inside

    @property
    def _others(self) -> list[str]:
        return [tag for tag in self.serving if tag != self._tag]

    def _owner(self, path: str, query: str) -> str | None:
        """The tag of the process whose session a request is for, which may be our own; None: it is for none."""
        if path.rstrip("/") not in self._paths:
            return None
        try:
            fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
        except ValueError:
            return None  # it will be refused
        return tag_of(fields.get("sid", ""))

    async def _offer(self, tag: str, handed: Handed, descriptor: int | None) -> socket.socket | None:
        timeout_s = self._settings.handover_timeout_s
        connection = await offer(self._directory / tag, handed, descriptor, timeout_s=timeout_s)
        if connection is None:
            self.handovers.failed += 1
        elif descriptor is None:
            self.handovers.relayed += 1
        else:
            self.handovers.given += 1
        return connection

    async def _hand_over(self, tag: str, stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        assert isinstance(stream, PlainStream)
        connection = await self._offer(tag, Handed(peer, data), stream.socket.fileno())
        if connection is None:
            return False
        connection.close()
        return True

    async def _pass_on(self, tag: str, stream: trio.abc.Stream, data: bytes, peer: str) -> bool:
        connection = await self._offer(tag, Handed(peer, data, relayed=True), None)
        if connection is None:
            return False
        await pass_bytes(stream, PlainStream(connection), stall_s=self._settings.outbox_age_s_max)
        return True

    async def ask(self, question: str) -> list[Reply | None]:
        """Ask every other worker that serves; None for one that does not reply in time."""
        others = self._others
        replies: list[Reply | None] = [None] * len(others)

        async def ask_one(place: int, tag: str) -> None:
            asked = Handed("unix", b"", relayed=True, question=question)
            connection = await offer(self._directory / tag, asked, None, timeout_s=QUESTION_S)
            if connection is None:
                return
            async with PlainStream(connection) as stream:
                data = bytearray()
                try:
                    while piece := await stream.receive_some():
                        data += piece
                except trio.BrokenResourceError:
                    return
            if len(data) > INDEX_BYTES:
                replies[place] = Reply(int.from_bytes(data[:INDEX_BYTES], "big"), bytes(data[INDEX_BYTES:]))

        with trio.move_on_after(QUESTION_S):
            async with trio.open_nursery() as nursery:
                for place, tag in enumerate(others):
                    nursery.start_soon(ask_one, place, tag)
        return replies

    async def _reply(self, connection: socket.socket, question: str) -> None:
        data = self.reply(question)
        if data and confirm(connection):
            stream = PlainStream(connection)
            with suppress(trio.BrokenResourceError):
                await stream.send_all(self.index.to_bytes(INDEX_BYTES, "big") + data)

    async def _open_door(self, door: socket.socket, listener: Listener) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(door)
                try:
                    connection, _ = door.accept()
                except BlockingIOError:
                    continue
                except OSError as error:  # out of descriptors; the others' patience has an end, too
                    log.error("cannot take a request of another worker", extra={"error": error.strerror})
                    await trio.sleep(0.1)
                    continue
                connection.setblocking(False)
                nursery.start_soon(self._take, connection, listener)

    async def _take(self, connection: socket.socket, listener: Listener) -> None:
        keeps = False
        client: socket.socket | None = None
        try:
            with trio.move_on_after(self._settings.handover_timeout_s):
                handed, client = await take(connection, bytes_max=self._bytes_max)
                if handed.question:
                    await self._reply(connection, handed.question)
                elif confirm(connection):
                    keeps = True
                    self.handovers.taken += 1
                    listener.adopt(connection if client is None else client, handed.peer, handed.data)
        except (BadHandover, OSError) as error:
            log.debug("a worker gave up handing over a request", extra={"error": str(error)})
        finally:
            if not keeps or client is not None:
                connection.close()
            if not keeps and client is not None:
                client.close()

    async def _hear_parent(self) -> None:
        lines = Lines(self._control, FROM_PARENT)
        try:
            while (message := await lines.next()) is not None:
                self.serving = message.tags
        except msgspec.DecodeError:
            log.exception("the parent cannot be understood")

    async def _tell_parent(self) -> None:
        try:
            await self._control.send_all(build_line(Ready()))
            while True:
                await trio.sleep(self._settings.worker_silence_s / SIGNS)
                await self._control.send_all(build_line(Alive(self._streams)))
        except trio.BrokenResourceError:
            log.debug("the parent is gone")  # a thread sees to what follows; see `child`
