"""What calls to the client raise, besides `catfish.errors.Rejected` for a request that the server refused."""

from __future__ import annotations

from catfish.errors import Close


class ClientError(Exception):
    """Base of the three below."""


class ConnectFailed(ClientError):
    """The first connection could not be made; `close` says why, and whether trying again makes sense."""

    def __init__(self, close: Close, code: str | None = None) -> None:
        super().__init__(close.reason)
        self.close = close
        self.code = code
        """Of the refusal (`catfish.errors.ERROR_CODES`) when the server refused the hello, else None."""


class ConnectionLost(ClientError):
    """The connection broke before the reply came, and the request is not one that may be sent twice.

    Whether the server carried it out is unknown.
    """


class ClientClosed(ClientError):
    """The client is closed: by its user, or by the server in a way that says not to come back."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"{close.reason} ({close.code})")
        self.close = close
