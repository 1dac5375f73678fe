"""Both mirrors, for the tests that hold them to the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from catfish.config import Settings
from tests.mirror.world import MemoryWorld, RedisWorld, World, redis_world
from tests.redis_server import redis_dir, redis_prefix, redis_server  # noqa: F401 - fixtures

SETTINGS = Settings(mirror_timeout_s=1.0, mirror_waiting_items_max=1_000, mirror_streams=3)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    """The double, and the real one with a Redis of its own."""
    if request.param == "memory":
        yield MemoryWorld(nursery, SETTINGS)
    else:
        async with redis_world(request.getfixturevalue("redis_dir"), SETTINGS) as real:
            yield real


@pytest.fixture
async def real(redis_dir: Path) -> AsyncIterator[RedisWorld]:  # noqa: F811 - the fixture
    async with redis_world(redis_dir, SETTINGS) as real:
        yield real
