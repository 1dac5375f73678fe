"""The states of a client, and every move between them as a table: a move that is not in it is a bug.

CONNECTING ──opened──▶ OPEN ──lost──▶ RECONNECTING ──opened──▶ OPEN
     │                  │                │   ▲ │
     └─failed──┐  ended─┤          ended─┤   └─┘ failed
               ▼        ▼                ▼
                       CLOSED  ◀── close, from everywhere
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

Move = Literal["opened", "failed", "lost", "ended", "close"]


class State(Enum):
    CONNECTING = "connecting"
    """The first connection is being made."""
    OPEN = "open"
    """Greeted, and in every room that it was in before."""
    RECONNECTING = "reconnecting"
    """The connection was lost; requests wait for the next one."""
    CLOSED = "closed"
    """For good."""


TABLE: Final[dict[tuple[State, Move], State]] = {
    (State.CONNECTING, "opened"): State.OPEN,
    (State.CONNECTING, "failed"): State.CLOSED,
    (State.CONNECTING, "close"): State.CLOSED,
    (State.OPEN, "lost"): State.RECONNECTING,
    (State.OPEN, "ended"): State.CLOSED,
    (State.OPEN, "close"): State.CLOSED,
    (State.RECONNECTING, "opened"): State.OPEN,
    (State.RECONNECTING, "failed"): State.RECONNECTING,
    (State.RECONNECTING, "ended"): State.CLOSED,
    (State.RECONNECTING, "close"): State.CLOSED,
    (State.CLOSED, "close"): State.CLOSED,
}
