"""Servers that the documents show, run as they stand there, on a port of the kernel's choice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from catfish import config
from catfish.config import Settings
from catfish.http.standalone import serve_apps

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@asynccontextmanager
async def open_documented(name: str, monkeypatch: pytest.MonkeyPatch, **settings_instead: Any) -> AsyncIterator[str]:
    """Run the first example of a document; its URL."""
    found = re.search(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert found is not None
    started: list[Any] = []

    def make_settings(**values: Any) -> Settings:
        return Settings(**{**values, **settings_instead, "bind": ("127.0.0.1:0",)})

    with monkeypatch.context() as patch:
        patch.setattr(trio, "run", lambda *args: started.extend(args))
        patch.setattr(config, "Settings", make_settings)
        exec(compile(found[1], name, "exec"), {"__name__": "__main__"})
    function, settings, apps = started
    assert function is serve_apps
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            listener = await nursery.start(partial(serve_apps, settings, apps))
            yield listener.addresses[0]
            nursery.cancel_scope.cancel()
