"""What a process uses, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

LISTENING = "0A"
"""State of a socket in /proc/net/tcp, see include/net/tcp_states.h of Linux."""


class Use(NamedTuple):
    pid: int
    connections: int
    """Open sockets that the listening one has accepted, whatever became of them."""
    descriptors: int
    """All others."""
    memory_kib: int
    """Resident."""


def measure(pid: int, port: int) -> Use:
    """Of a process that listens on that TCP port."""
    accepted = _accepted(port)
    connections = descriptors = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue  # closed meanwhile
        if target in accepted:
            connections += 1
        else:
            descriptors += 1
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [memory] = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
    return Use(pid, connections, descriptors, memory)


def _accepted(port: int) -> set[str]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] != LISTENING:
            found.add(f"socket:[{fields[9]}]")
    return found
