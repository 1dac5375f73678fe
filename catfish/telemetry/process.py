"""The process itself, under the names that Prometheus' client libraries agree on (Linux; elsewhere nothing).

https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from catfish.telemetry.families import Families

PROC: Final = Path("/proc/self")


def _ticks() -> float:
    return float(os.sysconf("SC_CLK_TCK"))


def add_process(families: Families, proc: Path = PROC) -> None:
    """Memory, descriptors and processor time of this process."""
    try:
        # The name, in brackets, may hold anything; what follows has one meaning a place (proc_pid_stat(5)).
        fields = (proc / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(proc / "fd"))
        booted = next(
            float(line.split()[1]) for line in (proc.parent / "stat").read_text().splitlines() if line[:5] == "btime"
        )
    except (OSError, StopIteration):
        return
    user, system, started, virtual, resident = (int(fields[place]) for place in (11, 12, 19, 20, 21))
    families.counter(
        "process_cpu_seconds", "Processor time, of the user and of the system.", (user + system) / _ticks()
    )
    families.gauge("process_resident_memory_bytes", "Memory that is in use.", resident * resource.getpagesize())
    families.gauge("process_virtual_memory_bytes", "Memory that is reserved.", virtual)
    families.gauge("process_open_fds", "Open descriptors.", descriptors)
    families.gauge("process_max_fds", "Descriptors that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    families.gauge(
        "process_start_time_seconds", "When it started, in seconds since the epoch.", booted + started / _ticks()
    )
