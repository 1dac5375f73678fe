"""A message on its way out: framed once, compressed once, however many receive it."""

from __future__ import annotations

from typing import Final

from catfish.wire.websocket.deflate import Deflater
from catfish.wire.websocket.frames import BINARY, TEXT, build_binary, build_frame, build_text

_deflater: Final = Deflater()


class Outgoing:
    """One payload and its frames, each built when it is first asked for and the same `bytes` from then on.

    Args:
        payload: the encoded message.
        opcode: TEXT or BINARY.
        deflate_bytes_min: bytes below which nobody is sent the compressed frame (`Settings.deflate_bytes_min`).
    """

    __slots__ = ("_compressible", "_deflated", "_plain", "opcode", "payload")

    def __init__(self, payload: bytes, opcode: int, deflate_bytes_min: int) -> None:
        self.payload = payload
        self.opcode = opcode
        self._compressible = len(payload) >= deflate_bytes_min
        self._plain: bytes | None = None
        self._deflated: bytes | None = None

    @property
    def plain(self) -> bytes:
        """The frame that everybody understands."""
        frame = self._plain
        if frame is None:
            if self.opcode == TEXT:
                frame = build_text(self.payload)
            elif self.opcode == BINARY:
                frame = build_binary(self.payload)
            else:
                frame = build_frame(self.opcode, self.payload)
            self._plain = frame
        return frame

    @property
    def deflated(self) -> bytes:
        """The frame for whoever negotiated permessage-deflate; the plain one where that is not longer."""
        frame = self._deflated
        if frame is None:
            compressed = _deflater.compress(self.payload)
            if len(compressed) < len(self.payload):
                frame = build_frame(self.opcode, compressed, compressed=True)
            else:
                frame = self.plain
            self._deflated = frame
        return frame

    def frame(self, compresses: bool) -> bytes:
        """The frame for those whose `Connection.compresses` is this."""
        return self.deflated if compresses and self._compressible else self.plain
