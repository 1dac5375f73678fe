"""Servers that the documents show, run as they stand there, on a port of the kernel's choice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from catfish.http.standalone import serve_apps

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@asynccontextmanager
async def open_documented(name: str, monkeypatch: pytest.MonkeyPatch, **settings_instead: Any) -> AsyncIterator[str]:
    """Run the first example of a document; its URL."""
    found = re.search(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert found is not None
    started: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(trio, "run", lambda *args: started.extend(args))
        exec(compile(found[1], name, "exec"), {"__name__": "__main__"})
    function, settings, apps = started
    assert function is serve_apps
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            effective = attrs.evolve(settings, bind=("127.0.0.1:0",), **settings_instead)
            listener = await nursery.start(partial(serve_apps, effective, apps))
            yield listener.addresses[0]
            nursery.cancel_scope.cancel()
