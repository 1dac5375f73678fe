"""Bytes to messages and back. Pure: no Trio, no sockets."""
