"""A client in one namespace, and what a namespace must offer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import trio

from catfish.net.timers import Timer
from catfish.server.engineio import Packets
from catfish.server.inbox import Work
from catfish.wire.socketio import DISCONNECT

if TYPE_CHECKING:
    from catfish.server.socketio.client import Client

CLIENT_LEFT: Final = "client namespace disconnect"
SERVER_LEFT: Final = "server namespace disconnect"
"""Reasons beside those of `engineio.Reason`: the connection goes on."""

Handler = Callable[[str, list[Any], int | None], Work | None]
"""Handles an event: its name, its arguments, and the id if the client wants an acknowledgement (`Socket.ack`). Called
synchronously, in the order in which events came; what is behind a `Work` waits for its end."""


class ConnectRefused(Exception):
    """Raised by `NamespaceApp.admit`: the client gets a CONNECT_ERROR, and may try again."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class Disconnected(Exception):
    """The client left, or its connection ended, before it answered."""


class Restored(NamedTuple):
    """A session that a client has come back to."""

    sid: str
    """The id of the socket, as it was."""
    pid: str
    """What the client recovers it by; the same as before, which tells the client that it was recovered."""
    missed: Sequence[Packets] = ()
    """Sent behind the answer to CONNECT, before anything else."""


class Recovery(Protocol):
    """Connection state recovery. The clients give back the `pid` that the answer to their CONNECT had, and the last
    argument of the last event, if that was text: the server's offset."""

    def begin(self, socket: Socket) -> str:
        """A new session: draw the secret by which its client may recover it, `Socket.pid`."""
        ...

    async def restore(self, socket: Socket, pid: str, offset: str | None) -> Restored | None:
        """A client came back; `offset` is None when it has not had an event. None: its session is a new one."""
        ...


