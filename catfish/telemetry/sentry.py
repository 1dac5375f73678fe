"""Faults to Sentry (extra `sentry`): every line that is logged as an error, with its traceback.

Neither spans nor sessions nor the values of variables are sent, and nothing that is secret: what leaves goes through
the same `Redactor` as the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from catfish import __version__
from catfish.config import Settings
from catfish.errors import StartError
from catfish.log import Redactor

FLUSH_S: Final = 2.0
"""For the last faults to leave when the server stops."""


@asynccontextmanager
async def open_sentry(settings: Settings, instance: str, transport: Any = None) -> AsyncIterator[None]:
    """Send faults meanwhile, when the settings say where to.

    Args:
        transport: in the place of Sentry's own.

    Raises:
        StartError: they do, and the extra is not installed, or it is no address of Sentry's.
    """
    if settings.sentry_dsn is None:
        yield
        return
    try:
        import sentry_sdk
        from sentry_sdk.integrations.dedupe import DedupeIntegration
        from sentry_sdk.integrations.logging import LoggingIntegration
        from sentry_sdk.utils import BadDsn
    except ImportError:
        raise StartError("sentry_dsn is set, and Sentry is not installed: pip install 'catfish[sentry]'") from None
    redact = Redactor(settings.secrets())
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn,
            release=f"catfish@{__version__}",
            server_name=instance,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[LoggingIntegration(level=None, event_level=logging.ERROR), DedupeIntegration()],
            include_local_variables=False,
            include_source_context=False,
            auto_session_tracking=False,
            max_breadcrumbs=0,
            before_send=lambda event, hint: clean(event, redact),
            transport=transport,
        )
    except BadDsn as error:
        raise StartError(f"sentry_dsn: {redact(str(error))}") from None
    try:
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            await trio.to_thread.run_sync(sentry_sdk.get_client().close, FLUSH_S / 2, abandon_on_cancel=True)
        sentry_sdk.get_global_scope().set_client(None)


def clean(event: Any, redact: Callable[[str], str]) -> Any:
    """The same, every text in it without secrets."""
    if isinstance(event, str):
        return redact(event)
    if isinstance(event, Mapping):
        return {key: clean(value, redact) for key, value in event.items()}
    if isinstance(event, (list, tuple)):
        return [clean(value, redact) for value in event]
    return event
