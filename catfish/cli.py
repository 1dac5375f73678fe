"""The command line.

Exit status: 0 when done, 1 when something failed, 2 when the command or the settings are wrong. Each command imports
what it needs when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from catfish import __version__

if TYPE_CHECKING:
    from catfish.config import Settings
    from catfish.config_sources import Loaded

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """With commands that have a module of their own, which is imported when one of them is asked for."""

    elsewhere: ClassVar = {
        "instances": "catfish.administration.commands",
        "reports": "catfish.administration.reports",
        "rooms": "catfish.administration.commands",
        "token": "catfish.administration.token",
        "top": "catfish.administration.top",
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *self.elsewhere])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.elsewhere:
            return super().get_command(context, name)
        command: click.Command = getattr(importlib.import_module(self.elsewhere[name]), name)
        return command


@click.group(
    cls=Commands,
    context_settings=CONTEXT_SETTINGS,
    epilog="""
\b
Examples:
  catfish serve                  start a server on 127.0.0.1:8080, with a Postgres of its own
  catfish chat lobby             talk in the room "lobby" of that server, from a terminal
  catfish instances              which servers share the database, and how they are
  catfish rooms list             the rooms in it
  catfish token ann              a token to try it with, as the user ann
  catfish config                 show every setting, and where its value comes from
""",
)
@click.version_option(__version__, prog_name="catfish", message="%(prog)s %(version)s")
def cli() -> None:
    """Rooms, chat, presence, matching and video signalling over WebSockets."""


def main() -> None:
    cli(prog_name="catfish")


class SettingsProblem(click.ClickException):
    """The settings are wrong: every problem on a line of its own."""

    exit_code = 2

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def show(self, file: IO[Any] | None = None) -> None:
        for problem in self.problems:
            click.echo(f"catfish: {problem}", file=file, err=file is None)


class Failure(click.ClickException):
    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"catfish: {self.message}", file=file, err=file is None)


# Settings


def settings_options(*names: str) -> Callable[[Function], Function]:
    """Options for some settings, and those that reach every setting. The texts are judged by `config_sources`, in the
    same words whichever way a value came."""
    options = {
        "bind": click.option("--bind", multiple=True, metavar="ADDRESS", help=_BIND_HELP),
        "port": click.option("--port", metavar="N", help="Port of the default address; 0 picks a free one."),
        "state_dir": click.option("--state-dir", metavar="DIR", help="Where the embedded Postgres keeps its data."),
        "workers": click.option("--workers", metavar="N", help="Processes that share the port."),
        "migrate": click.option(
            "--migrate", is_flag=True, default=None, help="Apply pending migrations to the database first."
        ),
        "log_level": click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
        "log_format": click.option("--log-format", metavar="FORM", help="human or json."),
    }
    everywhere = [
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting; see the guide."),
        click.option("--config", metavar="FILE", help="Settings file, in the place of ./catfish.toml."),
    ]

    def decorate(function: Function) -> Function:
        for option in reversed([*(options[name] for name in names), *everywhere]):
            function = option(function)
        return function

    return decorate


_BIND_HELP = "HOST:PORT, [IPV6]:PORT, unix:PATH or fd:N; may be given several times."
_PID_HELP = "Process to measure, with its children; by default what listens on the port, on this machine."
SERVER_OPTIONS = ("bind", "port", "state_dir", "workers", "migrate", "log_level", "log_format")


def load_settings(config: str | None, assignments: tuple[str, ...], flags: Mapping[str, Any]) -> Loaded:
    from catfish.config_sources import SettingsError, load

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        return load(flags=given, assignments=assignments, config=None if config is None else Path(config))
    except SettingsError as error:
        raise SettingsProblem(error.problems) from None


def set_up_log(settings: Settings) -> None:
    from catfish import log

    log.set_up(
        level=settings.log_level,
        form=settings.log_format,
        secrets=settings.secrets(),
        lines_max=settings.log_lines_max,
    )


def run_to_end(function: Callable[[], Awaitable[Result]]) -> Result:
    """Run on Trio; a `StartError`, however deep in exception groups, is told in a line and becomes exit status 1."""
    import trio

    from catfish.errors import StartError

    try:
        return trio.run(function)
    except* StartError as group:
        raise Failure("\ncatfish: ".join(_messages_of(group))) from None
    except* KeyboardInterrupt:
        raise SystemExit(130) from None


def _messages_of(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [message for inner in error.exceptions for message in _messages_of(inner)]
    return [str(error)]


# Commands


@cli.command(
    epilog="""
