"""Addresses to listen on: names, families, socket files, descriptors, systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from catfish.config import Settings
from catfish.net import binds
from catfish.net.binds import BindError, Bound, name_of, open_binds, take_systemd_sockets, tls_context
from tests.net.harness import CERTIFICATE, KEY, descriptors


async def opened(*addresses: str, **settings: Any) -> list[Bound]:
    return await open_binds(Settings(bind=addresses, **settings), {})


def can_connect(bound: Bound) -> bool:
    with socket.socket(bound.sock.family) as client:
        try:
            client.connect(bound.sock.getsockname())
        except OSError:
            return False
    return True


HAS_IPV6 = socket.has_ipv6
try:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
except OSError:
    HAS_IPV6 = False
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


async def test_a_port_that_the_kernel_picks_is_named() -> None:
    [bound] = await opened("127.0.0.1:0")
    host, port = bound.sock.getsockname()
    assert bound.address == f"http://127.0.0.1:{port}"
    assert (host, port > 0) == ("127.0.0.1", True)
    assert can_connect(bound)
    bound.close()


@needs_ipv6
async def test_ipv6_addresses_stand_in_brackets_and_leave_ipv4_alone() -> None:
    [six] = await opened("[::1]:0")
    port = six.sock.getsockname()[1]
    assert six.address == f"http://[::1]:{port}"
    [all_six] = await opened("[::]:0")
    [four] = await opened(f"0.0.0.0:{all_six.sock.getsockname()[1]}")
    for bound in (six, all_six, four):
        assert can_connect(bound)
        bound.close()


async def test_a_name_is_bound_on_each_of_its_addresses_with_one_port() -> None:
    bounds = await opened("localhost:0")
    assert len({bound.sock.getsockname()[1] for bound in bounds}) == 1
    for bound in bounds:
        bound.close()


async def test_an_address_that_is_taken_is_named_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        files = descriptors()
        with pytest.raises(BindError, match=rf"^{address}: .*in use"):
            await opened("127.0.0.1:0", address)
        assert descriptors() == files


async def test_a_name_that_nobody_knows_is_an_error() -> None:
    class Nobody(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *_: Any) -> Any:
            raise AssertionError

    trio.socket.set_custom_hostname_resolver(Nobody())  # for this test's run of Trio only
    with pytest.raises(BindError, match=r"^no-such-host\.invalid:80: "):
        await opened("no-such-host.invalid:80")


async def test_accepted_sockets_inherit_no_delay() -> None:
    [bound] = await opened("127.0.0.1:0")
    with socket.create_connection(bound.sock.getsockname()):
        accepted, _ = bound.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    bound.close()


async def test_a_server_may_start_again_at_once() -> None:
    [first] = await opened("127.0.0.1:0")
    address = first.sock.getsockname()
    with socket.create_connection(address) as client:
        accepted, _ = first.sock.accept()
        accepted.close()  # this side ends first: it is the one that stays in TIME_WAIT
        assert client.recv(1) == b""
    first.close()
    [second] = await opened(f"127.0.0.1:{address[1]}")
    second.close()


# Unix


async def test_a_socket_file_is_made_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    [bound] = await opened(f"unix:{path}")
    assert bound.address == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()
    assert os.listdir(tmp_path) == []


async def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    [bound] = await opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()


async def test_a_socket_file_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    [first] = await opened(f"unix:{path}")
    with pytest.raises(BindError, match="somebody listens there already"):
        await opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("important")
    with pytest.raises(BindError, match="is not a socket"):
        await opened(f"unix:{path}")
    assert path.read_text() == "important"


async def test_the_socket_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    [first] = await opened(f"unix:{path}")
    path.unlink()
    [second] = await opened(f"unix:{path}")
    first.close()
    assert path.is_socket()
    second.close()
    second.close()
    assert not path.exists()


@pytest.mark.parametrize("where", ["no/such/directory/sock", "x" * 200])
async def test_a_socket_file_that_cannot_be_made_is_an_error(tmp_path: Path, where: str) -> None:
    with pytest.raises(BindError, match=r"^unix:"):
        await opened(f"unix:{tmp_path / where}")
    assert os.listdir(tmp_path) == []


# Descriptors


async def test_an_open_descriptor_is_listened_on() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    fd = sock.detach()
    os.set_inheritable(fd, True)
    [bound] = await opened(f"fd:{fd}")
    assert can_connect(bound)
    assert not os.get_inheritable(fd)
    bound.close()


async def test_an_open_unix_descriptor_is_listened_on_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    [bound] = await opened(f"fd:{sock.detach()}")
    assert bound.address == f"unix:{path}"
    bound.close()
    assert path.is_socket()  # whoever made it removes it


async def test_descriptors_that_cannot_be_listened_on_are_named(tmp_path: Path) -> None:
    with pytest.raises(BindError, match=r"^fd:999: "):
        await opened("fd:999")
    with (tmp_path / "file").open("w") as file, pytest.raises(BindError, match=rf"^fd:{file.fileno()}: "):
        await opened(f"fd:{file.fileno()}")
    with socket.socket(type=socket.SOCK_DGRAM) as datagram, pytest.raises(BindError, match="not a stream socket"):
        await opened(f"fd:{datagram.fileno()}")


def test_systemds_sockets_are_for_the_process_that_they_name() -> None:
    mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert take_systemd_sockets(mine) == [3, 4]
    assert mine == {"HOME": "/"}  # no child takes them for its own
    assert take_systemd_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == []
    assert take_systemd_sockets({"LISTEN_FDS": "2"}) == []
    assert take_systemd_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == []


async def test_systemds_sockets_take_the_place_of_the_configured_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    fd = sock.detach()
    monkeypatch.setattr(binds, "SYSTEMD_FD_FIRST", fd)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    [bound] = await open_binds(Settings(bind=("127.0.0.1:1",)), environ)
    assert bound.sock.fileno() == fd
    assert can_connect(bound)
    bound.close()


# TLS


async def test_with_a_certificate_every_tcp_address_speaks_tls(tmp_path: Path) -> None:
    tcp, unix = await opened("127.0.0.1:0", f"unix:{tmp_path / 'sock'}", tls_certificate=CERTIFICATE, tls_key=KEY)
    assert tcp.address.startswith("https://")
    assert (tcp.tls is None, unix.tls is None) == (False, True)
    for bound in (tcp, unix):
        bound.close()


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(BindError, match=r"none\.pem"):
        tls_context(Settings(tls_certificate=missing, tls_key=KEY))
    with pytest.raises(BindError, match=r"localhost\.key"):
        tls_context(Settings(tls_certificate=KEY, tls_key=KEY))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("203.0.113.9", 1234), "203.0.113.9:1234"),
        (("2001:db8::1", 1234, 0, 0), "[2001:db8::1]:1234"),
        (("::ffff:203.0.113.9", 1234, 0, 0), "203.0.113.9:1234"),
        ("", "unix"),
        ("/run/sock", "unix"),
        (b"\0abstract", "unix"),
    ],
)
def test_peers_have_names(address: object, name: str) -> None:
    assert name_of(address) == name
