"""Fixtures of the network's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from catfish.config import Settings
from tests.net.harness import RecordingEndpoint, Site, StartSite


@pytest.fixture
async def start_site() -> AsyncIterator[StartSite]:
    """`await start_site(driver, endpoint, **settings)`; everything is closed after the test."""
    sites: list[Site] = []

    async def start(driver: str, endpoint: RecordingEndpoint | None = None, **settings: Any) -> Site:
        site = Site(nursery, driver, endpoint or RecordingEndpoint(), Settings(**settings))
        sites.append(site)
        await site.start()
        return site

    async with trio.open_nursery() as nursery:
        yield start
        nursery.cancel_scope.cancel()
    for site in sites:
        await site.close()
