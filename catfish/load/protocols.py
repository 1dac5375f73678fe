"""What each scenario says, in each protocol: every frame is built once, before the clock runs. Pure.

Natively rooms have names (`room:join`, `room:emit`, `chat:send`). Over Socket.IO the rooms of `fan`, `pair` and `idle`
are PeerPrep's (`join_room`, `send_message`), those of `chat` are Chat POC's (`room:create`, `room:join`, `chat:send`).
A plain Node server that handles the same few events is driven as `socketio-peer`; `docs/performance.md` has one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from catfish.load.frames import build_client_frame
from catfish.wire import engineio, native, socketio
from catfish.wire.websocket.frames import PONG, TEXT

PAD: Final = "x"


class Request(NamedTuple):
    """Something that is answered."""

    frame: bytes
    awaited: bytes
    """How the payload of the answer begins."""
    refused: bytes
    """How it begins when it is a refusal; looked at first."""


class Speech(Protocol):
    """How one protocol says it all."""

    @property
    def path(self) -> str:
        """Where such a server is, when the URL does not say."""

    @property
    def query(self) -> str: ...
    @property
    def subprotocol(self) -> str | None: ...

    @property
    def greeting(self) -> Sequence[tuple[bytes, bytes]]:
        """What makes an opened connection ready: pairs of a frame (or nothing) and how its answer begins."""

    @property
    def keep_alive(self) -> bytes:
        """A frame that tells the server that this client lives."""

    def ping(self, size: int) -> Request:
        """An echo of `size` bytes of text."""

    def enter(self, room: str, user: str) -> Request:
        """Become `user` and enter the room of that name."""

    def emit(self, room: str, user: str, size: int) -> bytes:
        """Tell the others; nothing is stored and nothing is answered."""

    def create_chat(self) -> Request | None:
        """Make a room by whose code (`read_code`) others enter; None where rooms of chat have names as well."""

    def read_code(self, answer: bytes) -> str: ...
    def enter_chat(self, room: str, user: str) -> Request: ...
    def send_chat(self, room: str, user: str, size: int) -> Request: ...


class Native:
    """`docs/protocol.md`, in either codec."""

    path = "/ws"
    query = ""
    greeting: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, codec: native.Codec) -> None:
        self._codec = codec
        self.subprotocol: str | None = codec.name
        # RFC 6455 section 5.5.3: a pong that nobody asked for says just that.
        self.keep_alive = build_client_frame(PONG, b"")

    def _frame(self, event: str, data: Any, id: int | None = None) -> bytes:
        return build_client_frame(self._codec.opcode, self._codec.encode_request(event, data, id))

    def _request(self, event: str, data: Any, id: int, before: bytes = b"") -> Request:
        # All that stands in front of the data: an envelope is an array of two, a refusal one of three.
        awaited = self._codec.encode_reply(id, None)
        if self._codec is native.MSGPACK:
            return Request(before + self._frame(event, data, id), awaited[:-1], b"\x93" + awaited[1:])
        start = awaited.removesuffix(b"null]")
        return Request(before + self._frame(event, data, id), start, start + b"null,")

    def ping(self, size: int) -> Request:
        return self._request("ping", PAD * size, 1)

    def enter(self, room: str, user: str) -> Request:
        # The few newest messages: what a page of history costs is another question.
        return self._request("room:join", {"room": room, "limit": 1}, 2, self._frame("hello", {"user": user}))

    def emit(self, room: str, user: str, size: int) -> bytes:
        return self._frame("room:emit", {"room": room, "event": "load", "data": PAD * size})

    def create_chat(self) -> Request | None:
        return None

    def read_code(self, answer: bytes) -> str:
        raise NotImplementedError("rooms have names")

    def enter_chat(self, room: str, user: str) -> Request:
        return self.enter(room, user)

    def send_chat(self, room: str, user: str, size: int) -> Request:
        return self._request("chat:send", {"room": room, "content": PAD * size}, 7)


class SocketIo:
    """Socket.IO 5 over Engine.IO 4 on a WebSocket."""

    path = "/socket.io/"
    query = "EIO=4&transport=websocket"
    subprotocol: str | None = None

    def __init__(self) -> None:
        self.greeting: Sequence[tuple[bytes, bytes]] = (
            (b"", engineio.OPEN.encode()),
            (self._packet(socketio.build_packet(socketio.CONNECT)[0]), b"40"),
        )
        # The server asks every `pingInterval`; an answer that comes before the question is as good.
        self.keep_alive = build_client_frame(TEXT, engineio.PONG.encode())

    def _packet(self, packet: bytes) -> bytes:
        return build_client_frame(TEXT, engineio.build_message(packet.decode()))

    def _event(self, name: str, data: Any, id: int | None = None) -> bytes:
        return self._packet(socketio.build_event(name, [data], id=id)[0])

    def _request(self, name: str, data: Any, id: int) -> Request:
        awaited = b"43%d[" % id
        return Request(self._event(name, data, id), awaited, awaited + b'{"ok":false')

    def ping(self, size: int) -> Request:
        return self._request("ping", PAD * size, 1)

    def enter(self, room: str, user: str) -> Request:
        # There is no acknowledgement, but events take effect in order: behind it one that has.
        after = self.ping(1)
        entered = self._event("join_room", {"userId": user, "username": user, "roomId": room})
        return after._replace(frame=entered + after.frame)

    def emit(self, room: str, user: str, size: int) -> bytes:
        message = {"userId": user, "username": user, "content": PAD * size, "timestamp": 0}
        return self._event("send_message", {"message": message})

    def create_chat(self) -> Request | None:
        return self._request("room:create", {"kind": "open"}, 3)

    def read_code(self, answer: bytes) -> str:
        found = re.search(rb'"code":"([^"]+)"', answer)
        if found is None:
            raise ValueError(f"no code in {answer[:200]!r}")
        return found[1].decode()

    def enter_chat(self, room: str, user: str) -> Request:
        return self._request("room:join", {"code": room, "nickname": user}, 4)

    def send_chat(self, room: str, user: str, size: int) -> Request:
        return self._request("chat:send", {"roomCode": room, "sender": user, "content": PAD * size}, 7)


def speech_of(protocol: str) -> Speech:
    """How the protocol of that name (`plan.PROTOCOLS`) is spoken."""
    if protocol == "native":
        return Native(native.JSON)
    return Native(native.MSGPACK) if protocol == "native-msgpack" else SocketIo()