\b
Examples:
  catfish serve --port 9000
  catfish serve --bind 0.0.0.0:8080 --bind unix:/run/catfish/http.sock
  CATFISH_DATABASE_URL=postgresql://chat@db/chat catfish serve --migrate
  catfish serve --set grace_s=30 --set heartbeat_s=15
  catfish serve --workers 4

SIGTERM and SIGINT stop it gently: clients are told to come back, waiting bytes are sent, then it exits with 0.
With --workers, SIGHUP replaces the workers one after the other; nobody is refused meanwhile.
"""
)
@settings_options(*SERVER_OPTIONS)
def serve(config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Start a server; its address is printed when it accepts connections.

    Without CATFISH_DATABASE_URL it starts a private Postgres of its own.
    """
    from functools import partial

    settings = load_settings(config, assignments, flags).settings
    set_up_log(settings)
    if settings.workers > 1:
        from catfish.workers import parent

        def reload() -> Settings:
            from catfish.errors import StartError

            try:
                return load_settings(config, assignments, flags).settings
            except SettingsProblem as wrong:
                raise StartError("; ".join(wrong.problems)) from None

        run_to_end(partial(parent.serve, settings, announce=announce, reload=reload))
    else:
        from catfish import app

        run_to_end(partial(app.serve, settings, announce=announce))


def announce(text: str) -> None:
    """Say something on standard output, at once also into a pipe."""
    click.echo(text)
    sys.stdout.flush()


