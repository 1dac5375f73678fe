"""What processes spend, from Linux's `/proc`: CPU time and memory of trees of processes, and who listens on a port.

The time of a child that has ended is in its parent's figures, so a tree's sum loses nothing. Elsewhere than on Linux,
and for processes of other users that cannot be looked into, there are no figures; the measurement runs all the same.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
SERVER: Final = "server"
HELPERS: Final = frozenset(("postgres", "redis-server"))
"""Processes whose figures are told apart from the server's own, by their names."""
_LISTENING: Final = "0A"
_CPU_CLOCK: Final = 2


class Stat(NamedTuple):
    """A line of `/proc/PID/stat` (proc(5))."""

    name: str
    parent: int
    own_ticks: int
    """User and system time."""
    ended_ticks: int
    """The same of children that have ended."""
    resident_pages: int


def parse_stat(text: str) -> Stat:
    """The name may hold blanks and parentheses; what follows its last one does not."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    user, system, ended_user, ended_system = map(int, fields[11:15])
    return Stat(head.partition("(")[2], int(fields[1]), user + system, ended_user + ended_system, int(fields[21]))


def read_stats() -> dict[int, Stat]:
    """All processes that can be seen."""
    found = {}
    for each in PROC.iterdir() if PROC.is_dir() else ():
        if each.name.isdigit():
            try:
                found[int(each.name)] = parse_stat((each / "stat").read_text(errors="replace"))
            except OSError:  # it has ended meanwhile
                continue
    return found


def tree_of(roots: Iterable[int], stats: dict[int, Stat]) -> set[int]:
    """These processes and their descendants, as far as they live."""
    children = defaultdict(list)
    for pid, stat in stats.items():
        children[stat.parent].append(pid)
    tree: set[int] = set()
    waiting = [pid for pid in roots if pid in stats]
    while waiting:
        pid = waiting.pop()
        if pid not in tree:
            tree.add(pid)
            waiting += children[pid]
    return tree


class Usage(NamedTuple):
    """What trees of processes have used up to now."""

    cpu_s: dict[str, float]
    """By `SERVER`, or the name of a helper."""
    resident_kb: float
    """Of the server's own processes, helpers left out."""


class Trees:
    """Process trees that are measured.

    Args:
        roots: their ids; none when no process was found.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self.roots = tuple(roots)

    def read(self) -> Usage | None:
        """None when none of them can be seen."""
        stats = read_stats()
        tree = tree_of(self.roots, stats)
        if not tree:
            return None
        page_kb = os.sysconf("SC_PAGE_SIZE") / 1024
        cpu_s: dict[str, float] = {SERVER: 0.0}
        resident_kb = 0.0
        for pid in tree:
            stat = stats[pid]
            helper = stat.name in HELPERS
            name = stat.name if helper else SERVER
            cpu_s[name] = cpu_s.get(name, 0.0) + _cpu_s(pid, stat)
            resident_kb += 0.0 if helper else stat.resident_pages * page_kb
        return Usage(cpu_s, resident_kb)


def _cpu_s(pid: int, stat: Stat) -> float:
    """By the process's own clock (clock_getcpuclockid(3)), which counts nanoseconds; else in ticks, of which there are
    a hundred in a second."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    try:
        own_s = time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:
        own_s = stat.own_ticks / ticks_per_s
    return own_s + stat.ended_ticks / ticks_per_s


def spent(before: Usage | None, after: Usage | None) -> dict[str, float]:
    """CPU seconds between two readings, by name; empty when there is no reading."""
    if before is None or after is None:
        return {}
    return {name: total - before.cpu_s.get(name, 0.0) for name, total in after.cpu_s.items()}


def parse_listeners(table: str, port: int) -> set[str]:
    """Inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp` or `tcp6`."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def find_listeners(port: int) -> tuple[int, ...]:
    """Ids of the processes of this machine that listen on `port`; of a parent and its children the parent alone."""
    links = set()
    for name in ("tcp", "tcp6"):
        try:
            links |= {f"socket:[{inode}]" for inode in parse_listeners((PROC / "net" / name).read_text(), port)}
        except OSError:
            continue
    if not links:
        return ()
    stats = read_stats()
    holders = [pid for pid in stats if _holds(pid, links)]
    below = {pid for holder in holders for pid in tree_of([holder], stats) - {holder}}
    return tuple(sorted(set(holders) - below))


def _holds(pid: int, links: set[str]) -> bool:
    try:
        descriptors = os.listdir(PROC / str(pid) / "fd")
    except OSError:  # it has ended, or is another user's
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(PROC / str(pid) / "fd" / descriptor) in links:
                return True
        except OSError:  # closed meanwhile
            continue
    return False
