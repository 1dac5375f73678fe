"""A scripted server and a client that is connected to it. Tests ask for `autojump_clock` too: time is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from catfish.client import Client
from tests.client.fake_server import FakeServer
from tests.client.helpers import open_client


@pytest.fixture
async def server(nursery: trio.Nursery) -> FakeServer:
    return FakeServer(nursery)


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with open_client(server) as client:
        yield client
