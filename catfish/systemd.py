"""Tells the service manager how the server is, by the protocol of sd_notify(3).

A datagram of `NAME=value` lines to the Unix socket that $NOTIFY_SOCKET names; where there is none, nothing happens.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send states such as `READY`, or "STATUS=12 connections". Never blocks and never raises.

    Returns:
        Whether a service manager was told.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # also vsock:, which only virtual machines use
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            # "@" stands for the zero byte that starts an address in the abstract name space (unix(7)).
            sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            sender.send("\n".join(states).encode())
        except OSError as error:
            log.warning("the service manager does not listen", extra={"socket": address, "error": str(error)})
            return False
    return True


def reloading() -> tuple[str, str]:
    """The states that say that a reload has begun; `READY` says that it is over."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}"


def status(text: str) -> str:
    """A line that `systemctl status` shows."""
    return "STATUS=" + " ".join(text.split())


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two `WATCHDOG` notices that the unit's WatchdogSec asks of this process: half of its limit, as
    sd_watchdog_enabled(3) recommends. None where no watchdog is set, or where it is meant for another process."""
    limit_us = environ.get("WATCHDOG_USEC", "")
    if (
        not limit_us.isdecimal()
        or int(limit_us) == 0
        or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid())
    ):
        return None
    return int(limit_us) / 2_000_000
