"""The bounded buffer between the client and its user."""

from __future__ import annotations

import trio

from catfish.client.errors import ClientError
from catfish.wire.native import Event


class Events:
    """Events in the order in which the user shall see them; iterate over it with `async for`.

    Ends when the user closes the client; raises `ClientClosed` after the last event when the server ended it.
    """

    def __init__(self, items_max: int) -> None:
        self._in, self._out = trio.open_memory_channel[Event](items_max)
        self._error: ClientError | None = None

    def __len__(self) -> int:
        return self._in.statistics().current_buffer_used

    def put_nowait(self, event: Event) -> bool:
        """Whether there was room for it."""
        try:
            self._in.send_nowait(event)
        except trio.WouldBlock:
            return False
        return True

    async def put(self, event: Event) -> None:
        """Wait for room."""
        await self._in.send(event)

    def close(self, error: ClientError | None) -> None:
        self._error = error
        self._in.close()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._out.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None
