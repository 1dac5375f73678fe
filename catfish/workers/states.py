"""The states of a worker process, and of the server as a whole. Both tables are complete for what can happen.

A worker:

    STARTING   it has not said yet that it accepts connections
    SERVING    it does
    DRAINING   it was told to stop
    DYING      it was killed, for it did not do in time what it had to
    GONE       it has ended

The server:

    STARTING   the workers are started for the first time
    SERVING    each worker serves, or is being started again
    RELOADING  the workers are replaced, one after the other
    STOPPING   all were told to stop
    STOPPED    none is left
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Of a worker."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    DRAINING = enum.auto()
    DYING = enum.auto()
    GONE = enum.auto()


class Event(enum.Enum):
    """What moves a worker from one state to the next."""

    READY = enum.auto()
    """It said that it accepts connections."""
    STOP = enum.auto()
    """It is told to stop."""
    LATE = enum.auto()
    """It took too long to start, was silent for too long, or did not stop in time."""
    EXIT = enum.auto()
    """The process has ended."""


MOVES: Final = {
    (State.STARTING, Event.READY): State.SERVING,
    (State.STARTING, Event.STOP): State.DRAINING,
    (State.STARTING, Event.LATE): State.DYING,
    (State.STARTING, Event.EXIT): State.GONE,
    (State.SERVING, Event.STOP): State.DRAINING,
    (State.SERVING, Event.LATE): State.DYING,
    (State.SERVING, Event.EXIT): State.GONE,
    (State.DRAINING, Event.READY): State.DRAINING,  # said before it heard that it is to stop
    (State.DRAINING, Event.LATE): State.DYING,
    (State.DRAINING, Event.EXIT): State.GONE,
    (State.DYING, Event.READY): State.DYING,  # said before it was killed
    (State.DYING, Event.STOP): State.DYING,
    (State.DYING, Event.EXIT): State.GONE,
}


class Phase(enum.Enum):
    """Of the server."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    RELOADING = enum.auto()
    STOPPING = enum.auto()
    STOPPED = enum.auto()


class Turn(enum.Enum):
    """What moves the server from one phase to the next."""

    ALL_READY = enum.auto()
    """Every worker accepts connections."""
    RELOAD = enum.auto()
    """The workers are to be replaced."""
    RELOADED = enum.auto()
    """All were replaced."""
    RELOAD_FAILED = enum.auto()
    """A new worker did not become ready; those that were not replaced yet go on."""
    STOP = enum.auto()
    """Somebody wants it to stop."""
    FAIL = enum.auto()
    """It cannot go on."""
    EMPTY = enum.auto()
    """The last process has ended."""


PHASES: Final = {
    (Phase.STARTING, Turn.ALL_READY): Phase.SERVING,
    (Phase.STARTING, Turn.RELOAD): Phase.STARTING,  # they are new already
    (Phase.STARTING, Turn.STOP): Phase.STOPPING,
    (Phase.STARTING, Turn.FAIL): Phase.STOPPING,
    (Phase.SERVING, Turn.RELOAD): Phase.RELOADING,
    (Phase.SERVING, Turn.STOP): Phase.STOPPING,
    (Phase.SERVING, Turn.FAIL): Phase.STOPPING,
    (Phase.RELOADING, Turn.RELOAD): Phase.RELOADING,  # once more, when this one is done
    (Phase.RELOADING, Turn.RELOADED): Phase.SERVING,
    (Phase.RELOADING, Turn.RELOAD_FAILED): Phase.SERVING,
    (Phase.RELOADING, Turn.STOP): Phase.STOPPING,
    (Phase.RELOADING, Turn.FAIL): Phase.STOPPING,
    (Phase.STOPPING, Turn.RELOAD): Phase.STOPPING,
    (Phase.STOPPING, Turn.STOP): Phase.STOPPING,  # the second time: at once
    (Phase.STOPPING, Turn.EMPTY): Phase.STOPPED,
}
