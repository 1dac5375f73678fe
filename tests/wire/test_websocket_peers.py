"""Our server's side against two clients' sides that are not ours, both ways, without sockets."""

from __future__ import annotations

from typing import Any

import pytest
import wsproto
import wsproto.events as ws
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri
from wsproto.extensions import PerMessageDeflate

from catfish.errors import GOING_AWAY
from catfish.wire.http import find_head_end, parse_request_head
from catfish.wire.websocket.deflate import Deflater, Inflater
from catfish.wire.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameParser,
    build_binary,
    build_close,
    build_frame,
    build_text,
)
from catfish.wire.websocket.handshake import Accepted, accept, is_upgrade
from tests.wire.peer import cut

SUBPROTOCOLS = ("catfish.v1.msgpack", "catfish.v1.json")
Message = str | bytes


def split(data: bytes, fragments: int) -> list[bytes]:
    size = max(-(-len(data) // fragments), 1)
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


class WebsocketsClient:
    def __init__(self, deflate: bool) -> None:
        self.peer = ClientProtocol(
            parse_uri("ws://server.example/ws?x=1"),
            extensions=[ClientPerMessageDeflateFactory(client_max_window_bits=True)] if deflate else None,
            subprotocols=[*SUBPROTOCOLS[1:]],  # type: ignore[list-item]
            max_size=None,
        )

    @property
    def subprotocol(self) -> str | None:
        return self.peer.subprotocol

    @property
    def compresses(self) -> bool:
        return bool(self.peer.extensions)

    def request(self) -> bytes:
        self.peer.send_request(self.peer.connect())
        return self._sent()

    def _sent(self) -> bytes:
        return b"".join(self.peer.data_to_send())

    def receive(self, data: bytes) -> list[tuple[int, Any]]:
        self.peer.receive_data(data)
        self._sent()  # its pongs
        assert self.peer.handshake_exc is None
        assert self.peer.parser_exc is None
        events: list[tuple[int, Any]] = []
        for event in self.peer.events_received():
            if not isinstance(event, Frame):
                assert self.peer.state is State.OPEN
            elif event.opcode is Opcode.TEXT:
                events.append((TEXT, bytes(event.data).decode()))
            elif event.opcode is Opcode.CLOSE:
                close = Close.parse(event.data)
                events.append((CLOSE, (close.code, close.reason)))
            else:
                events.append((int(event.opcode), bytes(event.data)))
        return events

    def send(self, message: Message, fragments: int) -> bytes:
        pieces = split(message.encode() if isinstance(message, str) else message, fragments)
        begin = self.peer.send_text if isinstance(message, str) else self.peer.send_binary
        begin(pieces[0], fin=len(pieces) == 1)
        for index, piece in enumerate(pieces[1:], start=2):
            self.peer.send_continuation(piece, fin=index == len(pieces))
        return self._sent()

    def ping(self, payload: bytes) -> bytes:
        self.peer.send_ping(payload)
        return self._sent()

    def close(self, code: int, reason: str) -> bytes:
        self.peer.send_close(code, reason)
        return self._sent()


class WsprotoClient:
    def __init__(self, deflate: bool) -> None:
        self.peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.deflate = deflate
        self.subprotocol: str | None = None
        self.compresses = False
        self.partial: list[Any] = []  # it makes several events of one message

    def request(self) -> bytes:
        return self.peer.send(
            ws.Request(
                host="server.example",
                target="/ws?x=1",
                extensions=[PerMessageDeflate()] if self.deflate else [],
                subprotocols=[*SUBPROTOCOLS[1:]],
            )
        )

    def receive(self, data: bytes) -> list[tuple[int, Any]]:
        self.peer.receive_data(data)
        events: list[tuple[int, Any]] = []
        for event in self.peer.events():
            match event:
                case ws.AcceptConnection():
                    self.subprotocol = event.subprotocol
                    self.compresses = bool(event.extensions)
                case ws.TextMessage() | ws.BytesMessage():
                    self.partial.append(event.data)
                    if event.message_finished:
                        if isinstance(event, ws.TextMessage):
                            events.append((TEXT, "".join(self.partial)))
                        else:
                            events.append((BINARY, b"".join(self.partial)))
                        self.partial.clear()
                case ws.Ping():
                    events.append((PING, bytes(event.payload)))
                case ws.Pong():
                    events.append((PONG, bytes(event.payload)))
                case ws.CloseConnection():
                    events.append((CLOSE, (int(event.code), event.reason or "")))
                case _:
                    raise AssertionError(event)
        return events

    def send(self, message: Message, fragments: int) -> bytes:
        data = b""
        if isinstance(message, str):
            size = max(-(-len(message) // fragments), 1)
            texts = [message[start : start + size] for start in range(0, len(message), size)] or [""]
            for index, text in enumerate(texts, start=1):
                data += self.peer.send(ws.TextMessage(data=text, message_finished=index == len(texts)))
            return data
        pieces = split(message, fragments)
        for index, piece in enumerate(pieces, start=1):
            data += self.peer.send(ws.BytesMessage(data=piece, message_finished=index == len(pieces)))
        return data

    def ping(self, payload: bytes) -> bytes:
        return self.peer.send(ws.Ping(payload=payload))

    def close(self, code: int, reason: str) -> bytes:
        return self.peer.send(ws.CloseConnection(code=code, reason=reason))


Client = WebsocketsClient | WsprotoClient
CLIENTS = (WebsocketsClient, WsprotoClient)


def opened(make: type[Client], *, offers: bool, agrees: bool) -> tuple[Client, Accepted]:
    client = make(offers)
    request = client.request()
    assert find_head_end(request) == len(request)
    head = parse_request_head(request)
    assert is_upgrade(head)
    assert (head.path, head.query, head.headers["host"]) == ("/ws", "x=1", "server.example")
    accepted = accept(head, subprotocols=SUBPROTOCOLS, deflate=agrees)
    assert client.receive(accepted.response) == []
    return client, accepted


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize("offers", [False, True])
@pytest.mark.parametrize("agrees", [False, True])
def test_the_handshake_agrees_on_the_same(make: type[Client], offers: bool, agrees: bool) -> None:
    client, accepted = opened(make, offers=offers, agrees=agrees)
    assert client.subprotocol == accepted.subprotocol == "catfish.v1.json"
    assert client.compresses == (accepted.deflate is not None) == (offers and agrees)


MESSAGES = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    st.integers(0, 70_000).map(lambda size: b"\x00\x80" * (size // 2)),
    st.integers(0, 3).map(lambda size: "κόσμε 😀 " * (size * 5000)),
)


@pytest.mark.parametrize("make", CLIENTS)
@given(
    messages=st.lists(MESSAGES, max_size=4),
    deflate=st.booleans(),
    fragments=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_what_a_client_sends_arrives(
    make: type[Client],
    messages: list[Message],
    deflate: bool,
    fragments: int,
    seed: int,
) -> None:
    client, accepted = opened(make, offers=deflate, agrees=True)
    data = b""
    expected: list[tuple[int, Any]] = []
    for message in messages:
        data += client.send(message, fragments) + client.ping(b"p")
        expected += [(TEXT if isinstance(message, str) else BINARY, message), (PING, b"p")]
    data += client.close(4000, "é")
    expected.append((CLOSE, (4000, "é")))

    inflate = Inflater() if accepted.deflate else None
    parser = FrameParser(message_bytes_max=1_000_000, fragments_max=10, inflate=inflate)
    events = [event for piece in cut(data, seed) for event in parser.receive(piece)]
    assert parser.failure is None
    assert events == expected


@pytest.mark.parametrize("make", CLIENTS)
@given(messages=st.lists(MESSAGES, max_size=4), deflate=st.booleans(), seed=st.integers(0, 100))
def test_what_the_server_sends_arrives(make: type[Client], messages: list[Message], deflate: bool, seed: int) -> None:
    client, accepted = opened(make, offers=deflate, agrees=True)
    deflater = Deflater()
    data = b""
    expected: list[tuple[int, Any]] = []
    for index, message in enumerate(messages):
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        if accepted.deflate and index % 3 != 2:  # some stay as they are
            data += build_frame(opcode, deflater.compress(payload), compressed=True)
        else:
            data += build_text(payload) if opcode == TEXT else build_binary(payload)
        data += build_frame(PING, payload[:125])
        expected += [(opcode, message), (PING, payload[:125])]
    data += build_frame(PONG, b"") + build_close(GOING_AWAY)
    expected += [(PONG, b""), (CLOSE, (1001, "server is going away"))]
    assert [event for piece in cut(data, seed) for event in client.receive(piece)] == expected


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_client_that_limits_the_servers_window_is_agreed_with(bits: int) -> None:
    client = WebsocketsClient(deflate=False)
    client.peer.available_extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=bits)]
    accepted = accept(parse_request_head(client.request()), subprotocols=SUBPROTOCOLS, deflate=True)
    assert client.receive(accepted.response) == []
    assert client.compresses
    assert accepted.deflate is not None
    assert accepted.deflate.compresses == (bits == 15)
    parser = FrameParser(message_bytes_max=1000, fragments_max=10, inflate=Inflater())
    assert parser.receive(client.send("Hello " * 20, 2)) == [(TEXT, "Hello " * 20)]
