"""Socket.IO clients without sockets: sessions that speak a vocabulary, on the instance of `tests.server.harness`.

sockets = Sockets(await start_server(nursery))
ann = sockets.connect()
assert await ann.ask("joinRoom", {"roomId": "lobby"}) == [{"ok": True, …}]
assert ann.heard() == [("userJoined", {"roomId": "lobby", "userId": "bob"})]

What goes in and out passes through the real packet codecs, so that nothing is proven with values that cannot travel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio
from trio.testing import wait_all_tasks_blocked

from catfish.contracts.common import PING
from catfish.contracts.interface import Unknown, Vocabulary
from catfish.contracts.registry import choose, load_vocabularies
from catfish.errors import INTERNAL_ERROR, NORMAL, Close, Rejected
from catfish.rooms.events import Event
from catfish.rooms.room import LiveRoom
from catfish.server.inbox import Gauge, Inbox, Work
from catfish.server.participant import Participant
from catfish.wire import socketio, socketio_msgpack
from tests.server.harness import Server

Heard = tuple[Any, ...]
"""An event as a client hears it: its name, and its arguments."""


class Request(NamedTuple):
    event: str
    args: list[Any]
    reply: Callable[..., None] | None


class Audience:
    """Members who speak one vocabulary: they are pushed what it renders."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def encode(self, event: Event, room: LiveRoom, /) -> Heard | None:
        rendered = self.vocabulary.render(event, room)
        return None if rendered is None else travelled(rendered[0], rendered[1])


class Nobody:
    def encode(self, event: Event, room: LiveRoom, /) -> None:
        raise AssertionError("a socket without a vocabulary is in no room")


def travelled(event: str, args: Sequence[Any]) -> Heard:
    """An event as it arrives on the other side, when it can be encoded in both ways."""
    socketio_msgpack.build_event(event, args)
    head, attachments = socketio.build_event(event, args)
    return tuple(_decode(head.decode(), attachments))


def _decode(head: str, attachments: Sequence[bytes]) -> list[Any]:
    decoder = socketio.Decoder(attachments_max=100)
    packet = decoder.receive(head)
    for attachment in attachments:
        packet = decoder.receive(attachment)
    assert packet is not None
    data: list[Any] = packet.data
    return data


class Sockets:
    """Args:
    server: to which the sockets connect; its own clients speak the native protocol.
    vocabularies: by default the built-in ones.
    """

    def __init__(self, server: Server, vocabularies: Sequence[Vocabulary] | None = None) -> None:
        self.server = server
        self.vocabularies = load_vocabularies(["all"], []) if vocabularies is None else vocabularies
        self.audiences = {vocabulary.name: Audience(vocabulary) for vocabulary in self.vocabularies}
        self.ignored: Counter[str] = Counter()
        """Events that nobody knows, and refusals, by event."""

    def connect(self) -> Socket:
        return Socket(self)


class Socket:
    """One client. `token` of the environment's session is given by `who.authenticate`."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.log: list[Heard] = []
        self.vocabulary: Vocabulary | None = None
        self.ended: Close | None = None
        self.paused = False
        self.crash: Exception | None = None
        self._parked: trio.Event | None = None
        settings = sockets.server.instance.settings
        gauge = Gauge(self, settings.requests_waiting_max)
        self.who = Participant(
            sockets.server.instance, Nobody(), gauge, "unix", None, self.log.append, self._emit, self._hang_up
        )
        self.inbox = Inbox(self._handle, self._perform, self._wake, gauge)
        sockets.server.nursery.start_soon(self._run)

    # What the server calls

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def _emit(self, event: str, *args: Any) -> None:
        if self.ended is None:
            self.log.append(travelled(event, args))

    def _hang_up(self, close: Close) -> None:
        if self.ended is None:
            self.log.append(("$disconnect", "io server disconnect" if close is NORMAL else "transport close"))
            self.close(close)

    # The session

    async def _run(self) -> None:
        try:
            while not (self.ended and self.inbox.idle):
                await self.inbox.drain()
                if self.inbox.idle and not self.ended:
                    self._parked = trio.Event()
                    await self._parked.wait()
        except Exception as error:  # noqa: BLE001 - the crash boundary of a connection's task
            self.crash = error
            self.ended = INTERNAL_ERROR
        finally:
            self.who.end()

    def _wake(self) -> None:
        if self._parked is not None:
            self._parked.set()

    def _handle(self, request: Request) -> Work | None:
        event, args, reply = request
        if event == PING and reply is not None:
            reply(*args[:1])
            return None
        if self.vocabulary is None:
            self.vocabulary = choose(self.sockets.vocabularies, event, args)
            if self.vocabulary is None:
                self.sockets.ignored[event] += 1
                return None
            self.who.audience = self.sockets.audiences[self.vocabulary.name]
        try:
            coroutine = self.vocabulary.handle(self.who, event, args, reply)
        except Unknown:
            self.sockets.ignored[event] += 1
            return None
        except Rejected as refusal:
            self._refuse(request, refusal)
            return None
        return None if coroutine is None else Work(coroutine, request)

    async def _perform(self, work: Work) -> None:
        try:
            await work.coroutine
        except Rejected as refusal:
            self._refuse(work.context, refusal)
        self.who.settle()

    def _refuse(self, request: Request, refusal: Rejected) -> None:
        assert self.vocabulary is not None
        self.sockets.ignored[request.event] += 1
        self.vocabulary.refuse(self.who, request.event, request.args, refusal, request.reply)

    # What the client does

    def emit(self, event: str, *args: Any) -> None:
        self._receive(event, args, None)

    def request(self, event: str, *args: Any, acked: trio.Event | None = None) -> list[list[Any]]:
        """Send an event with an acknowledgement function; the list gets what that is called with, each time."""
        acks: list[list[Any]] = []

        def reply(*values: Any) -> None:
            if self.ended is None:
                acks.append(list(travelled("ack", values)[1:]))
                self.log.append(("$ack", *acks[-1]))
                if acked is not None:
                    acked.set()

        self._receive(event, args, reply)
        return acks

    def _receive(self, event: str, args: Sequence[Any], reply: Callable[..., None] | None) -> None:
        assert self.ended is None
        head, attachments = socketio.build_event(event, args)
        name, *arrived = _decode(head.decode(), attachments)
        try:
            self.inbox.receive(Request(name, arrived, reply))
        except Exception as error:  # noqa: BLE001 - the crash boundary of the hub
            self.crash = error
            self.close(INTERNAL_ERROR)

    async def ask(self, event: str, *args: Any) -> list[Any] | None:
        """Send an event; what it is acknowledged with, None when it is not."""
        acks = self.request(event, *args)
        await wait_all_tasks_blocked()
        assert len(acks) <= 1
        return acks[0] if acks else None

    async def tell(self, event: str, *args: Any) -> None:
        """Send an event, and wait until everything is quiet."""
        self.emit(event, *args)
        await wait_all_tasks_blocked()

    def heard(self) -> list[Heard]:
        """What came since the last call, but for acknowledgements."""
        found = [entry for entry in self.log if entry[0] != "$ack"]
        self.log.clear()
        return found

    def close(self, close: Close = NORMAL) -> None:
        """The connection is over; what was sent before counts."""
        self.ended = close
        self._wake()

    async def vanish(self) -> None:
        self.close()
        await wait_all_tasks_blocked()
