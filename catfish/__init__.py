"""Catfish: rooms, chat, presence, matching and video signalling over WebSockets."""

__version__ = "0.1.0"
