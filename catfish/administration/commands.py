"""`catfish instances` and `catfish rooms`: beside the servers, from any machine that reaches their database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from catfish.cli import Failure, is_terminal, load_settings, run_to_end, set_up_log, settings_options

if TYPE_CHECKING:
    from catfish.config import Settings


def administrator_settings(config: str | None, assignments: tuple[str, ...], flags: Mapping[str, Any]) -> Settings:
    """The settings of a command that works beside servers and tells only what it was asked for."""
    settings = load_settings(config, ("log_level=error", *assignments), flags).settings
    set_up_log(settings)
    return settings


JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
REACHES = "It works from any machine that reaches the database; the settings are those of the servers."


@click.command(
    epilog=f"""
\b
Examples:
  catfish instances
  CATFISH_DATABASE_URL=postgresql://chat@db/chat catfish instances --json

{REACHES}
"""
)
@click.option("--all", "everything", is_flag=True, help="Also those that stopped as they were asked to, for a day.")
@JSON_OPTION
@settings_options("state_dir")
def instances(everything: bool, as_json: bool, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """List the servers that share the database.

    Each tells how it is when it renews its lease. One that is dead did not, and its members were taken over by others.
    """
    settings = administrator_settings(config, assignments, flags)
    from catfish.administration import asking, telling

    found = run_to_end(partial(asking.list_instances, settings))
    shown = [each for each in found if everything or each.state != "stopped"]
    if as_json:
        click.echo(telling.instances_as_json(shown))
    else:
        telling.print_instances(shown, terminal=is_terminal())


@click.group(
    epilog=f"""
\b
Examples:
  catfish rooms list --kind private
  catfish rooms show lobby
  catfish rooms close lobby

{REACHES}
"""
)
def rooms() -> None:
    """List rooms, look at one, or close one."""


@rooms.command("list")
@click.option("--kind", type=click.Choice(["open", "private", "matched"]), help="Only rooms of that kind.")
@click.option("--name", metavar="TEXT", help="Only rooms with that text in their id, name or code.")
@click.option("--closed", is_flag=True, help="Closed rooms too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rooms of a page.")
@click.option("--before", type=click.IntRange(min=1), metavar="N", help="Continue below room number N.")
@JSON_OPTION
@settings_options("state_dir")
def rooms_list(
    kind: str | None,
    name: str | None,
    closed: bool,
    limit: int,
    before: int | None,
    as_json: bool,
    config: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """List rooms, the newest first."""
    settings = administrator_settings(config, assignments, flags)
    from catfish.administration import asking, telling

    work = partial(asking.list_rooms, kind=kind, name=name, closed=closed, below=before, limit=limit)
    page = run_to_end(partial(work, settings))
    if as_json:
        click.echo(telling.rooms_as_json(page))
        return
    telling.print_rooms(page.rooms, terminal=is_terminal())
    if page.more:
        click.echo(f"there are more: --before {page.rooms[-1].record.number}", err=True)


@rooms.command("show")
@click.argument("room")
@click.option("--members", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Members at most.")
@click.option("--messages", type=click.IntRange(1, 1_000), default=10, show_default=True, help="Newest messages.")
@JSON_OPTION
@settings_options("state_dir")
def rooms_show(
    room: str,
    members: int,
    messages: int,
    as_json: bool,
    config: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Show the room with the id or code ROOM, its members, and its newest messages."""
    settings = administrator_settings(config, assignments, flags)
    from catfish.administration import asking, telling

    shown = run_to_end(partial(asking.show_room, settings, room, members=members, messages=messages))
    if shown is None:
        raise no_such_room(room)
    if as_json:
        click.echo(telling.room_as_json(shown))
    else:
        telling.print_room(shown, terminal=is_terminal())


@rooms.command("close")
@click.argument("room")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options("state_dir")
def rooms_close(room: str, yes: bool, config: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Close the room with the id or code ROOM, for good: its members are told, and nobody can enter or write any more.

    What was written stays in the database. Every server notices within a third of `lease_s`.
    """
    settings = administrator_settings(config, assignments, flags)
    from catfish.administration import asking, telling

    def confirm(found: Any) -> bool:
        try:
            return yes or click.confirm(f"Close the {telling.title(found)} for good?", err=True)
        except click.Abort:
            click.echo(err=True)
            return False

    found, closed = run_to_end(partial(asking.close_room, settings, room, confirm))
    if found is None:
        raise no_such_room(room)
    if closed:
        click.echo(f"closed the {telling.title(found)}")
    elif found.closed_at is not None:
        click.echo(f"the room {room!r} was closed before")
    else:
        raise Failure("nothing was closed; --yes closes without asking")


def no_such_room(room: str) -> Failure:
    return Failure(f"there is no room with the id or code {room!r}")
