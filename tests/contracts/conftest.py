"""What the tests of vocabularies share."""

from __future__ import annotations

import pytest
import trio

from tests.contracts.harness import Sockets
from tests.server.harness import start_server


@pytest.fixture
async def sockets(nursery: trio.Nursery) -> Sockets:
    return Sockets(await start_server(nursery))
