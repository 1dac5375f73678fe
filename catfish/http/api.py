"""Everything that is served over HTTP besides long polling, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from catfish.http.app import Health, build_app
from catfish.http.cors import App, Cors
from catfish.http.messages import message_routes
from catfish.http.pulse import conversations, friends, users
from catfish.http.root import root_routes
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance


def build_api(instance: Instance, accounts: Accounts, health: Callable[[], Health]) -> App:
    """The ASGI application of one instance."""
    settings = instance.settings
    routes = [
        *root_routes(accounts),
        *message_routes(instance, accounts),
        *users.routes(accounts, settings),
        *friends.routes(accounts, settings),
        *conversations.routes(accounts, settings),
    ]
    app = build_app(health, routes)
    return Cors(cast(App, app), instance.settings.origins)
