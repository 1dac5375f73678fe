"""What the application puts on the network: an endpoint for a path, a receiver for a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from catfish.errors import Close

if TYPE_CHECKING:
    from catfish.net.connection import Connection
    from catfish.wire.http import RequestHead

NO_STATUS: Final = Close(1005, "closed by the peer without a code", False)
"""What `Receiver.closed` gets when the peer's close frame was empty. Never sent (RFC 6455 section 7.4.1)."""
CONNECTION_LOST: Final = Close(1006, "connection lost", True)
"""What `Receiver.closed` gets when the connection ended without a close frame. Never sent (RFC 6455 section 7.4.1)."""


class Receiver(Protocol):
    """What the application puts on a connection."""

    def receive(self, message: str | bytes) -> None:
        """One message: `str` for text, `bytes` for binary.

        Called synchronously while the driver serves the connection, in the order in which the peer sent; never after
        `closed`, and never between `pause_reading` and `resume_reading`. `PeerError` closes with the code it carries;
        any other exception is logged with its traceback and closes with 1011. Neither touches another connection.
        """

    def closed(self, close: Close) -> None:
        """Nothing more will be received, and nothing that is sent from now on will arrive. Called exactly once,
        synchronously, from the driver.

        `close` is what we gave to `Connection.close`, what the peer said (any code that RFC 6455 allows), `NO_STATUS`
        or `CONNECTION_LOST`.
        """

    async def run(self) -> None:
        """The body of the connection's own task, inside `Connection.nursery`.

        Whatever must wait happens here. It may return early; it has to return, and so have the tasks that it started
        in the nursery, within `Settings.close_timeout_s` after `closed`; then it is cancelled. An exception is logged
        with its traceback and closes with 1011.
        """


class Endpoint(Protocol):
    """What a path leads to."""

    subprotocols: Sequence[str]
    """In the server's order of preference."""
    heartbeat: bool
    """Whether silent clients get WebSocket pings; not where the protocol above has its own."""
    message_bytes_max: int

    def check(self, head: RequestHead, address: str) -> None:
        """Refuse the handshake by raising `HttpRefusal` (origin, limits). `address`: the client's."""

    def open(self, connection: Connection) -> Receiver:
        """The handshake is accepted. What is sent in here follows the response. May raise `HttpRefusal`."""
