"""Everything that is served over HTTP besides long polling, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from catfish.http.app import Health, build_app
from catfish.http.cors import App, Cors
from catfish.http.messages import message_routes
from catfish.server.instance import Instance


def build_api(instance: Instance, health: Callable[[], Health]) -> App:
    """The ASGI application of one instance."""
    app = build_app(health, message_routes(instance))
    return Cors(cast(App, app), instance.settings.origins)
