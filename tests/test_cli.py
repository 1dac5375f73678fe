"""The command line: what each command hands on, what it prints, and how it ends."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click.testing
import pytest
import trio

import catfish
from catfish.cli import cli, native_url
from catfish.config import Settings
from catfish.errors import StartError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., click.testing.Result]:
    """Run a command in an empty directory, with no variable of ours but those given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("catfish.log.set_up", lambda **_: None)
    runner = click.testing.CliRunner()

    def run(*arguments: str, **environ: str) -> click.testing.Result:
        monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **environ})
        return runner.invoke(cli, arguments, prog_name="catfish")

    return run


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module with these members in the place of one of ours."""

    def replace(name: str, **members: Any) -> None:
        module = ModuleType(name)
        vars(module).update(members)
        package, _, last = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)

    return replace


# Small commands


def test_version_is_that_of_the_package(run: Callable[..., click.testing.Result]) -> None:
    for arguments in (["version"], ["--version"]):
        result = run(*arguments)
        assert (result.exit_code, result.output) == (0, f"catfish {catfish.__version__}\n")


def test_small_commands_import_no_more_than_they_need() -> None:
    code = "import sys, catfish.cli as c; c.cli(['version'], standalone_mode=False); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"trio", "cattrs", "psycopg", "hypercorn", "starlette", "rich", "prompt_toolkit", "catfish.config"}
    assert heavy & set(out.split()) == set()


@pytest.mark.parametrize("command", ["serve", "migrate", "chat", "config", "token", "version"])
def test_every_command_explains_itself(run: Callable[..., click.testing.Result], command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert command in run("-h").output
    if command in {"serve", "migrate", "chat", "token"}:
        assert "Examples:" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["serve", "--nothing"],
        ["chat"],
        ["migrate", "--to", "x"],
        ["migrate", "--to", "1", "--status"],
        ["migrate", "--to", "0"],
    ],
)
def test_a_wrong_command_is_exit_status_2(run: Callable[..., click.testing.Result], arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


# config


def test_config_prints_every_setting_with_its_origin(run: Callable[..., click.testing.Result]) -> None:
    result = run("config", "--port", "9000", CATFISH_JWT_SECRET="pa55word", CATFISH_GRACE_S="3")
    lines = result.output.splitlines()
    assert 'bind = ["127.0.0.1:9000"]  # --port' in lines
    assert 'jwt_secret = "(set)"  # CATFISH_JWT_SECRET' in lines
    assert "grace_s = 3.0  # CATFISH_GRACE_S" in lines
    assert "workers = 1  # default" in lines
    assert "pa55word" not in result.output


def test_config_prints_json(run: Callable[..., click.testing.Result]) -> None:
    shown = json.loads(run("config", "--json", "--set", "grace_s=3").output)
    assert shown["grace_s"] == {"value": 3.0, "from": "--set grace_s"}
    assert shown["database_url"] == {"value": None, "from": "default"}


def test_config_prints_a_table_on_a_terminal(
    run: Callable[..., click.testing.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catfish.cli.is_terminal", lambda: True)
    result = run("config", COLUMNS="120", CATFISH_API_KEY="pa55word")
    assert [line.split() for line in result.output.splitlines() if line.startswith("api_key")] == [
        ["api_key", "(set)", "CATFISH_API_KEY"]
    ]


def test_wrong_settings_are_exit_status_2_with_a_line_for_each(run: Callable[..., click.testing.Result]) -> None:
    for command in (["config"], ["serve"], ["migrate"], ["chat", "lobby"]):
        result = run(*command, CATFISH_WORKERS="none", CATFISH_NOTHING="1")
        assert result.exit_code == 2
        assert result.output.splitlines() == [
            "catfish: CATFISH_NOTHING is not a setting; `catfish config` lists them",
            "catfish: CATFISH_WORKERS is 'none'; it must be a whole number, 1 or more",
        ]


# serve


def test_serve_runs_the_server_with_the_settings_and_prints_what_it_announces(
    run: Callable[..., click.testing.Result], replace: Callable[..., None]
) -> None:
    given: list[Settings] = []

    async def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
        given.append(settings)
        await trio.lowlevel.checkpoint()
        announce("Catfish listens on http://127.0.0.1:1")

    replace("catfish.app", serve=serve)
    result = run("serve", "--bind", "127.0.0.1:1", "--bind", "[::1]:2", "--state-dir", "/x", "--migrate")
    assert (result.exit_code, result.output) == (0, "Catfish listens on http://127.0.0.1:1\n")
    assert given == [Settings(bind=("127.0.0.1:1", "[::1]:2"), state_dir=Path("/x"), migrate=True)]


def test_serve_with_workers_runs_their_parent_which_may_read_the_settings_again(
    run: Callable[..., click.testing.Result], replace: Callable[..., None], tmp_path: Path
) -> None:
    seen: list[object] = []

    async def serve(settings: Settings, *, announce: object, reload: Callable[[], Settings]) -> None:
        await trio.lowlevel.checkpoint()
        file = tmp_path / "catfish.toml"
        seen.extend((settings.workers, reload() == settings))
        file.write_text("grace_s = 3")
        seen.append(reload().grace_s)
        file.write_text("grace_s = -3")
        with pytest.raises(StartError, match=r"grace_s in .* is -3"):
            reload()

    replace("catfish.workers.parent", serve=serve)
    result = run("serve", "--workers", "2")
    assert (result.exit_code, seen) == (0, [2, True, 3.0])


def test_a_server_that_cannot_start_says_why_without_a_traceback(
    run: Callable[..., click.testing.Result], replace: Callable[..., None]
) -> None:
    async def fail() -> None:
        raise StartError("127.0.0.1:8080 is in use")

    async def serve(*_: object, **__: object) -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            inner.start_soon(fail)
            outer.start_soon(trio.sleep_forever)

    replace("catfish.app", serve=serve)
    result = run("serve")
    assert (result.exit_code, result.output) == (1, "catfish: 127.0.0.1:8080 is in use\n")


def test_a_fault_of_the_server_keeps_its_traceback(
    run: Callable[..., click.testing.Result], replace: Callable[..., None]
) -> None:
    async def serve(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    replace("catfish.app", serve=serve)
    result = run("serve")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_an_interrupted_command_ends_quietly(
    run: Callable[..., click.testing.Result], replace: Callable[..., None]
) -> None:
    async def serve(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    replace("catfish.app", serve=serve)
    result = run("serve")
    assert (result.exit_code, result.output) == (130, "")


# migrate


class Title(NamedTuple):
    title: str


class Status(NamedTuple):
    applied: list[Title]
    pending: list[Title]


@pytest.fixture
def migrations(replace: Callable[..., None]) -> list[object]:
    """The calls of a double of `catfish.store.migrations`, with two migrations of which one is applied."""
    calls: list[object] = []

    def migrate(url: str, to: int | None) -> list[Title]:
        calls.append((url, to))
        if url.endswith("/away"):
            raise StartError("the database cannot be reached")
        return [] if to == 1 else [Title("0002 more")]

    def status(url: str) -> Status:
        calls.append(url)
        return Status([Title("0001 rooms")], [Title("0002 more")])

    replace("catfish.store.migrations", migrate=migrate, status=status)
    return calls


DATABASE = "postgresql://h/d"


def test_migrate_applies_what_is_pending(run: Callable[..., click.testing.Result], migrations: list[object]) -> None:
    assert run("migrate", CATFISH_DATABASE_URL=DATABASE).output == "0002 more  applied now\n"
    assert run("migrate", "--to", "1", CATFISH_DATABASE_URL=DATABASE).output == "nothing to apply\n"
    assert migrations == [(DATABASE, None), (DATABASE, 1)]


def test_migrate_status_lists_and_changes_nothing(
    run: Callable[..., click.testing.Result], migrations: list[object]
) -> None:
    result = run("migrate", "--status", CATFISH_DATABASE_URL=DATABASE)
    assert (result.exit_code, result.output) == (0, "0001 rooms  applied\n0002 more  pending\n")
    assert migrations == [DATABASE]


def test_a_migration_that_fails_is_exit_status_1(
    run: Callable[..., click.testing.Result], migrations: list[object]
) -> None:
    result = run("migrate", CATFISH_DATABASE_URL="postgresql://h/away")
    assert (result.exit_code, result.output) == (1, "catfish: the database cannot be reached\n")


def test_migrate_starts_the_private_postgres_when_no_database_is_configured(
    run: Callable[..., click.testing.Result], monkeypatch: pytest.MonkeyPatch, migrations: list[object]
) -> None:
    ran: list[object] = []

    class EmbeddedPostgres:
        def __init__(self, state_dir: Path, *, settings: object) -> None:
            ran.append(state_dir)

        async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
            task_status.started("postgresql:///private")
            try:
                await trio.sleep_forever()
            finally:
                ran.append("stopped")

    monkeypatch.setattr("catfish.store.database.EmbeddedPostgres", EmbeddedPostgres)
    assert run("migrate", "--state-dir", "/x").exit_code == 0
    assert ran == [Path("/x"), "stopped"]
    assert migrations == [("postgresql:///private", None)]


# chat


def test_chat_connects_to_the_server_that_the_settings_describe(
    run: Callable[..., click.testing.Result], replace: Callable[..., None]
) -> None:
    calls: list[tuple[str, str, str]] = []

    async def chat(url: str, room: str, name: str) -> None:
        await trio.lowlevel.checkpoint()
        calls.append((url, room, name))

    replace("catfish.client.terminal", run=chat)
    assert run("chat", "lobby", LOGNAME="someone").exit_code == 0
    assert run("chat", "lobby", "--name", "ada", CATFISH_PORT="9000").exit_code == 0
    assert run("chat", "lobby", "--name", "ada", "--url", "wss://chat.example/ws", CATFISH_NOTHING="1").exit_code == 0
    assert calls == [
        ("ws://127.0.0.1:8080/ws", "lobby", "someone"),
        ("ws://127.0.0.1:9000/ws", "lobby", "ada"),
        ("wss://chat.example/ws", "lobby", "ada"),
    ]
    failed = run("chat", "lobby", CATFISH_BIND="unix:/x")
    assert failed.exit_code == 2
    assert "use --url" in failed.output


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Settings(bind=("unix:/x", "0.0.0.0:80")), "ws://127.0.0.1:80/ws"),
        (Settings(bind=("[::]:80",)), "ws://[::1]:80/ws"),
        (Settings(bind=("chat.local:1",), tls_certificate=Path("c"), tls_key=Path("k")), "wss://chat.local:1/ws"),
    ],
)
def test_the_address_to_talk_to_follows_from_the_address_to_listen_on(settings: Settings, url: str) -> None:
    assert native_url(settings) == url
