"""Engine.IO applications on the listener of their own, without the rest of Catfish; see `docs/engineio.md`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, cast

import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from catfish.config import Settings
from catfish.http.asgi import Receive, Scope, Send
from catfish.http.engineio import answer
from catfish.http.forwarded import Forwarded
from catfish.http.paths import Paths
from catfish.http.secure import Secure
from catfish.net.handoff import HypercornHandoff
from catfish.net.listener import Listener, serve
from catfish.net.proxies import Proxies
from catfish.net.timers import Timers
from catfish.server.engineio import EngineServer
from catfish.server.engineio.server import EngineApp

NOT_FOUND: Final = b'{"status":"fail","code":"not_found","message":"There is nothing on this path."}'


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application of all other paths."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await answer(send, 404, NOT_FOUND, [(b"content-type", b"application/json")])


async def serve_apps(
    settings: Settings,
    apps: Mapping[str, EngineApp],
    *,
    task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve applications, each on its path, until cancelled.

    Args:
        settings: addresses, limits, heartbeat, origins.
        apps: by path, such as `/engine.io`.
        task_status: gets the listener once it accepts.

    Raises:
        BindError: an address cannot be listened on.
    """
    timers = Timers()
    engines = {path: EngineServer(settings, timers, app) for path, app in apps.items()}
    paths = Paths(engines, nothing_here)
    http = HypercornHandoff(cast(ASGIFramework, Forwarded(Secure(paths, settings), Proxies(settings))), Config())
    async with trio.open_nursery() as nursery:
        await nursery.start(timers.run)
        for engine in engines.values():
            await nursery.start(engine.run)
        await nursery.start(http.run)
        task_status.started(await nursery.start(partial(serve, settings, paths.endpoint, http)))
