"""The private Postgres of a server that was given none.

`<state_dir>/postgres` holds it (see `private_server`). One that outlived a Catfish that was killed is found by its
`postmaster.pid`. One that was killed itself recovers from its log when it is started again, for as long as that takes;
every setting that makes commits durable stays on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs
import psycopg
import trio
from psycopg import sql

from catfish.errors import StartError
from catfish.private_server import SOCKET_BYTES_MAX, PrivateServer, Process, choose_socket_directory
from catfish.store.binaries import Account, choose_account, find_programs, launch

logger = logging.getLogger(__name__)

USER: Final = "catfish"
DATABASE: Final = "catfish"
PORT: Final = 5432
"""Only part of the socket's name; no port is opened."""
TELL_S: Final = 10.0
"""Between two log lines about a recovery that takes long."""

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # A week of logs, each day over that of the week before.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_truncate_on_rotation": "on",
}


@attrs.frozen
class Postmaster(Process):
    """What `postmaster.pid` tells of a running server."""

    socket_dir: str = ""


class EmbeddedPostgres(PrivateServer[Postmaster]):
    """See `PrivateServer`.

    Args:
        settings: further settings of Postgres, for tests.
    """

    program = "Postgres"
    start_attempts = 8  # processes of a killed predecessor may hold its memory for a moment
    backoff_s_max = 5.0
    look_s = 0.05
    # Fast shutdown: clients are cut, what was committed is written. Harder when that takes too long.
    stop = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(self, state_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(state_dir, "postgres")
        self._data = self._home / "data"
        self._settings = {**SETTINGS, **(settings or {})}
        self._account: Account | None = None
        self._programs = Path()
        self._socket_dir = Path()

    @property
    def url(self) -> str:
        """libpq URL of the database; the server must be running."""
        if self._server is None:
            raise RuntimeError("the private Postgres is not running")
        return _url(self._server)

    @property
    def exists(self) -> bool:
        """Whether there is data of one."""
        return self._data.exists()

    def find_url(self) -> str | None:
        """URL of the server when it runs already, for another Catfish or for one that was killed; None: it does not.

        Changes nothing, and takes no lock: whoever is served so does not keep the server running.
        """
        postmaster = self._read_pid_file()
        return None if postmaster is None or not _runs_in(postmaster.pid, self._data) else _url(postmaster)

    # Preparing the directory

    def _make_ready(self) -> None:
        self._account = choose_account(self._data)
        self._own(self._home)
        if self._account is not None:
            # Our own directory; those above are left as they are.
            mode = self._state_dir.stat().st_mode
            self._state_dir.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
        self._programs = find_programs(self._data)
        self._check_owner()
        self._socket_dir = choose_socket_directory(
            self._home / "run",
            _may_hold_socket,
            "catfish-",
            owner=None if self._account is None else self._account.uid,
            own=self._own,
        )
        if not self._data.exists():
            self._initialise()

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _check_owner(self) -> None:
        if self._data.exists() and self._account is None and self._data.stat().st_uid != os.geteuid():
            raise StartError(
                f"{self._data} belongs to the user id {self._data.stat().st_uid}."
                " Start Catfish as that user, or name another directory with --state-dir."
            )

    def _initialise(self) -> None:
        """Make the data directory, under another name until it is whole."""
        logger.info("making a private Postgres in %s", self._home)
        unfinished = self._home / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        command: list[str | Path] = [
            self._programs / "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        arguments, options = launch(command, self._account, [self._programs / "initdb", self._home])
        done = subprocess.run(
            arguments, cwd="/", env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )
        if done.returncode:
            raise StartError(f"initdb failed in {self._home}:\n{done.stdout.decode(errors='replace').strip()}")
        unfinished.rename(self._data)

    # Starting

    async def _attempt(self) -> bool:
        self._server = self._find_running()
        if self._server is not None:
            logger.info("a private Postgres is running already (process %d)", self._server.pid)
        else:
            self._server = self._spawn()
        tell_at = trio.current_time() + TELL_S
        while self._server.alive:
            if await trio.to_thread.run_sync(self._is_ready):
                return True
            if trio.current_time() >= tell_at:
                logger.info("the private Postgres is still recovering")
                tell_at += TELL_S
            await trio.sleep(self.look_s)
        self._server = None
        return False

    def _find_running(self) -> Postmaster | None:
        """The postmaster of this directory, when one is alive."""
        postmaster = self._read_pid_file()
        if postmaster is None or _runs_in(postmaster.pid, self._data):
            return postmaster
        # A process id that something else has now would keep Postgres from starting.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        return None

    def _read_pid_file(self) -> Postmaster | None:
        """The postmaster that the data directory names; it may have ended."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            pid = abs(int(lines[0]))
        except (OSError, ValueError, IndexError):
            return None
        socket_dir = lines[4] if len(lines) > 4 and lines[4] else str(self._socket_dir)
        return Postmaster(pid, socket_dir=socket_dir)

    def _spawn(self) -> Postmaster:
        program = self._programs / "postgres"
        command: list[str | Path] = [program, "-D", self._data, "-k", self._socket_dir, "-p", str(PORT)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        arguments, options = launch(command, self._account, [program, self._data])
        with (self._home / "start.log").open("wb") as log:
            process = subprocess.Popen(
                arguments,
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        return Postmaster(process.pid, process, str(self._socket_dir))

    def _is_ready(self) -> bool:
        """Whether the database answers; it is made by the first who asks."""
        assert self._server is not None
        target = {"host": self._server.socket_dir, "port": str(PORT), "user": USER, "connect_timeout": 5}
        try:
            with psycopg.connect(**target, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if known is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError:
            return False
        return True

    def _logs(self) -> list[Path]:
        return [self._home / "start.log", *(self._data / "log").glob("postgres-*.log")]

    def _cleared(self) -> None:
        if self._socket_dir.parent != self._home:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()


def _url(postmaster: Postmaster) -> str:
    return f"postgresql://{USER}@/{DATABASE}?host={quote(postmaster.socket_dir, safe='')}&port={PORT}"


def _may_hold_socket(directory: Path) -> bool:
    """Sockets have short paths, and a comma separates hosts."""
    return "," not in str(directory) and len(os.fsencode(directory / f".s.PGSQL.{PORT}")) <= SOCKET_BYTES_MAX


def _environment() -> dict[str, str]:
    """Ours, without what would speak to Postgres."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, "LC_ALL": "C"}


def _runs_in(pid: int, data: Path) -> bool:
    """Whether that process is a postmaster of that directory: Postgres works inside its data directory."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except (FileNotFoundError, PermissionError):
        pass
    if Path("/proc/self/cwd").exists():
        return False
    told = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return str(data) in told.stdout