class NamespaceApp(Protocol):
    """An application on one namespace. `Namespace` is a comfortable one."""

    name: str
    """Begins with a slash."""

    @property
    def recovery(self) -> Recovery | None:
        """How clients come back to their sessions; None: they cannot."""
        ...

    def admit(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        """A client wants to come in; `Socket.auth` is what it sent along. Set `handler` and `ended` here.

        Nothing may be sent yet. A coroutine is awaited first, and so is everything else that the connection sends.

        Raises:
            ConnectRefused: it may not.
        """
        ...

    def connected(self, socket: Socket) -> None:
        """The client was told that it is in: now things may be sent."""
        ...


def draw_id() -> str:
    """Twenty characters that nobody can guess (120 bits)."""
    return secrets.token_urlsafe(15)


def ignore_event(name: str, args: list[Any], id: int | None) -> None:
    """What a socket does with events until somebody sets `Socket.handler`."""


def ignore_end(reason: str) -> None:
    """What a socket does at its end until somebody sets `Socket.ended`."""


def ignore_move() -> None:
    """What a socket does about a new transport, or when it is not admitted, until somebody sets what it does."""


class _Asked(NamedTuple):
    answered: Callable[[list[Any] | None], None]
    timer: Timer | None


class Socket:
    """A client in a namespace. Made for each CONNECT.

    Attributes:
        id: public; the client knows it, and others may.
        namespace: its name.
        auth: what the client sent with CONNECT; empty when it sent nothing.
        query: what followed a `?` in the namespace's name.
        handler: handles its events; the application sets it.
        ended: called once, at the end of a socket that was connected, with the reason. What is sent by then is lost.
            Called from inside of `disconnect`, otherwise by a driver.
        dropped: called in the place of `ended` for a socket that did not come to be connected.
        moved: called when the connection went from polling to a WebSocket (`Client.session.connection`).
        data: the application's own.
        pid: secret of its session, when state can be recovered.
        recovered: whether this is the continuation of an earlier connection.
    """

    __slots__ = (
        "_asked",
        "auth",
        "client",
        "data",
        "dropped",
        "ended",
        "handler",
        "id",
        "is_connected",
        "moved",
        "namespace",
        "pid",
        "query",
        "recovered",
    )

    def __init__(self, client: Client, namespace: str, auth: dict[str, Any], query: str) -> None:
        self.id = draw_id()
        self.client = client
        self.namespace = namespace
        self.auth = auth
        self.query = query
        self.handler: Handler = ignore_event
        self.ended: Callable[[str], None] = ignore_end
        self.dropped: Callable[[], None] = ignore_move
        self.moved: Callable[[], None] = ignore_move
        self.data: Any = None
        self.pid: str | None = None
        self.recovered = False
        self.is_connected = False
        self._asked: dict[int, _Asked] | None = None

    def __repr__(self) -> str:
        return f"<Socket {self.id} in {self.namespace}>"

    # Sending. All of it is dropped when the socket has ended, and none of it may be done before it is connected.

    def send(self, packets: Packets) -> None:
        """Send packets that others are sent as well: `Client.codec` builds them."""
        if self.is_connected:
            self.client.session.push(packets)

    def emit(self, name: str, *args: Any) -> None:
        """Send an event."""
        if self.is_connected:
            client = self.client
            client.session.push(client.codec.event(name, args, self.namespace))

    def ack(self, id: int, args: Sequence[Any] = ()) -> None:
        """Acknowledge the event with this id. Once: clients ignore a second time."""
        if self.is_connected:
            client = self.client
            client.codec.answer(client.session, args, id, self.namespace)

    def ask(
        self,
        name: str,
        args: Sequence[Any],
        answered: Callable[[list[Any] | None], None],
        deadline: float = float("inf"),
    ) -> int:
        """Send an event that the client is to acknowledge.

        Args:
            answered: called once: with what the client acknowledges it with, or with None when it has not done so by
                the deadline, or cannot do so any more. Never called from inside of `ask`, except for an older question
                that is given up because there are more than `asked_max`.
            deadline: in Trio's time.

        Returns:
            the id of the event, for `forget`.
        """
        client = self.client
        id = client.server.next_id()
        if not self.is_connected:
            raise Disconnected(f"{self!r} has ended")
        if self._asked is None:
            self._asked = {}
        elif len(self._asked) >= client.server.settings.asked_max:
            self._answer(next(iter(self._asked)), None)
        timer = None
        if deadline != float("inf"):
            timer = client.session.engine.timers.call_at(deadline, lambda: self._answer(id, None))
        self._asked[id] = _Asked(answered, timer)
        client.session.push(client.codec.event(name, args, self.namespace, id))
        return id

    def forget(self, id: int) -> None:
        """An answer to `ask` is of no interest any more."""
        asked = self._asked.pop(id, None) if self._asked else None
        if asked is not None and asked.timer is not None:
            asked.timer.cancel()

    async def call(self, name: str, *args: Any) -> list[Any]:
        """Send an event, and wait for what the client acknowledges it with. Put a cancel scope around it.

        Raises:
            Disconnected: there will be no answer.
        """
        answers: list[list[Any] | None] = []
        came = trio.Event()

        def answered(answer: list[Any] | None) -> None:
            answers.append(answer)
            came.set()

        id = self.ask(name, args, answered)
        try:
            await came.wait()
        finally:
            self.forget(id)
        if answers[0] is None:
            raise Disconnected(f"{self!r} has ended")
        return answers[0]

    def disconnect(self) -> None:
        """End it from the server's side: the client hears that, and does not come back by itself.

        Its connection goes on; `Client.disconnect` ends that as well.
        """
        if self.is_connected:
            client = self.client
            client.session.push(client.codec.packet(DISCONNECT, None, self.namespace))
            client.left(self)
            self.end(SERVER_LEFT)

    # For the client

    def acknowledged(self, id: int | None, args: list[Any]) -> None:
        """The client acknowledges an event. Without an id, with an unknown one, or twice: ignored."""
        if id is not None:
            self._answer(id, args)

    def end(self, reason: str) -> None:
        """Nothing comes any more, and nothing goes out."""
        if not self.is_connected:
            return
        self.is_connected = False
        try:
            while self._asked:
                self._answer(next(iter(self._asked)), None)
        finally:
            self.ended(reason)

    def _answer(self, id: int, args: list[Any] | None) -> None:
        asked = self._asked.pop(id, None) if self._asked else None
        if asked is not None:
            if asked.timer is not None:
                asked.timer.cancel()
            asked.answered(args)
