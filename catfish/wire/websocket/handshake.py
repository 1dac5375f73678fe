"""The opening handshake, the server's side (RFC 6455 section 4.2, RFC 7692 section 5)."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import Final, NamedTuple

from catfish.wire.http import TOKEN, HttpRefusal, RequestHead
from catfish.wire.websocket.deflate import EXTENSION, DeflateParameters, negotiate

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")  # what base64 makes of 16 bytes
_UPGRADE: Final = ("Upgrade", "websocket")
_VERSION: Final = ("Sec-WebSocket-Version", "13")
_ALLOW: Final = ("Allow", "GET")


class Accepted(NamedTuple):
    """A handshake that succeeds."""

    response: bytes
    """The 101 answer; whatever follows it is frames."""
    subprotocol: str | None
    deflate: DeflateParameters | None


def is_upgrade(head: RequestHead) -> bool:
    """Whether the request asks for a WebSocket, rightly or not: `accept` says what is wrong with it."""
    return "websocket" in _list_of(head, "upgrade")


def accept(head: RequestHead, *, subprotocols: Sequence[str], deflate: bool) -> Accepted:
    """Answer an opening handshake.

    Args:
        head: a request that `parse_request_head` let through; so it is HTTP/1.1 with one Host.
        subprotocols: what the server speaks here, its favourite first. A client that asks for none of them gets none,
            and decides itself whether to go on (RFC 6455 section 4.1, at the end).
        deflate: whether permessage-deflate may be agreed on.

    Raises:
        HttpRefusal: 400, 405 or 426; the text says why, and the headers what would be right.
    """
    headers = head.headers
    if head.method != "GET":  # RFC 6455 section 4.1, item 2
        raise HttpRefusal(405, f"A WebSocket is opened with GET, not {head.method[:20]}.", (_ALLOW,))
    if "websocket" not in _list_of(head, "upgrade"):  # item 5
        raise HttpRefusal(426, "This is a WebSocket endpoint: the header Upgrade: websocket is missing.", (_UPGRADE,))
    if "upgrade" not in _list_of(head, "connection"):  # item 6
        raise HttpRefusal(
            426,
            "The header Connection: Upgrade is missing; a proxy on the way may have removed it.",
            (_UPGRADE,),
        )
    if not headers.get("host"):  # item 4
        raise HttpRefusal(400, "The Host header is empty.")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        # Else its body, meant for HTTP, would be taken for frames.
        raise HttpRefusal(400, "A request that opens a WebSocket has no body.")
    version = headers.get("sec-websocket-version")
    if version != "13":  # item 9, and section 4.4: the answer names the versions that are spoken
        text = "is missing" if version is None else "is not 13"
        raise HttpRefusal(426, f"Sec-WebSocket-Version {text}; only version 13 is spoken here.", (_UPGRADE, _VERSION))
    key = headers.get("sec-websocket-key")
    if key is None:  # item 7
        raise HttpRefusal(400, "The Sec-WebSocket-Key header is missing.")
    if _KEY.fullmatch(key) is None:
        raise HttpRefusal(400, "Sec-WebSocket-Key is not 16 bytes in base64.")

    subprotocol = _choose_subprotocol(headers.get("sec-websocket-protocol"), subprotocols)
    extensions = headers.get("sec-websocket-extensions")
    parameters: DeflateParameters | None = None
    if extensions is not None:
        offers = parse_extensions(extensions)  # even when none is wanted: section 9.1, malformed ones are refused
        if deflate:
            parameters = negotiate([parameters for name, parameters in offers if name == EXTENSION])

    digest = b64encode(sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()  # section 4.2.2, item 5
    response = (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {digest}\r\n"
    )
    if subprotocol is not None:
        response += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if parameters is not None:
        response += f"Sec-WebSocket-Extensions: {parameters.response}\r\n"
    return Accepted((response + "\r\n").encode(), subprotocol, parameters)


def _list_of(head: RequestHead, name: str) -> Sequence[str]:
    """The elements of a list of tokens that ignore case, in lower case."""
    value = head.headers.get(name)
    if value is None:
        return ()
    return [element.strip(" \t") for element in value.lower().split(",")]


_TOKEN: Final = re.compile(TOKEN)


def _choose_subprotocol(value: str | None, subprotocols: Sequence[str]) -> str | None:
    """The server's favourite among those that the client names (RFC 6455 sections 1.9, 4.1 item 10, 4.2.2 item 5)."""
    if value is None:
        return None
    asked = [element for element in (element.strip(" \t") for element in value.split(",")) if element]
    if not all(_TOKEN.fullmatch(element) for element in asked):
        raise HttpRefusal(400, "Sec-WebSocket-Protocol is not a list of tokens.")
    return next((subprotocol for subprotocol in subprotocols if subprotocol in asked), None)


# Sec-WebSocket-Extensions (RFC 6455 section 9.1):
#     extension-list = extension *( "," extension )       empty elements are skipped (RFC 9110 section 5.6.1)
#     extension = token *( ";" token [ "=" ( token | quoted-string ) ] )
# What the lexer finds moves the state; a move that is not in the table is not in the grammar.
_LEXEMES: Final = re.compile(rf'[ \t]*(?:(?P<token>{TOKEN})|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<mark>[;,=]))')

_GRAMMAR: Final = {
    ("start", "token"): "extension",
    ("start", ","): "start",
    ("extension", ","): "start",
    ("extension", ";"): "expect name",
    ("expect name", "token"): "name",
    ("name", ","): "start",
    ("name", ";"): "expect name",
    ("name", "="): "expect value",
    ("expect value", "token"): "value",
    ("expect value", "quoted"): "value",
    ("value", ","): "start",
    ("value", ";"): "expect name",
}
_COMPLETE: Final = frozenset({"start", "extension", "name", "value"})
"""States in which the header may end."""


def parse_extensions(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Parse Sec-WebSocket-Extensions: `[(extension, [(parameter, value or None), ...]), ...]` in the client's order.

    Raises:
        HttpRefusal: 400 when it does not follow the grammar.
    """
    extensions: list[tuple[str, list[tuple[str, str | None]]]] = []
    state = "start"
    position = 0
    value = value.rstrip(" \t")
    while position < len(value):
        lexeme = _LEXEMES.match(value, position)
        if lexeme is None:
            raise _malformed(position)
        kind = lexeme.lastgroup or ""
        text = lexeme[kind]
        following = _GRAMMAR.get((state, text if kind == "mark" else kind))
        match following:
            case None:
                raise _malformed(lexeme.start(kind))
            case "extension":
                extensions.append((text, []))
            case "name":
                extensions[-1][1].append((text, None))
            case "value":
                if kind == "quoted":
                    text = re.sub(r"\\(.)", r"\1", text[1:-1])
                    if _TOKEN.fullmatch(text) is None:  # section 9.1: what was quoted must be a token as well
                        raise _malformed(lexeme.start(kind))
                name, _ = extensions[-1][1][-1]
                extensions[-1][1][-1] = (name, text)
        state = following
        position = lexeme.end()
    if state not in _COMPLETE:
        raise _malformed(position)
    return extensions


def _malformed(position: int) -> HttpRefusal:
    return HttpRefusal(400, f"Sec-WebSocket-Extensions is malformed at character {position + 1}.")
