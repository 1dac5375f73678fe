"""Frames as a client needs them: masked ones out, and the unmasked ones of a server in (RFC 6455 section 5). Pure.

`wire.websocket.frames` has the server's half. Where bytes are counted no frame is looked at; what is here reads replies
and stored messages, which differ in length.
"""

from __future__ import annotations

import os
from struct import pack
from typing import Final

from catfish.load.errors import LoadError
from catfish.wire.websocket.frames import BINARY, CLOSE, TEXT

_FIN: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 0x08


def build_client_frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """One complete masked frame. Built once and sent many times, so it is drawn one mask (four bytes) for all."""
    key = os.urandom(4) if mask is None else mask
    length = len(payload)
    first = _FIN | opcode
    if length < 126:
        head = pack("!BB", first, _MASKED | length)
    elif length < 65_536:
        head = pack("!BBH", first, _MASKED | 126, length)
    else:
        head = pack("!BBQ", first, _MASKED | 127, length)
    pad = (key * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")
    return head + key + masked


def server_frame_bytes(payload_bytes: int) -> int:
    """Size of an unmasked frame with so much payload."""
    return payload_bytes + (2 if payload_bytes < 126 else 4 if payload_bytes < 65_536 else 10)


class FrameReader:
    """Takes a server's frames apart, in whatever pieces they come. Messages are expected whole and uncompressed: the
    client did not offer compression, and no server that is measured here fragments."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def empty(self) -> bool:
        """Nothing of a frame is waiting for its end."""
        return not self._rest

    def receive(self, data: bytes) -> list[bytes]:
        """The payloads of the messages that are complete now; control frames but CLOSE are skipped.

        Raises:
            LoadError: the server closed the connection, or sent what it may not.
        """
        if self._rest:
            data = self._rest + data
        payloads = []
        position, end = 0, len(data)
        while end - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length > 125:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = int.from_bytes(data[position + 2 : start], "big")
            stop = start + length
            if stop > end:
                break
            first = data[position]
            if first in (_FIN | TEXT, _FIN | BINARY):
                payloads.append(data[start:stop])
            elif first & 0x0F == CLOSE:
                raise LoadError(f"the server closed a connection: {_explain_close(data[start:stop])}")
            elif not first & _CONTROL:
                raise LoadError("the server sent a fragmented, compressed or unknown frame")
            position = stop
        self._rest = data[position:]
        return payloads


def _explain_close(payload: bytes) -> str:
    if len(payload) < 2:
        return "no code"
    return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}".rstrip()
