"""A Socket.IO server: an application of Engine.IO with namespaces."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

from catfish.config import Settings
from catfish.server.engineio import Session
from catfish.server.socketio.client import Client
from catfish.server.socketio.codec import make_codec
from catfish.server.socketio.socket import NamespaceApp


class SocketIOServer:
    """The `EngineApp` of a path.

    Args:
        settings: limits.
        namespaces: applications, by their names. A CONNECT to any other is refused (`Invalid namespace`).
        parser: how packets are encoded; the clients of a path all use the same.
    """

    def __init__(
        self, settings: Settings, namespaces: Iterable[NamespaceApp], parser: Literal["json", "msgpack"] = "json"
    ) -> None:
        self.settings = settings
        self.namespaces = {namespace.name: namespace for namespace in namespaces}
        self.codec = make_codec(parser, settings)
        self._ids = itertools.count()

    def __call__(self, session: Session) -> Client:
        return Client(self, session)

    def next_id(self) -> int:
        """For an event that is to be acknowledged; unique in the server, so that one packet may go to many."""
        return next(self._ids)
