"""Which database a server uses, and whether its schema fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from catfish.config import Settings
from catfish.store import migrations
from catfish.store.embedded import EmbeddedPostgres


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database of these settings; a private server runs meanwhile if they name none.

    Raises:
        StartError: the private server cannot be started.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with trio.open_nursery() as nursery:
        yield await nursery.start(EmbeddedPostgres(settings.state_directory).run)
        nursery.cancel_scope.cancel()


def prepare_schema(settings: Settings, url: str) -> None:
    """Apply pending migrations where that is wanted, else refuse to start on an old schema. Blocks.

    Raises:
        StartError: as `migrations.check` and `migrations.migrate`.
    """
    if settings.database_url is None or settings.migrate:
        migrations.migrate(url)
    else:
        migrations.check(url)
