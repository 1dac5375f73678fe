"""The ways in which things go wrong, and the one table of close codes.

* `PeerError`: the peer broke a protocol; its connection is closed with the code that the error carries.
* `Rejected`: a well-formed command was refused; it becomes an error reply with a stable code.
* `StartError`: the server cannot start; whoever started it reads why, and the process ends.
* anything else is our bug: it is logged with its traceback and ends only the connection it happened on.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Close(NamedTuple):
    """Why a connection ends: what goes into the close frame (RFC 6455 section 7.4) and into the log."""

    code: int
    reason: str
    reconnect: bool
    """Whether a client does right to come back by itself."""


NORMAL: Final = Close(1000, "bye", False)
GOING_AWAY: Final = Close(1001, "server is going away", True)
PROTOCOL_ERROR: Final = Close(1002, "protocol error", False)
UNSUPPORTED_DATA: Final = Close(1003, "unsupported data", False)
INVALID_TEXT: Final = Close(1007, "text is not UTF-8", False)
POLICY_VIOLATION: Final = Close(1008, "policy violation", False)
MESSAGE_TOO_BIG: Final = Close(1009, "message too big", False)
INTERNAL_ERROR: Final = Close(1011, "internal error", True)
SERVICE_RESTART: Final = Close(1012, "server restarts", True)
HEARTBEAT_TIMEOUT: Final = Close(4000, "heartbeat timeout", True)
SLOW_CONSUMER_BYTES: Final = Close(4001, "slow consumer: too many bytes waiting", True)
SLOW_CONSUMER_TIME: Final = Close(4002, "slow consumer: bytes waited too long", True)
TOKEN_EXPIRED: Final = Close(4003, "token has expired", True)
UNAUTHORIZED: Final = Close(4004, "unauthorized", False)
RATE_LIMITED: Final = Close(4029, "too many requests", False)

CLOSES: Final = (
    NORMAL,
    GOING_AWAY,
    PROTOCOL_ERROR,
    UNSUPPORTED_DATA,
    INVALID_TEXT,
    POLICY_VIOLATION,
    MESSAGE_TOO_BIG,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    HEARTBEAT_TIMEOUT,
    SLOW_CONSUMER_BYTES,
    SLOW_CONSUMER_TIME,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    RATE_LIMITED,
)
"""Every way in which the server closes a connection; `docs/protocol.md` lists the same."""


class PeerError(Exception):
    """The peer broke the protocol. Its connection ends with `close`."""

    def __init__(self, close: Close, detail: str = "") -> None:
        super().__init__(detail or close.reason)
        self.close = close if not detail else close._replace(reason=detail[:120])


class Rejected(Exception):
    """A command was refused.

    Args:
        code: one of `ERROR_CODES`; stable, for programs.
        message: for people; names the field where one is to blame.
        retry_after_ms: set when the same command may succeed later.
    """

    def __init__(self, code: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


class StartError(Exception):
    """The server, or a command on its state, cannot start: the message says why, and what to do about it.

    The command line shows the message without a traceback and exits with status 1.
    """


ERROR_CODES: Final = {
    "bad_envelope": "The frame is not an envelope of the protocol.",
    "unknown_event": "No such event.",
    "bad_request": "A field is missing, unknown, of the wrong type or out of its limits; the message names it.",
    "no_such_room": "There is no room with that id.",
    "no_such_code": "There is no room with that code.",
    "room_closed": "The room was closed.",
    "room_full": "The room has reached its capacity.",
    "not_in_room": "Only members of the room may do that.",
    "already_in_room": "A matched room is left before the next one is sought.",
    "no_such_member": "That user is not in the room.",
    "no_such_message": "There is no message with that sequence number.",
    "not_your_message": "Only its author changes a message; who moderates the room may delete it.",
    "forbidden": "The room does not let this user do that, or its token does not.",
    "banned": "The user is banned from the room, or its address is.",
    "muted": "The user is muted in the room.",
    "blocked": "One of the two has blocked the other.",
    "unauthorized": "A valid token is needed.",
    "user_taken": "That user signs in with a token; without one another id is needed.",
    "rate_limited": "Too much in too short a time; the same request may be sent again after `retryAfterMs`.",
    "too_many_rooms": "The connection is in as many rooms as it may be.",
    "busy": "The server has too much to store at the moment; the same request may be sent again.",
    "unavailable": "The database does not answer at the moment; the same request may be sent again.",
    "draining": "The server is about to stop; connect again and repeat the request.",
    "internal": "A fault of the server; it is in its log.",
}
"""Every code that a refusal may carry, with its meaning; `docs/protocol.md` lists the same."""
