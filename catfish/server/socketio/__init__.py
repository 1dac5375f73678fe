"""Socket.IO, version 5, on `server.engineio`: namespaces, events, acknowledgements both ways.

Stands on its own: `docs/socketio.md` shows a server in twenty lines. Catfish's vocabularies are namespaces of it.
"""

from catfish.server.socketio.client import Client
from catfish.server.socketio.codec import Codec, make_codec
from catfish.server.socketio.namespace import Namespace
from catfish.server.socketio.server import SocketIOServer
from catfish.server.socketio.socket import ConnectRefused, Disconnected, NamespaceApp, Recovery, Restored, Socket

__all__ = (
    "Client",
    "Codec",
    "ConnectRefused",
    "Disconnected",
    "Namespace",
    "NamespaceApp",
    "Recovery",
    "Restored",
    "Socket",
    "SocketIOServer",
    "make_codec",
)
