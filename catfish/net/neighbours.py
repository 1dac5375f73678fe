"""Other processes that serve the same addresses, as a listener sees them. `catfish.workers` has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from catfish.wire.http import RequestHead

Hand = Callable[[trio.abc.Stream, bytes, str], Awaitable[bool]]
"""Gives a stream away, with the bytes that were read from it and the name of its peer.

Returns True when it is over here: the caller only closes its stream. False: nothing of it was touched, and nobody else
ever will; it is served here.
"""


class Neighbours(Protocol):
    """What a listener and its gate need to know of them."""

    def taker(self, head: RequestHead, stream: trio.abc.Stream, *, stopping: bool) -> Hand | None:
        """Who else has to serve this request; None: it is ours. Must not block.

        `stopping`: this process admits nothing any more, so whoever goes on may have it.
        """

    def count(self, streams: int) -> None:
        """So many streams are open here."""

    def stopped(self) -> None:
        """No connection is accepted here any more."""

    def patience_s(self, streams: int) -> float:
        """Seconds for which waiting connections are left to the others, who have fewer; 0 when we are to accept."""
