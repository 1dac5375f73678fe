"""A client of Catfish on Trio: see `docs/client.md`.

Stands on its own: it uses the wire format and the tables of errors, and talks to the server over the network.
"""

from catfish.client.backoff import Backoff
from catfish.client.client import Client, connect
from catfish.client.errors import ClientClosed, ClientError, ConnectFailed, ConnectionLost
from catfish.client.limits import Limits, Statistics
from catfish.client.states import State
from catfish.errors import Rejected
from catfish.wire.native import Event

__all__ = [
    "Backoff",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "Limits",
    "Rejected",
    "State",
    "Statistics",
    "connect",
]
