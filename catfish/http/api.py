"""Everything that is served over HTTP besides long polling, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import attrs

from catfish.http import docs, health, logins, messages, metrics, root
from catfish.http.app import build_app
from catfish.http.asgi import App
from catfish.http.compression import Compressed
from catfish.http.cors import Cors
from catfish.http.health import Health
from catfish.http.idempotency import Idempotency
from catfish.http.limiting import Limiting
from catfish.http.moderation import Moderation
from catfish.http.operations import Operation, build_routes
from catfish.http.pulse import conversations, friends, users
from catfish.http.rooms import Rooms
from catfish.http.server_api import ServerApi
from catfish.rooms.directory import Answers, Directory
from catfish.rooms.ports import Administration
from catfish.server.access import Access
from catfish.server.accounts import Accounts
from catfish.server.instance import Instance
from catfish.server.logins import Logins, LoginStores


@attrs.frozen(kw_only=True)
class Stores:
    """What the API asks besides the instance."""

    administration: Administration
    answers: Answers
    directory: Directory
    logins: LoginStores


def build_operations(
    instance: Instance,
    accounts: Accounts,
    stores: Stores,
    tell_health: Callable[[], Health],
    expose: metrics.Expose | None = None,
) -> list[Operation]:
    """Every operation of one instance; without `expose` there are no metrics."""
    by_password = Logins(instance, accounts, stores.logins)
    access = Access(instance, accounts)
    found = [
        *health.operations(tell_health),
        *(() if expose is None else metrics.operations(instance, expose)),
        *root.operations(accounts),
        *messages.operations(instance, accounts, access),
        *Rooms(instance, access, stores.directory, stores.administration).operations(),
        *Moderation(instance, access).operations(),
        *ServerApi(instance, stores.directory).operations(),
        *logins.operations(instance, accounts, by_password),
        *users.operations(instance, accounts, by_password),
        *friends.operations(instance, accounts),
        *conversations.operations(instance, accounts),
    ]
    return [*found, *docs.operations(found)]


def build_api(
    instance: Instance,
    accounts: Accounts,
    stores: Stores,
    tell_health: Callable[[], Health],
    expose: metrics.Expose | None = None,
) -> App:
    """The ASGI application of one instance."""
    once = Idempotency(instance.settings, stores.answers).once
    routes = build_routes(build_operations(instance, accounts, stores, tell_health, expose), once)
    limiting = Limiting(cast(App, build_app(routes)), instance.limits, instance.settings)
    compressed = Compressed(limiting, instance.settings.gzip_bytes_min)
    return Cors(compressed, instance.settings.origins)
