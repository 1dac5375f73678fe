"""What a worker and its parent say to each other, over the socket pair that joins them: one JSON object a line."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec
import trio

LINE_BYTES_MAX: Final = 65_536


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Worker: it accepts connections."""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Worker: its event loop turns. Said a few times in `Settings.worker_silence_s`."""

    streams: int
    """Open ones."""


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """Parent: these processes accept connections; whoever stops may give them what it does not serve any more."""

    tags: tuple[str, ...]


FromWorker = Ready | Alive
FromParent = Serving
Message = TypeVar("Message")

FROM_WORKER: Final[msgspec.json.Decoder[FromWorker]] = msgspec.json.Decoder(FromWorker)
FROM_PARENT: Final[msgspec.json.Decoder[FromParent]] = msgspec.json.Decoder(FromParent)


def build_line(message: FromWorker | FromParent) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class Lines(Generic[Message]):
    """Reads one side's messages.

    Args:
        stream: stays the caller's.
        decoder: of what that side says.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, decoder: msgspec.json.Decoder[Message]) -> None:
        self._stream = stream
        self._decoder = decoder
        self._buffer = bytearray()

    async def next(self) -> Message | None:
        """The next message; None when the other side is gone.

        Raises:
            msgspec.DecodeError: it is none.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise msgspec.DecodeError("the line is too long")
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return self._decoder.decode(line)
