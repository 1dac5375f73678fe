"""Which sockets are ready: `epoll`, or `poll` where there is none. Cheaper per event than `selectors`, by some half."""

from __future__ import annotations

import select
from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT


class Poller:
    """Level-triggered readiness of many descriptors."""

    def __init__(self) -> None:
        self.wait: Callable[[float], list[tuple[int, int]]]
        """Wait so many seconds at most; pairs of a descriptor and what it is ready for."""
        if hasattr(select, "epoll"):
            epoll = select.epoll()
            self.wait = epoll.poll
            self.register: Callable[[int, int], None] = epoll.register
            self.modify: Callable[[int, int], None] = epoll.modify
            self.unregister: Callable[[int], None] = epoll.unregister
            self.close: Callable[[], None] = epoll.close
        else:
            poll = select.poll()
            self.wait = lambda seconds: poll.poll(seconds * 1_000)
            self.register = poll.register
            self.modify = poll.modify
            self.unregister = poll.unregister
            self.close = lambda: None
