"""What went over the WebSocket connections of a listener: integers that drivers add to, once per read or write."""

from __future__ import annotations


class Traffic:
    """Since the start. Frames are complete messages, pings, pongs and close frames; bytes are those of the sockets."""

    __slots__ = ("bytes_received", "bytes_sent", "frames_received", "frames_sent")

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_received = 0
        self.frames_sent = 0
        """The answer to a handshake counts as one."""
