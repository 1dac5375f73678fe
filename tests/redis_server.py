"""A Redis for tests: a private one for the whole run, or the one that the environment names.

`CATFISH_TEST_REDIS_URL`, or else `CATFISH_REDIS_URL`, names a server; every test takes names of its own in it. Tests
that kill their Redis, or pause it, start one for themselves.
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from catfish.errors import StartError
from catfish.mirror.private_redis import PrivateRedis, find_program


def need_redis() -> None:
    """Skip the test where there is no Redis to start."""
    try:
        find_program()
    except StartError as error:
        pytest.skip(f"there is no Redis: {str(error).splitlines()[0]}")


@pytest.fixture
def redis_dir() -> Iterator[Path]:
    """A state directory for a private Redis; its path is short enough for a socket."""
    need_redis()
    with tempfile.TemporaryDirectory(prefix="catfish-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a server that tests share."""
    given = os.environ.get("CATFISH_TEST_REDIS_URL") or os.environ.get("CATFISH_REDIS_URL")
    if given:
        yield given
        return
    need_redis()
    with tempfile.TemporaryDirectory(prefix="catfish-", ignore_cleanup_errors=True) as directory:
        server = PrivateRedis(Path(directory))
        ready = threading.Event()
        stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

        async def serve() -> None:
            async with trio.open_nursery() as nursery:
                stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
                await nursery.start(server.run)
                ready.set()

        thread = threading.Thread(target=trio.run, args=(serve,), name="private Redis")
        thread.start()
        ready.wait()
        yield server.url
        token, scope = stop[0]
        token.run_sync_soon(scope.cancel)
        thread.join()


@pytest.fixture
def redis_prefix() -> str:
    """Beginning of the names of one test."""
    return f"catfish-test-{uuid.uuid4().hex[:12]}"
