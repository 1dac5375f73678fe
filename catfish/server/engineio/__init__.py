"""Engine.IO, version 4: sessions that begin with long polling or a WebSocket, and move from the one to the other.

Stands on its own: `docs/engineio.md` shows a server in twenty lines. Socket.IO (`server.socketio`) is built on it.
"""

from catfish.server.engineio.packets import Packets
from catfish.server.engineio.server import EngineServer
from catfish.server.engineio.session import EngineReceiver, Session
from catfish.server.engineio.states import Reason

__all__ = ("EngineReceiver", "EngineServer", "Packets", "Reason", "Session")
