"""The states of a session, what moves it from one to the next, and why it may end.

    POLLING    polls and POSTs
    PROBING    the same, and a WebSocket is there that may take over. Once it has asked (`2probe`, answered `3probe`) a
               poll is no longer kept open: it gets a noop, so that the client can pause polling and say `5`. At that
               moment no poll and no POST is under way, and what waits in the buffer goes to the WebSocket before
               anything else: nothing is lost, nothing overtakes
    WEBSOCKET  only that, for good
    DRAINING   the application has closed the session; what waits may still be fetched by a poll, or written
    CLOSED     it is no longer known

`MOVES` is complete; what it does not have cannot happen.
"""

from __future__ import annotations

import enum
from typing import Final

from catfish.errors import HEARTBEAT_TIMEOUT, INTERNAL_ERROR


class Reason(enum.StrEnum):
    """Why a session ended. The values are the reference server's, where it knows the reason."""

    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PING_TIMEOUT = "ping timeout"
    PARSE_ERROR = "parse error"
    FORCED_CLOSE = "forced close"
    """The application closed it."""
    SLOW_CONSUMER = "slow consumer"
    INTERNAL_ERROR = "internal error"


class State(enum.Enum):
    """See above."""

    POLLING = enum.auto()
    PROBING = enum.auto()
    WEBSOCKET = enum.auto()
    DRAINING = enum.auto()
    CLOSED = enum.auto()


class Event(enum.Enum):
    """What moves a session from one state to the next."""

    PROBE = enum.auto()
    """A WebSocket came for it."""
    PROBE_LOST = enum.auto()
    """That one will not take over."""
    UPGRADE = enum.auto()
    """That one takes over."""
    CLOSE = enum.auto()
    """The application closes it."""
    END = enum.auto()
    """It is over: fetched to the end after a close, ended by the peer, lost, broken, silent or slow."""


MOVES: Final = {
    (State.POLLING, Event.PROBE): State.PROBING,
    (State.POLLING, Event.CLOSE): State.DRAINING,
    (State.POLLING, Event.END): State.CLOSED,
    (State.PROBING, Event.PROBE_LOST): State.POLLING,
    (State.PROBING, Event.UPGRADE): State.WEBSOCKET,
    (State.PROBING, Event.CLOSE): State.DRAINING,
    (State.PROBING, Event.END): State.CLOSED,
    (State.WEBSOCKET, Event.CLOSE): State.DRAINING,
    (State.WEBSOCKET, Event.END): State.CLOSED,
    (State.DRAINING, Event.PROBE_LOST): State.DRAINING,
    (State.DRAINING, Event.UPGRADE): State.DRAINING,
    (State.DRAINING, Event.CLOSE): State.DRAINING,
    (State.DRAINING, Event.END): State.CLOSED,
    (State.CLOSED, Event.PROBE_LOST): State.CLOSED,
    (State.CLOSED, Event.CLOSE): State.CLOSED,
    (State.CLOSED, Event.END): State.CLOSED,
}

LIVE: Final = frozenset((State.POLLING, State.PROBING, State.WEBSOCKET))
"""States in which packets are received."""
CLOSES: Final = {Reason.PING_TIMEOUT: HEARTBEAT_TIMEOUT, Reason.INTERNAL_ERROR: INTERNAL_ERROR}
"""What the WebSocket's close frame says; `NORMAL` for the others."""
