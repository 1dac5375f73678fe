"""A server on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from catfish.config import Settings
from catfish.store.postgres import PostgresStore
from tests.http.harness import Api, open_api_on


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(database_url, Settings()) as store:
        yield store


@pytest.fixture
async def stored_api(postgres: PostgresStore, nursery: trio.Nursery) -> Api:
    return await open_api_on(postgres, nursery)
