"""Packets on their way out, in each form in which they travel, built once however many receive them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from catfish.net.outgoing import Outgoing
from catfish.wire.engineio import build_base64
from catfish.wire.websocket.frames import BINARY, TEXT


class Packets(Outgoing):
    """One packet, and binary messages that follow it with nothing between (a Socket.IO packet and its attachments).

    Each form is built when it is first asked for: WebSocket frames, plain or compressed, and the entries of a polling
    payload.

    Args:
        packet: text with its type in front, or a binary message as it is.
        attachments: binary messages.
        opcode: TEXT or BINARY; of `packet`.
        deflate_bytes_min: see `Outgoing`.
    """

    __slots__ = ("_frames", "_polling", "attachments")

    def __init__(
        self, packet: bytes, attachments: Sequence[bytes] = (), opcode: int = TEXT, *, deflate_bytes_min: int
    ) -> None:
        super().__init__(packet, opcode, deflate_bytes_min)
        self.attachments = attachments
        self._frames: bytes | None = None
        self._polling: Sequence[bytes] | None = None

    def frames(self, compresses: bool) -> bytes:
        """All frames, one behind the other, for those whose `Connection.compresses` is this."""
        if not compresses:
            frames = self._frames  # once per delivery
            if frames is None:
                frames = self._frames = self.frames_from(0, False)
            return frames
        if not self.attachments:
            return self.frame(True)
        return self.frames_from(0, True)  # as rare as attachments are: joined for each receiver, compressed once

    def frames_from(self, start: int, compresses: bool) -> bytes:
        """The frames that are left when the first `start` packets went another way."""
        attached = b"".join(Outgoing(each, BINARY, NEVER).plain for each in self.attachments[max(start - 1, 0) :])
        return attached if start else self.frame(compresses) + attached

    @property
    def polling(self) -> Sequence[bytes]:
        """The packets as entries of a payload."""
        entries = self._polling
        if entries is None:
            first = self.payload if self.opcode == TEXT else build_base64(self.payload)
            entries = self._polling = (first, *map(build_base64, self.attachments))
        return entries

    @property
    def size(self) -> int:
        """Bytes of the packets themselves."""
        return len(self.payload) + sum(map(len, self.attachments))


NEVER: Final = 1 << 62
"""For `deflate_bytes_min`: attachments are usually images and sound, which compressing only makes later."""
