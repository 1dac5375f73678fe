"""Both stores, for the tests that hold them to the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from catfish.config import Settings
from catfish.rooms.ports import Store
from catfish.store.postgres import PostgresStore
from tests.doubles.memory_store import MemoryStore

SETTINGS = Settings(room_capacity_max=50, database_pool_max=4, database_timeout_s=5.0)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The double, and the real one on a database of its own."""
    if request.param == "memory":
        yield MemoryStore(room_capacity_max=SETTINGS.room_capacity_max)
    else:
        async with PostgresStore(request.getfixturevalue("database_url"), SETTINGS) as real:
            yield real


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(database_url, SETTINGS) as real:
        yield real
