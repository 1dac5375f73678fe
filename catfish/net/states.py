"""The life of a connection as a table.

OPEN       messages flow both ways
CLOSING    our close frame is queued, the peer's has not come; what it still says is ignored (RFC 6455 section 1.4)
FAILING    we gave up on the peer; our close frame is queued, and nothing that comes is looked at (section 7.1.7)
LINGERING  like FAILING, everything is written and our half is shut down; we read until the peer ends its half,
           because closing a socket that holds unread bytes would reset it and destroy the close frame on its way
ANSWERING  the peer's close frame came, or its end of file; once all is written the socket is closed (section 7.1.1)
CLOSED     the socket is gone
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Where a connection is in its life."""

    OPEN = enum.auto()
    CLOSING = enum.auto()
    FAILING = enum.auto()
    LINGERING = enum.auto()
    ANSWERING = enum.auto()
    CLOSED = enum.auto()


class Event(enum.Enum):
    """What moves a connection from one state to the next."""

    CLOSE = enum.auto()
    """The application ends it."""
    FAIL = enum.auto()
    """The peer broke the protocol, reads too slowly or is silent."""
    PEER_CLOSE = enum.auto()
    """The peer's close frame came."""
    PEER_EOF = enum.auto()
    """The peer will send nothing more."""
    FLUSHED = enum.auto()
    """Everything that waited was written."""
    LOST = enum.auto()
    """The socket is of no use any more, or the time for an orderly end is over."""


READING: Final = frozenset({State.CLOSING, State.FAILING, State.LINGERING})
"""States besides OPEN in which the driver goes on reading."""

MOVES: Final[dict[tuple[State, Event], State]] = {
    (State.OPEN, Event.CLOSE): State.CLOSING,
    (State.OPEN, Event.FAIL): State.FAILING,
    (State.OPEN, Event.PEER_CLOSE): State.ANSWERING,
    (State.OPEN, Event.PEER_EOF): State.ANSWERING,
    (State.OPEN, Event.FLUSHED): State.OPEN,
    (State.CLOSING, Event.CLOSE): State.CLOSING,
    (State.CLOSING, Event.FAIL): State.FAILING,
    (State.CLOSING, Event.PEER_CLOSE): State.ANSWERING,
    (State.CLOSING, Event.PEER_EOF): State.ANSWERING,
    (State.CLOSING, Event.FLUSHED): State.CLOSING,
    (State.FAILING, Event.CLOSE): State.FAILING,
    (State.FAILING, Event.FAIL): State.FAILING,
    (State.FAILING, Event.PEER_CLOSE): State.FAILING,
    (State.FAILING, Event.PEER_EOF): State.ANSWERING,
    (State.FAILING, Event.FLUSHED): State.LINGERING,
    (State.LINGERING, Event.CLOSE): State.LINGERING,
    (State.LINGERING, Event.FAIL): State.LINGERING,
    (State.LINGERING, Event.PEER_CLOSE): State.LINGERING,
    (State.LINGERING, Event.PEER_EOF): State.CLOSED,
    (State.LINGERING, Event.FLUSHED): State.LINGERING,
    (State.ANSWERING, Event.CLOSE): State.ANSWERING,
    (State.ANSWERING, Event.FAIL): State.ANSWERING,
    (State.ANSWERING, Event.PEER_CLOSE): State.ANSWERING,
    (State.ANSWERING, Event.PEER_EOF): State.ANSWERING,
    (State.ANSWERING, Event.FLUSHED): State.CLOSED,
    **{(state, Event.LOST): State.CLOSED for state in State},
    **{(State.CLOSED, event): State.CLOSED for event in Event},
}
