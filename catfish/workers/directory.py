"""The directory of the workers' sockets, which only our own account may enter.

It is made for one server and removed with it. One that a killed server left behind is removed by the next: nobody holds
the lock on it any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from catfish.config import Settings
from catfish.errors import StartError
from catfish.private_server import SOCKET_BYTES_MAX
from catfish.workers.tags import TAG_CHARS

PREFIX: Final = "workers."
SETTLED_S: Final = 60.0
"""A directory without a lock that is younger belongs to a server that is about to lock it."""


@contextmanager
def open_directory(settings: Settings) -> Iterator[Path]:
    """A new directory: in systemd's runtime directory, else in the state directory, else where temporary files are.

    Raises:
        StartError: none of these will do.
    """
    reasons = []
    for parent in _candidates(settings):
        try:
            path = _make(parent)
        except (OSError, ValueError) as error:
            reasons.append(f"{parent}: {error}")
        else:
            break
    else:
        raise StartError(f"there is no place for the workers' sockets: {'; '.join(reasons)}")
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _candidates(settings: Settings) -> Iterator[Path]:
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime.startswith("/"):
        yield Path(runtime)
    yield settings.state_directory.absolute()
    yield Path(tempfile.gettempdir())


def _make(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_abandoned(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    if len(os.fsencode(path)) + 1 + TAG_CHARS > SOCKET_BYTES_MAX:
        path.rmdir()
        raise ValueError("the path is too long for a socket")
    return path


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        try:
            status = path.lstat()
            if status.st_uid != os.geteuid() or status.st_mtime > time.time() - SETTLED_S:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # it is gone already, or is something else
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # its server runs
        finally:
            os.close(lock)
