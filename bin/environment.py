"""Keeps the virtual environment .venv of this checkout as pyproject.toml wants it, and runs something in it.

    environment.py EXTRAS ARGUMENTS…      EXTRAS separated by commas, ARGUMENTS those of the environment's Python

A stamp in .venv says what was installed: checkout, Python version, hash of pyproject.toml, extras. While it fits,
nothing is installed. It is removed before an installation and written after it, so one that failed is repeated. The
checkout's directory is locked meanwhile, so that of two starts at the same time one waits for the other.

Only the standard library: this runs before anything is installed. Messages go to standard error, because standard
output belongs to the command.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "catfish-stamp"


def main(arguments: list[str]) -> None:
    extras = set(arguments[0].split(","))
    if not fits(extras):
        with_lock = os.open(ROOT, os.O_RDONLY)  # closed by exec, or by the end of the process
        lock(with_lock)
        if not fits(extras):
            install(extras)
    os.execv(PYTHON, [str(PYTHON), *arguments[1:]])


def lock(directory: int) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another start is setting up .venv; waiting for it")
        fcntl.flock(directory, fcntl.LOCK_EX)


def fits(extras: set[str]) -> bool:
    """Whether .venv holds what pyproject.toml names, with at least these extras."""
    wanted, installed = stamp(), stamped()
    return installed[:-1] == wanted and extras <= set(installed[-1].split(",")) and PYTHON.exists()


def stamp() -> list[str]:
    """The lines of the stamp without its last, the extras."""
    pyproject = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return [str(ROOT), f"Python {sys.version_info.major}.{sys.version_info.minor}", pyproject]


def stamped() -> list[str]:
    try:
        return STAMP.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return [""]


def install(extras: set[str]) -> None:
    uv = shutil.which("uv")
    extras = extras | ({*stamped()[-1].split(",")} - {""})
    STAMP.unlink(missing_ok=True)
    if not usable(uv):
        create(uv)
    say(f"installing into .venv, with {'uv' if uv else 'pip'}; this happens once")
    package = f".[{','.join(sorted(extras))}]"
    if uv:
        installer = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    else:
        installer = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    run([*installer, "--editable", package], "installing failed (see above); the next start tries again")
    # mypy remembers that a package was missing, also once it is there.
    shutil.rmtree(ROOT / ".mypy_cache", ignore_errors=True)
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text("\n".join([*stamp(), ",".join(sorted(extras))]) + "\n", "utf-8")
    unfinished.rename(STAMP)


def usable(uv: str | None) -> bool:
    """Whether .venv has a Python of our version, and pip unless uv takes its place."""
    check = f"import sys; assert sys.version_info[:2] == {sys.version_info[:2]}" + ("" if uv else "; import pip")
    try:
        return subprocess.run([PYTHON, "-I", "-c", check], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def create(uv: str | None) -> None:
    base = os.path.realpath(sys.executable)  # the interpreter itself, also when this runs in the .venv to be replaced
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    say(f"making .venv with Python {version}")
    if uv:
        run([uv, "venv", "--quiet", "--clear", "--python", base, str(VENV)], "making .venv failed (see above)")
        return
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        fail(
            f"{base} has no venv or no ensurepip, which make virtual environments;"
            f" install them (Debian, Ubuntu: apt install python{version}-venv), or uv (https://docs.astral.sh/uv)"
        )
    run([base, "-m", "venv", "--clear", str(VENV)], "making .venv failed (see above)")


def run(command: list[str], failure: str) -> None:
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode != 0:
        fail(failure)


def say(text: str) -> None:
    print(f"catfish: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
