"""Which private server a set of settings asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from catfish.config import Settings
from catfish.store.database import open_database


@pytest.mark.parametrize(("workers", "pool", "connections"), [(1, 8, 200), (4, 8, 200), (40, 8, 389), (2, 100, 323)])
async def test_the_private_postgres_takes_what_all_workers_may_ask_for(
    monkeypatch: pytest.MonkeyPatch, workers: int, pool: int, connections: int
) -> None:
    given: list[str] = []

    class EmbeddedPostgres:
        def __init__(self, state_dir: Path, *, settings: Mapping[str, str]) -> None:
            given.append(settings["max_connections"])

        async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
            task_status.started("postgresql:///private")

    monkeypatch.setattr("catfish.store.database.EmbeddedPostgres", EmbeddedPostgres)
    async with open_database(Settings(workers=workers, database_pool_max=pool)) as url:
        assert url == "postgresql:///private"
    assert given == [str(connections)]
