"""The native envelope, `catfish.v1`: see `docs/protocol.md`.

    [event, data]                                      an event, either way
    [event, data, id]                                  a request: the client wants a reply
    [id, data]                                         a reply
    [id, null, {code, message, retryAfterMs?}]         a refusal of a request that has an id
    ["error", {code, message, event?}]                 a refusal of one that has none

in JSON (text messages) or MessagePack (binary messages). An id is an integer from 1 to 2**53 - 1, what a browser's
numbers hold exactly; a null in its place is the same as none.

The server decodes in two steps: `decode_request` reads the event's name and skims the data, then the decoder of that
event's Struct reads the data. Measured for a `chat:send` of 80 bytes: 0.23 us and 0.21 us, where one Struct that is the
whole envelope takes 0.24 us, and a list whose data is converted afterwards 0.53 us.

Skimmed data is well-formed only as far as skimming sees: whoever forwards it unread forwards it to its sender alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from catfish.errors import PROTOCOL_ERROR, UNSUPPORTED_DATA, PeerError, Rejected
from catfish.wire.nesting import is_deeper

T = TypeVar("T")

TEXT: Final = 1
BINARY: Final = 2
ID_MAX: Final = 2**53 - 1
DATA_DEPTH_MAX: Final = 100
"""Arrays and objects within each other in free `data`. What was decoded must also be encodable from a deeper stack."""
_MESSAGE_CHARS_MAX: Final = 300


class Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a client sent."""

    event: str
    data: msgspec.Raw
    """Not decoded yet: see `Codec.decoder`."""
    id: Annotated[int, msgspec.Meta(ge=1, le=ID_MAX)] | None = None
    """None when no reply is wanted."""


class Event(msgspec.Struct, frozen=True):
    """What a server tells of its own accord."""

    name: str
    data: Any


class Reply(msgspec.Struct, frozen=True):
    id: int
    data: Any


class Refusal(msgspec.Struct, frozen=True):
    id: int | None
    """None when the request had none; then `event` tells which one it was, if the server could read that."""
    code: str
    message: str
    retry_after_ms: int | None = None
    event: str | None = None

    def as_rejected(self) -> Rejected:
        return Rejected(self.code, self.message, self.retry_after_ms)


class _Problem(msgspec.Struct, rename="camel", omit_defaults=True):
    code: str
    message: str
    event: str | None = None
    retry_after_ms: int | None = None


class Codec:
    """One of the two encodings of the envelope. Has no state that one message leaves to the next.

    Attributes:
        name: the WebSocket subprotocol that stands for it.
        opcode: of the messages that carry it, `TEXT` or `BINARY` (RFC 6455 section 5.2).
    """

    __slots__ = ("_decode_any", "_decode_request", "_encode", "_make_decoder", "_other", "_type", "name", "opcode")

    def __init__(self, encoding: Literal["json", "msgpack"]) -> None:
        self.name: Final = f"catfish.v1.{encoding}"
        self.opcode: Final = TEXT if encoding == "json" else BINARY
        self._type: type = str if encoding == "json" else bytes
        self._other: Final = "binary" if encoding == "json" else "text"
        self._make_decoder: Any = msgspec.json.Decoder if encoding == "json" else msgspec.msgpack.Decoder
        self._decode_request: Callable[[Any], Request] = self._make_decoder(Request).decode
        self._decode_any: Callable[[Any], Any] = self._make_decoder(Any).decode
        self._encode: Callable[[object], bytes] = (
            msgspec.json.Encoder() if encoding == "json" else msgspec.msgpack.Encoder()
        ).encode

    def __repr__(self) -> str:
        return f"<Codec {self.name}>"

    # Server side

    def decode_request(self, message: str | bytes) -> Request:
        """Read a message from a client: a `str` that came as text, `bytes` that came as binary.

        Raises:
            PeerError: it came in the kind of message that the subprotocol does not use.
            Rejected: `bad_envelope`.
        """
        if type(message) is not self._type:
            raise PeerError(UNSUPPORTED_DATA, f"{self.name} has no {self._other} messages")
        try:
            return self._decode_request(message)
        except (ValueError, RecursionError) as error:
            raise Rejected("bad_envelope", explain(error, "the frame")) from None

    def decoder(self, type: type[T]) -> Callable[[msgspec.Raw], T]:
        """The function that reads `Request.data` straight into `type`. Make it once, not for each message.

        It raises Rejected: `bad_request` with a message that names the field as it is spelled on the wire, or
        `bad_envelope` where the data is not well-formed.
        """
        decode: Callable[[msgspec.Raw], T] = self._make_decoder(type).decode

        def decode_data(raw: msgspec.Raw) -> T:
            try:
                return decode(raw)
            except msgspec.ValidationError as error:
                raise Rejected("bad_request", explain(error, "data")) from None
            except (ValueError, RecursionError) as error:
                raise Rejected("bad_envelope", explain(error, "data")) from None

        return decode_data

    def encode_event(self, name: str, data: object) -> bytes:
        return self._encode((name, data))

    def encode_reply(self, id: int, data: object) -> bytes:
        return self._encode((id, data))

    def encode_refusal(self, id: int | None, rejected: Rejected, event: str | None = None) -> bytes:
        """The answer to the refused request `id`, or to the request `event` that had no id."""
        if id is None:
            problem = _Problem(rejected.code, rejected.message, event, rejected.retry_after_ms)
            return self._encode(("error", problem))
        return self._encode((id, None, _Problem(rejected.code, rejected.message, None, rejected.retry_after_ms)))

    # Client side

    def encode_request(self, event: str, data: object, id: int | None = None) -> bytes:
        return self._encode((event, data) if id is None else (event, data, id))

    def decode(self, message: str | bytes) -> Event | Reply | Refusal:
        """Read a message from a server.

        Raises:
            PeerError: it is not an envelope.
        """
        if type(message) is not self._type:
            raise PeerError(UNSUPPORTED_DATA, f"{self.name} has no {self._other} messages")
        try:
            envelope = self._decode_any(message)
        except (ValueError, RecursionError) as error:
            raise PeerError(PROTOCOL_ERROR, explain(error, "the frame")) from None
        if type(envelope) is list and envelope:
            kind, length = envelope[0], len(envelope)
            if length == 2 and type(kind) is str and kind != "error":
                return Event(kind, envelope[1])
            if length == 2 and type(kind) is int and 1 <= kind <= ID_MAX:
                return Reply(kind, envelope[1])
            match envelope:
                case ["error", {"code": str(code), "message": str(text), **rest}]:
                    return _refusal(None, code, text, rest)
                case ["error", data]:
                    return Event("error", data)
                case [int(), None, {"code": str(code), "message": str(text), **rest}] if _is_id(kind):
                    return _refusal(kind, code, text, rest)
        raise PeerError(PROTOCOL_ERROR, "the frame is not an envelope")


