"""One connection to Redis for one kind of work: it is used by one thread at a time, and closed by any."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

FIELD: Final = b"b"
"""Name of the one field of a mirror entry."""
NOTHING: Final = b"0-0"
"""The position before the first entry of a stream."""

Command = Sequence[str | bytes | int]
Reply = list[tuple[bytes, list[tuple[bytes, bytes]]]]
"""Streams with their new entries: id and data."""


def parse_id(text: bytes) -> tuple[int, int]:
    """The id of an entry as something that can be compared: milliseconds, and a counter within these."""
    milliseconds, _, counter = text.partition(b"-")
    return int(milliseconds), int(counter)


class Line:
    """
    Args:
        connection: not open yet; it belongs to the line from now on.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._use = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """From any thread, at any time. A call that waits in another one ends at once, with an error."""
        self._closed.set()
        if self._use.acquire(blocking=False):
            try:
                self._connection.disconnect()
            finally:
                self._use.release()
            return
        # Its number may be given to another socket as soon as it is closed; so that is left to the thread that reads.
        waiting: Any = self._connection._sock
        if waiting is not None:
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _used(self) -> Iterator[AbstractConnection]:
        """
        Raises:
            RedisError: whatever went wrong; the connection is closed then.
        """
        with self._use:
            try:
                if self._closed.is_set():
                    raise RedisConnectionError("closed")
                yield self._connection
            except RedisError:
                self._connection.disconnect()
                raise
            except (OSError, ValueError, AttributeError) as error:
                self._connection.disconnect()
                if self._closed.is_set():
                    raise RedisConnectionError("closed") from error
                raise
        if self._closed.is_set():
            self.close()

    def open(self) -> None:
        """
        Raises:
            RedisError: it cannot be reached, does not answer in time, or does not let us in.
        """
        with self._used() as connection:
            connection.connect()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and wait for all their replies.

        Raises:
            RedisError: the connection was lost, or one of them was refused; the others may have been carried out.
        """
        return ask_together([(self, commands)])[0]

    def try_all(self, commands: Sequence[Command]) -> list[Any]:
        """As `ask`, but a refusal of one command is its reply (a ResponseError), and the line stays open.

        Raises:
            RedisError: the connection was lost.
        """
        with self._used() as connection:
            _send(connection, commands)
            return [_reply_or_refusal(connection) for _ in commands]

    def ends(self, streams: Sequence[str]) -> list[bytes]:
        """The id of the last entry of each stream, `NOTHING` for one that has none.

        Raises:
            RedisError: as `ask`.
        """
        replies = self.ask([("XREVRANGE", name, "+", "-", "COUNT", 1) for name in streams])
        return [reply[0][0] if reply else NOTHING for reply in replies]

    def follow(self, positions: dict[str, bytes], *, count: int, block_ms: int) -> Reply:
        """New entries behind these positions, `count` of each stream at most; waits for one.

        Raises:
            RedisError: as `ask`; InvalidResponse for an entry that is not ours.
        """
        command: Command = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *positions, *positions.values())
        reply = self.ask([command])[0]
        try:
            return [(name, [(id, fields[1]) for id, fields in entries]) for name, entries in reply or ()]
        except (TypeError, ValueError, IndexError):
            raise InvalidResponse("a mirror stream holds something else") from None


def ask_together(questions: Sequence[tuple[Line, Sequence[Command]]]) -> list[list[Any]]:
    """As `Line.ask`, of several servers at the same time."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(line._used()) for line, _ in questions]
        for connection, (_, commands) in zip(connections, questions, strict=True):
            _send(connection, commands)
        return [
            [connection.read_response() for _ in commands]
            for connection, (_, commands) in zip(connections, questions, strict=True)
        ]


def _send(connection: AbstractConnection, commands: Sequence[Command]) -> None:
    """At once: redis-py would write them in pieces, and let the event loop's thread in between each two."""
    connection.send_packed_command([b"".join(connection.pack_commands(commands))])


def _reply_or_refusal(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal
