"""`catfish token`: a token for trying, signed with the secret of the settings."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import click

from catfish.administration.commands import JSON_OPTION, administrator_settings
from catfish.cli import Failure, settings_options

if TYPE_CHECKING:
    from catfish.config import Settings

UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
VALID_S_MAX: Final = 366 * 100 * 86_400

NO_SECRET: Final = """\
there is no secret to sign a token with. Give one to the server and to this command, such as
  export CATFISH_JWT_SECRET=$(openssl rand -base64 48)
and start the server again"""
ONLY_PUBLIC: Final = """\
the settings have public keys alone ({names}): whoever has the private ones makes the tokens. To make some here as well,
set jwt_secret for the server and for this command"""


def read_time(context: click.Context, param: click.Parameter, text: str) -> int:
    """Seconds, from a text such as 90s, 15m, 8h, 7d."""
    match = re.fullmatch(r"(\d{1,10})([smhd]?)", text)
    seconds = 0 if match is None else int(match[1]) * UNITS_S[match[2] or "s"]
    if not 0 < seconds <= VALID_S_MAX:
        raise click.BadParameter(f"{text!r} is no time such as 90s, 15m, 8h or 7d")
    return seconds


def read_rooms(context: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Rights by room, from texts such as lobby=join,read."""
    from catfish.rooms.grants import MODERATE, RIGHTS

    rooms = {}
    for text in texts:
        room, equals, names = text.rpartition("=")
        rights = [name.strip() for name in names.split(",") if name.strip()]
        if not equals:
            room, rights = text, [right for right in RIGHTS if right != MODERATE]
        if not room or any(right not in RIGHTS for right in rights):
            raise click.BadParameter(f"{text!r} is not ROOM=RIGHT,RIGHT…; the rights are {', '.join(RIGHTS)}")
        rooms[room] = rights
    return rooms


@click.command(
    epilog="""
\b
Examples:
  catfish token ann
  catfish token ann --name "Ann Lee" --valid 15m
  catfish token bot --room lobby=join,read,send --room '*=join,read'
  curl -H "Authorization: Bearer $(catfish token ann)" http://127.0.0.1:8080/api/rooms/lobby
  catfish token ann --json

Whoever has the token is that user until it runs out, so treat it as a password. The rights of --room are join, read,
send, emit and moderate; without any they are all but moderate; * stands for every other room. Without --room the token
restricts nothing.
"""
)
@click.argument("user")
@click.option("--name", metavar="NAME", help="How the others see the user; the user's id when left out.")
@click.option(
    "--room",
    "rooms",
    multiple=True,
    callback=read_rooms,
    metavar="ROOM[=RIGHT,…]",
    help="Only that room, and what may be done in it.",
)
@click.option(
    "--valid",
    "valid_s",
    callback=read_time,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="Such as 90s, 15m, 7d.",
)
@JSON_OPTION
@settings_options()
def token(
    user: str,
    name: str | None,
    rooms: dict[str, list[str]],
    valid_s: int,
    as_json: bool,
    config: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Issue a token for USER, for trying.

    It is signed with the jwt_secret that `catfish serve` would have in the same directory, with the same environment.
    """
    import json

    settings = administrator_settings(config, assignments, flags)
    from catfish.auth.tokens import sign
    from catfish.errors import Rejected
    from catfish.rooms.grants import Grants
    from catfish.rooms.policy import Policy

    policy = Policy(settings)
    try:
        claims: dict[str, Any] = {"sub": policy.user(user)}
        if name is not None:
            claims["name"] = policy.name(name)
        for room in rooms:
            policy.room(room)
    except Rejected as refusal:
        raise click.UsageError(refusal.message) from None
    if rooms:
        claims["rooms"] = Grants(rooms).claim()
    signed = sign(claims, _secret(settings), valid_s, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    if as_json:
        click.echo(json.dumps({"token": signed, "user": user, "expiresAt": (int(time.time()) + valid_s) * 1000}))
    else:
        click.echo(signed)


def _secret(settings: Settings) -> str:
    from catfish.auth.keys import secret_key

    if settings.jwt_secret is None:
        given = {"jwt_keys": settings.jwt_keys, "jwks_url": settings.jwks_url}
        names = " and ".join(name for name, value in given.items() if value)
        raise Failure(ONLY_PUBLIC.format(names=names) if names else NO_SECRET)
    try:
        secret_key(settings.jwt_secret)
    except ValueError as error:
        raise Failure(f"jwt_secret {error}") from None
    return settings.jwt_secret
