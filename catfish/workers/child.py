"""A worker: a whole server on inherited sockets, with neighbours."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from functools import partial
from typing import Final

import trio

from catfish import app
from catfish import log as logs
from catfish.errors import StartError
from catfish.workers.board import Board
from catfish.workers.neighbours import Neighbours
from catfish.workers.orders import Orders

log = logging.getLogger(__name__)

OVERTIME_S: Final = 5.0
"""Beyond `drain_grace_s`, for a worker without a parent to end."""


def main() -> int:
    """Run until a signal, or the end of the parent, ends it. Returns the exit status."""
    orders = Orders.take(os.environ)
    for descriptor in (orders.control, orders.board):
        os.set_inheritable(descriptor, False)
    _set_up_log(orders)
    watch = partial(end_with_parent, orders.control, orders.settings.drain_grace_s + OVERTIME_S)
    threading.Thread(target=watch, name="parent", daemon=True).start()
    status = 0
    try:
        trio.run(_serve, orders)
    except* StartError as group:
        for message in _messages_of(group):
            sys.stderr.write(f"catfish: worker {orders.index}: {message}\n")
        status = 1
    return status


async def _serve(orders: Orders) -> None:
    control = trio.SocketStream(trio.socket.fromfd(orders.control, trio.socket.AF_UNIX, trio.socket.SOCK_STREAM))
    with Board(orders.board, orders.board_entries) as board:
        async with control:
            place = Neighbours(orders, board, control)
            await app.serve(orders.settings, announce=_say_nothing, place=place)


def _say_nothing(text: str) -> None:
    """The parent speaks for all."""


def end_with_parent(control: int, grace_s: float) -> None:
    """End this process, gently at first, when nobody has the other end of the pair any more. Blocks until then.

    In a thread, so that it works also when the event loop does not.
    """
    poll = select.poll()
    poll.register(control, 0)  # an end that was closed is told unasked
    poll.poll()
    log.error("the parent is gone: this worker stops")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)


def _set_up_log(orders: Orders) -> None:
    settings = orders.settings
    logs.set_up(
        level=settings.log_level,
        form=settings.log_format,
        secrets=settings.secrets(),
        lines_max=settings.log_lines_max,
    )

    def mark(record: logging.LogRecord) -> bool:
        record.worker = orders.index
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(mark)


def _messages_of(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [message for inner in error.exceptions for message in _messages_of(inner)]
    return [str(error)]
