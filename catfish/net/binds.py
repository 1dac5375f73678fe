"""Sockets to listen on: opened here, found open, or handed over by systemd."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import attrs
import trio

from catfish.config import FdBind, Settings, TcpBind, UnixBind, parse_bind
from catfish.errors import StartError

log = logging.getLogger(__name__)

SYSTEMD_FD_FIRST: Final = 3
"""Where sd_listen_fds(3) puts the first of its descriptors."""


class BindError(StartError):
    """An address cannot be listened on; the text says which and why."""


@attrs.define(eq=False)
class Bound:
    """One listening socket."""

    sock: socket.socket
    address: str
    """As people write it: `http://127.0.0.1:8080`, `unix:/run/catfish.sock`."""
    tls: ssl.SSLContext | None = None
    unlink: tuple[Path, int] | None = None
    """Path and inode of a socket file that we made."""

    def close(self) -> None:
        """Stop listening; a socket file that is still ours is removed."""
        self.sock.close()
        if self.unlink is not None:
            path, inode = self.unlink
            self.unlink = None
            try:
                if path.stat().st_ino == inode:  # not that of a successor
                    path.unlink()
            except FileNotFoundError:
                pass


async def open_binds(settings: Settings, environ: MutableMapping[str, str] = os.environ) -> list[Bound]:
    """Open every address of `Settings.bind`; sockets handed over by systemd take their place.

    Raises:
        BindError: one of them cannot be opened, or the certificate cannot be read; none is left open then.
    """
    context = tls_context(settings)
    bounds: list[Bound] = []
    try:
        handed_over = take_systemd_sockets(environ)
        if handed_over:
            bounds.extend(adopt(fd, context, settings.backlog) for fd in handed_over)
            return bounds
        for text in settings.bind:
            match parse_bind(text):
                case TcpBind(host, port):
                    bounds.extend(await _open_tcp(text, host, port, settings.backlog, context))
                case UnixBind(path):
                    bounds.append(_open_unix(path, settings.backlog))
                case FdBind(fd):
                    bounds.append(adopt(fd, context, settings.backlog))
    except BaseException:
        for bound in bounds:
            bound.close()
        raise
    return bounds


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context of the configured certificate; None when there is none.

    Raises:
        BindError: a file is missing or is not what it should be.
    """
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise BindError(f"certificate {settings.tls_certificate} with key {settings.tls_key}: {error}") from error
    return context


def take_systemd_sockets(environ: MutableMapping[str, str]) -> list[int]:
    """Descriptors that systemd opened for this process (sd_listen_fds(3)), in the unit's order.

    The variables are removed, so that no child takes them for its own.
    """
    pid = environ.pop("LISTEN_PID", None)
    count = environ.pop("LISTEN_FDS", None)
    environ.pop("LISTEN_FDNAMES", None)
    if count is None or pid != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(SYSTEMD_FD_FIRST, SYSTEMD_FD_FIRST + int(count)))


def adopt(fd: int, context: ssl.SSLContext | None, backlog: int) -> Bound:
    """Listen on a socket that is open already. Its descriptor belongs to the result from now on.

    Raises:
        BindError: it is no stream socket, or not one that can listen.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise BindError(f"fd:{fd}: {error.strerror or error}") from error
    try:
        if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise BindError(f"fd:{fd}: not a stream socket of the Internet or Unix family")
        os.set_inheritable(fd, False)
        sock.listen(backlog)
        if sock.family == socket.AF_UNIX:
            name = sock.getsockname()
            shown = os.fsdecode(name) if isinstance(name, bytes) else name
            sock.setblocking(False)
            return Bound(sock, f"unix:{shown}")
        return _prepared_tcp(sock, context)
    except OSError as error:
        sock.detach()
        raise BindError(f"fd:{fd}: {error.strerror or error}") from error
    except BindError:
        sock.detach()
        raise


async def _open_tcp(text: str, host: str, port: int, backlog: int, context: ssl.SSLContext | None) -> list[Bound]:
    try:
        found = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, family=socket.AF_UNSPEC
        )
    except OSError as error:
        raise BindError(f"{text}: {error.strerror or error}") from error
    bounds: list[Bound] = []
    try:
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                # A restarted server must not wait for the TIME_WAIT of its predecessor's connections.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 may be bound beside it
                if port == 0 and bounds:  # a name with several addresses: the same port on each
                    address = (address[0], bounds[0].sock.getsockname()[1], *address[2:])
                sock.bind(address)
                sock.listen(backlog)
            except OSError as error:
                sock.close()
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue  # `localhost` names ::1 also where there is no IPv6
                raise BindError(f"{text}: {error.strerror or error}") from error
            bounds.append(_prepared_tcp(sock, context))
    except BaseException:
        for bound in bounds:
            bound.close()
        raise
    if not bounds:
        raise BindError(f"{text}: none of its addresses is this machine's")
    return bounds


def _prepared_tcp(sock: socket.socket, context: ssl.SSLContext | None) -> Bound:
    # Accepted sockets inherit it (Linux, BSD): small frames leave at once, without a system call per connection.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    scheme = "http" if context is None else "https"
    return Bound(sock, f"{scheme}://{name_of(sock.getsockname())}", context)


def name_of(address: object) -> str:
    """`203.0.113.9:1234`, `[2001:db8::1]:1234` or `unix`."""
    match address:
        case (str(host), int(port)):
            return f"{host}:{port}"
        case (str(host), int(port), *_):
            if host.startswith("::ffff:") and "." in host:  # an IPv4 peer of a socket for both families
                return f"{host[7:]}:{port}"
            return f"[{host}]:{port}"
    return "unix"


def _open_unix(path: Path, backlog: int) -> Bound:
    """Bind a socket file. One that nobody listens on is left over from a server that died, and is replaced.

    Bound under a name of its own and then renamed, so that there is no moment without a file and two starting
    servers cannot remove each other's.
    """
    if _is_listening(path):
        raise BindError(f"unix:{path}: somebody listens there already")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        temporary.unlink(missing_ok=True)
        sock.bind(str(temporary))
        sock.listen(backlog)
        inode = temporary.stat().st_ino
        temporary.rename(path)
    except OSError as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise BindError(f"unix:{path}: {error.strerror or error}") from error
    sock.setblocking(False)
    return Bound(sock, f"unix:{path}", unlink=(path, inode))


def _is_listening(path: Path) -> bool:
    """Whether a server answers at the socket file.

    Raises:
        BindError: there is something else of that name.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise BindError(f"unix:{path}: {error.strerror or error}") from error
    if not stat.S_ISSOCK(mode):
        raise BindError(f"unix:{path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its backlog is full: somebody is there
            return True
        except OSError as error:
            raise BindError(f"unix:{path}: {error.strerror or error}") from error
    return True
