"""Which database a server uses, and whether its schema fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from catfish.config import Settings
from catfish.errors import StartError
from catfish.store import migrations
from catfish.store.embedded import SETTINGS, EmbeddedPostgres

CONNECTIONS_SPARE: Final = 20


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database of these settings; a private server runs meanwhile if they name none.

    Raises:
        StartError: the private server cannot be started.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    # While workers are replaced there is one more of them; and people look in with tools.
    wanted = (settings.workers + 1) * (settings.database_pool_max + 1) + CONNECTIONS_SPARE
    private = EmbeddedPostgres(
        settings.state_directory, settings={"max_connections": str(max(wanted, int(SETTINGS["max_connections"])))}
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(private.run)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def reach_database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database that servers with these settings use, for a command beside them.

    That of a private server which runs already, or of one that runs meanwhile. The schema fits.

    Raises:
        StartError: there is no database, or it cannot be reached, or its schema does not fit.
    """
    url = settings.database_url
    if url is None:
        private = EmbeddedPostgres(settings.state_directory)
        try:
            url, exists = await trio.to_thread.run_sync(private.find_url), private.exists
        except PermissionError as error:
            raise StartError(f"{error}; run the command as the user that runs the server") from error
        if url is None and not exists:
            raise StartError(
                f"there is no database in {settings.state_directory}: no server has run with that state directory."
                " Name the server's with --state-dir, or its database with CATFISH_DATABASE_URL."
            )
    if url is not None:
        await trio.to_thread.run_sync(migrations.check, url)
        yield url
        return
    async with open_database(settings) as url:
        await trio.to_thread.run_sync(prepare_schema, settings, url)
        yield url


def prepare_schema(settings: Settings, url: str) -> None:
    """Apply pending migrations where that is wanted, else refuse to start on an old schema. Blocks.

    Raises:
        StartError: as `migrations.check` and `migrations.migrate`.
    """
    if settings.database_url is None or settings.migrate:
        migrations.migrate(url)
    else:
        migrations.check(url)