def _is_id(value: object) -> bool:
    return type(value) is int and 1 <= value <= ID_MAX


def _refusal(id: int | None, code: str, message: str, rest: dict[Any, Any]) -> Refusal:
    retry_after_ms, event = rest.get("retryAfterMs"), rest.get("event")
    return Refusal(
        id,
        code,
        message,
        retry_after_ms if type(retry_after_ms) is int and retry_after_ms >= 0 else None,
        event if isinstance(event, str) else None,
    )


_PLACE: Final = re.compile(r"(?P<what>.*?) - at (?P<keys>`key` in )?`\$\.?(?P<path>[^`]*)`", re.DOTALL)


def explain(error: Exception, whole: str) -> str:
    """msgspec's complaint with the place first, as people write it: `replyTo: expected int, got str`."""
    if isinstance(error, RecursionError):
        return f"{whole}: too many arrays and objects within each other"
    if isinstance(error, UnicodeError):
        return f"{whole}: text that is not UTF-8"
    place, text = "", str(error)
    if found := _PLACE.fullmatch(text):
        place, text = found["path"], found["what"] + (" in a key" if found["keys"] else "")
    text = text.replace("`None`", "null").replace("`", "")
    return f"{place or whole}: {text[:1].lower()}{text[1:]}"[:_MESSAGE_CHARS_MAX]


JSON: Final = Codec("json")
MSGPACK: Final = Codec("msgpack")
SUBPROTOCOLS: Final = (MSGPACK.name, JSON.name)
"""In the order in which a server prefers them."""
_BY_SUBPROTOCOL: Final = {None: JSON, JSON.name: JSON, MSGPACK.name: MSGPACK}


def by_subprotocol(name: str | None) -> Codec:
    """The codec of an accepted subprotocol; JSON when none was asked for, so that any console client can type it."""
    return _BY_SUBPROTOCOL[name]


_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def check_data(value: object, bytes_max: int, field: str = "data") -> bytes:
    """Free data of an application as JSON, once it is certain that every codec and the store can carry it.

    What one codec decodes the other may be unable to encode: integers beyond 64 bits (JSON), extension types and keys
    that are no text (MessagePack), and nesting that decodes just within the interpreter's stack.

    Args:
        value: what a codec decoded.
        bytes_max: of the JSON.
        field: its name in the refusal.

    Raises:
        Rejected: `bad_request`.
    """
    try:
        encoded = _encode_json(value)
        if len(encoded) <= bytes_max:
            _encode_msgpack(value)
    except OverflowError:
        raise Rejected("bad_request", f"{field}: an integer of more than 64 bits") from None
    except RecursionError:
        raise Rejected("bad_request", f"{field}: too many arrays and objects within each other") from None
    except TypeError:
        raise Rejected("bad_request", f"{field}: holds what JSON cannot express") from None
    if len(encoded) > bytes_max:
        raise Rejected("bad_request", f"{field}: {len(encoded)} bytes as JSON, at most {bytes_max} are allowed")
    # Counting brackets is an upper bound of the depth and costs next to nothing; only suspects are measured.
    if encoded.count(b"[") + encoded.count(b"{") > DATA_DEPTH_MAX and is_deeper(value, DATA_DEPTH_MAX):
        raise Rejected("bad_request", f"{field}: more than {DATA_DEPTH_MAX} arrays and objects within each other")
    return encoded
