"""The notices to the service manager."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catfish import systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(str(tmp_path / "notify"))
        yield manager


def test_states_arrive_as_lines_of_one_datagram(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    assert systemd.notify(systemd.READY, systemd.status("listening on\n127.0.0.1:8080"), environ=environ)
    assert manager.recv(1_000) == b"READY=1\nSTATUS=listening on 127.0.0.1:8080"


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="abstract Unix sockets exist on Linux only")
def test_a_socket_in_the_abstract_name_space_is_understood() -> None:
    name = f"catfish-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(f"\0{name}")
        assert systemd.notify(systemd.STOPPING, environ={"NOTIFY_SOCKET": f"@{name}"})
        assert manager.recv(1_000) == b"STOPPING=1"


def test_without_a_service_manager_nothing_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not systemd.notify(systemd.READY, environ={})
    assert not systemd.notify(systemd.READY, environ={"NOTIFY_SOCKET": "vsock:2:1234"})
    assert caplog.text == ""


def test_a_service_manager_that_is_gone_is_a_warning_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not systemd.notify(systemd.READY, environ={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert "does not listen" in caplog.text


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    told = [systemd.notify(systemd.WATCHDOG, environ=environ) for _ in range(5_000)]
    assert told[0]
    assert not told[-1]


def test_the_watchdog_is_fed_twice_in_its_time() -> None:
    own = str(os.getpid())
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": own}) == 15.0
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_s({"WATCHDOG_USEC": "0"}) is None
    assert systemd.watchdog_s({}) is None


def test_a_reload_is_announced_with_its_time() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    state, at = systemd.reloading()
    name, _, number = at.partition("=")
    assert (state, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(number) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
