"""Three people who signed in."""

from __future__ import annotations

import pytest

from tests.http.harness import Api
from tests.http.people import Person, sign_in


@pytest.fixture
async def api(stored_api: Api) -> Api:
    return stored_api


@pytest.fixture
async def ann(api: Api) -> Person:
    return await sign_in(api, "ANN")


@pytest.fixture
async def bob(api: Api) -> Person:
    return await sign_in(api, "BOB")


@pytest.fixture
async def cyd(api: Api) -> Person:
    return await sign_in(api, "CYD")