@cli.command(
    epilog="""
\b
Examples:
  catfish migrate --status
  catfish migrate
  catfish migrate --to 3
"""
)
@click.option("--status", is_flag=True, help="List the migrations and change nothing.")
@click.option("--to", "target", type=click.IntRange(min=1), metavar="N", help="Stop after migration N.")
@settings_options("state_dir")
def migrate(status: bool, target: int | None, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Bring the database's schema up to date.

    Each migration is applied once, in a transaction of its own; several servers may start this at the same time. The
    private Postgres is started for it when no database is configured.
    """
    from functools import partial

    if status and target is not None:
        raise click.UsageError("--status changes nothing, so it does not go with --to")
    settings = load_settings(config, assignments, flags).settings
    set_up_log(settings)
    work = _print_status if status else partial(_apply, target)
    run_to_end(partial(_with_database, settings, work))


async def _with_database(settings: Settings, work: Callable[[str], None]) -> None:
    """Run `work`, which blocks, with the URL of the database; the private one is stopped afterwards."""
    import trio

    from catfish.store.database import open_database

    async with open_database(settings) as url:
        await trio.to_thread.run_sync(work, url)


def _print_status(url: str) -> None:
    from catfish.store import migrations

    status = migrations.status(url)
    for migration in status.applied:
        announce(f"{migration.title}  applied")
    for migration in status.pending:
        announce(f"{migration.title}  pending")


def _apply(target: int | None, url: str) -> None:
    from catfish.store import migrations

    applied = migrations.migrate(url, target)
    for migration in applied:
        announce(f"{migration.title}  applied now")
    if not applied:
        announce("nothing to apply")


@cli.command(
    epilog="""
\b
Examples:
  catfish chat lobby
  catfish chat lobby --name ada --url wss://chat.example/ws
"""
)
@click.argument("room")
@click.option("--name", metavar="NAME", help="How the others see you; your login name when left out.")
@click.option("--url", metavar="URL", help="WebSocket address; by default that of a server with these settings.")
@settings_options("port")
def chat(
    room: str, name: str | None, url: str | None, config: str | None, assignments: tuple[str, ...], **flags: Any
) -> None:
    """Talk in the room ROOM from a terminal; it is made when there is none."""
    import getpass
    from functools import partial

    if url is None:
        url = native_url(load_settings(config, assignments, flags).settings)
    from catfish.client.terminal import run as talk

    run_to_end(partial(talk, url, room, name or getpass.getuser()))


def native_url(settings: Settings) -> str:
    """Where a client on this machine reaches a server that has these settings."""
    from catfish.config import TcpBind, parse_bind

    binds = [bind for bind in map(parse_bind, settings.bind) if isinstance(bind, TcpBind)]
    if not binds:
        raise click.UsageError("the settings name no TCP address to connect to; use --url")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(binds[0].host, binds[0].host)
    scheme = "ws" if settings.tls_certificate is None else "wss"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{binds[0].port}/ws"


@cli.command(
    epilog="""
\b
Examples:
  catfish load echo
  catfish load fan --n 500 --seconds 4
  catfish load echo --protocol socketio --url ws://127.0.0.1:8080
  catfish load echo --protocol socketio-peer --url ws://127.0.0.1:9001     a Node server, for comparison
  catfish load cross --url ws://127.0.0.1:8081 --url ws://127.0.0.1:8082 --rate 1000
  taskset -c 1 catfish load pair --json                                    the client on a core of its own

\b
Scenarios:
  echo    every connection keeps one acknowledged request in flight
  fan     one room; one sender keeps four broadcasts in flight
  pair    rooms of two; every message is answered by the partner
  chat    rooms of ten; every connection keeps one stored message in flight
  idle    connections that do nothing: memory of each
  storm   connections opened and made ready as fast as possible
  cross   rooms of ten, sender on the first --url, the others on the second

It makes rooms, users and messages in the server's database, so do not point it at one that matters.
"""
)
@click.argument("scenario")
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="ws://HOST:PORT[/PATH]; by default this machine, 8080."
)
@click.option("--n", type=int, metavar="N", help="Connections; each scenario has its own default.")
@click.option("--seconds", type=float, default=4.0, metavar="S", help="Length of what is measured.  [4]")
@click.option("--size", type=int, default=100, metavar="BYTES", help="Text in each message.  [100]")
@click.option("--protocol", default="native", metavar="NAME", help="native, native-msgpack, socketio or socketio-peer.")
@click.option("--pid", "pids", type=int, multiple=True, metavar="PID", help=_PID_HELP)
@click.option("--rate", type=float, default=1000.0, metavar="R", help="Messages per second (cross).  [1000]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def load(scenario: str, as_json: bool, **options: Any) -> None:
    """Keep a server busy and tell what that cost: rate, CPU per unit of work, memory per connection."""
    from catfish.load.command import measure, tell
    from catfish.load.errors import LoadError, PlanError
    from catfish.load.plan import make_plan

    try:
        tell(measure(make_plan(scenario, **options)), json=as_json)
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    except LoadError as error:
        raise Failure(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@settings_options(*SERVER_OPTIONS)
def config(as_json: bool, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Show every setting with where its value comes from; secrets are not shown.

    With the same options and in the same directory, `catfish serve` runs with these values.
    """
    import json

    from catfish.config_sources import rows

    shown = list(rows(load_settings(config, assignments, flags)))
    if as_json:
        click.echo(json.dumps({name: {"value": value, "from": origin} for name, value, origin in shown}, indent=2))
    elif is_terminal():
        _print_table(shown)
    else:
        for name, value, origin in shown:
            click.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}  # {origin}")


def is_terminal() -> bool:
    return sys.stdout.isatty()


def _print_table(shown: list[tuple[str, Any, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", box=None, header_style="bold", pad_edge=False)
    for name, value, origin in shown:
        text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        style = "dim" if origin == "default" else "bold"
        table.add_row(Text(name), Text(text, style), Text(origin, style))
    Console().print(table)


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"catfish {__version__}")
