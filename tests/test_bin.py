"""bin/catfish and bin/test: the environment is made once, whoever starts first, from wherever they start.

A stand-in for `uv` makes the environment of these tests in a moment: its packages are those that run the tests.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

STAND_IN_FOR_UV = """#!/bin/sh
echo "$@" >>"$UV_LOG"
case "$1" in
venv) exec {python} -m venv --without-pip --clear .venv ;;
pip)
    if [ -e "$UV_LOG.fail" ]; then echo "no network" >&2; exit 1; fi
    sleep "${{UV_SLEEP:-0}}"
    echo "noise on standard output"
    printf '%s\\n' {paths} >"$(echo .venv/lib/python*/site-packages)/here.pth" ;;
esac
"""


class Checkout:
    """What `git clone` gives, and a `uv` that writes down how it is called."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "check out"
        self.log = directory / "uv.log"
        self.path = directory / "path"
        (self.root / "bin").mkdir(parents=True)
        for name in (
            "bin/catfish",
            "bin/test",
            "bin/python.sh",
            "bin/environment.py",
            "bin/checks.py",
            "pyproject.toml",
        ):
            shutil.copy2(ROOT / name, self.root / name)
        (self.root / "catfish").symlink_to(ROOT / "catfish")
        self.path.mkdir()
        (self.path / "python3").symlink_to(os.path.realpath(sys.executable))
        packages = [self.root, *(path for path in sys.path if path.endswith("site-packages"))]
        stand_in = STAND_IN_FOR_UV.format(
            python=self.path / "python3", paths=" ".join(f"'{path}'" for path in packages)
        )
        (self.path / "uv").write_text(stand_in)
        (self.path / "uv").chmod(0o755)

    def start(self, *arguments: str, program: Path | None = None, cwd: Path | None = None, **environ: str) -> Any:
        environ = {"PATH": f"{self.path}:/usr/bin:/bin", "UV_LOG": str(self.log), "HOME": str(self.root)} | environ
        command = [str(program or self.root / "bin" / "catfish"), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=cwd or self.root, env=environ, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @property
    def installations(self) -> int:
        return self.log.read_text().count("pip install")

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "catfish-stamp"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_start_installs_and_the_second_does_not(checkout: Checkout) -> None:
    first = checkout.run("version")
    assert (first.returncode, first.stdout) == (0, "catfish 0.1.0\n")
    assert "making .venv" in first.stderr
    second = checkout.run("version")
    assert (second.returncode, second.stdout, second.stderr) == (0, "catfish 0.1.0\n", "")
    assert checkout.installations == 1


def test_it_works_from_another_directory_and_through_a_symlink(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "click.py").write_text("raise SystemExit('a module of the working directory was imported')")
    link = elsewhere / "catfish"
    link.symlink_to(checkout.root / "bin" / "catfish")
    for _ in range(2):
        assert checkout.run("version", program=link, cwd=elsewhere).stdout == "catfish 0.1.0\n"
    assert checkout.installations == 1
    assert not (elsewhere / ".venv").exists()


def test_of_two_first_starts_at_the_same_time_one_installs_and_the_other_waits(checkout: Checkout) -> None:
    starts = [checkout.start("version", UV_SLEEP="0.5") for _ in range(3)]
    answers = [start.communicate(timeout=60) for start in starts]
    assert [out for out, _ in answers] == ["catfish 0.1.0\n"] * 3
    assert checkout.installations == 1


def test_an_installation_that_fails_leaves_no_stamp_and_is_repeated(checkout: Checkout) -> None:
    fail = Path(f"{checkout.log}.fail")
    fail.touch()
    failed = checkout.run("version")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no network" in failed.stderr
    assert "installing failed" in failed.stderr
    assert not checkout.stamp.exists()
    fail.unlink()
    assert checkout.run("version").stdout == "catfish 0.1.0\n"
    assert checkout.installations == 2


def test_another_pyproject_or_a_moved_checkout_installs_again_and_keeps_the_extras(checkout: Checkout) -> None:
    checkout.run("--version", program=checkout.root / "bin" / "test")
    assert ".[embedded,test]" in checkout.log.read_text()
    checkout.run("version")
    assert checkout.installations == 1, "what the tests need includes what the server needs"
    with (checkout.root / "pyproject.toml").open("a") as pyproject:
        pyproject.write("# changed\n")
    checkout.run("version")
    assert checkout.installations == 2
    assert checkout.log.read_text().count(".[embedded,test]") == 2
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.run("version")
    assert checkout.installations == 3


def test_a_broken_environment_is_made_anew(checkout: Checkout) -> None:
    checkout.run("version")
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere")
    assert checkout.run("version").stdout == "catfish 0.1.0\n"
    assert checkout.installations == 2


def test_without_a_python_that_is_new_enough_it_says_so(checkout: Checkout, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("dirname", "readlink", "sh"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    failed = checkout.run("version", PATH=str(tools))
    assert failed.returncode == 1
    assert "Python 3.11 or newer is needed" in failed.stderr


def test_uv_finds_a_python_where_the_path_has_none(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.path / "python3").unlink()
    for tool in ("dirname", "readlink", "sh"):
        (checkout.path / tool).symlink_to(shutil.which(tool) or "")
    checkout.run("version", PATH=str(checkout.path))
    assert checkout.log.read_text().startswith("run --no-project --python >=3.11 python -I ")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "bin" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_python_without_venv_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = load("environment")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        environment.create(None)
    assert ended.value.code == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt install python{version}-venv" in capsys.readouterr().err


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that bin/checks.py runs; a command with "mypy" in it fails."""
    commands: list[tuple[str, ...]] = []

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(tuple(command[3:]))  # without the interpreter, -P and -m
        return subprocess.CompletedProcess(command, 1 if "mypy" in command else 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("CATFISH_TEST_NODE_MODULES", "/nowhere")  # nothing is installed
    return commands


def test_arguments_of_bin_test_go_to_pytest_alone(commands: list[tuple[str, ...]]) -> None:
    assert load("checks").main(["tests/wire", "-k", "x"]) == 0
    assert commands == [("pytest", "tests/wire", "-k", "x")]


def test_a_failed_check_fails_the_whole_but_the_rest_runs_too(
    commands: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("checks").main([]) == 1
    assert [command[:2] for command in commands] == [
        ("ruff", "check"),
        ("ruff", "format"),
        ("mypy", "--strict"),
        ("pytest", "--numprocesses"),
    ]
    assert "failed before the tests: types" in capsys.readouterr().err


def test_what_could_not_run_is_listed_at_the_end_in_plain_words(tmp_path: Path) -> None:
    reason = "Node is not on the PATH, so the original clients were not tried"
    tests = tmp_path / "test_parts.py"
    tests.write_text(f"""
import pytest

@pytest.mark.trio
async def test_with_node_on_trio(): pytest.skip({reason!r})

def test_with_node(): pytest.skip({reason!r})

@pytest.mark.skipif(True, reason="Chromium is not installed")
def test_with_browser(): pass

def test_without_either(): pass
""")
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "tests.conftest", "-c", os.devnull, str(tests)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout
    *_, heading, first, second, last = filter(None, out.splitlines())
    assert "could not run here" in heading
    assert (first, second) == ("1 test: Chromium is not installed", f"2 tests: {reason}")
    assert "1 passed, 3 skipped" in last
