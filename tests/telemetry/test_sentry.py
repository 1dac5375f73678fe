"""What Sentry gets: faults, and no secrets."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from catfish.config import Settings
from catfish.errors import StartError
from catfish.telemetry.sentry import open_sentry

log = logging.getLogger("catfish.test")
SETTINGS = Settings(sentry_dsn="http://key@127.0.0.1:9/1", jwt_secret="hush-hush-hush-hush-hush-hush-hush")


def make_transport() -> tuple[Any, list[Any]]:
    pytest.importorskip("sentry_sdk", reason="Sentry is not installed (extra sentry).")
    from sentry_sdk.transport import Transport

    events: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            events.append(envelope.get_event())

    return Kept, events


def fail(secret: str) -> None:
    raise RuntimeError(f"it broke with {secret} and postgresql://chat:word@db/x")


async def test_a_fault_is_sent_with_its_traceback_and_without_secrets() -> None:
    transport, events = make_transport()
    async with open_sentry(SETTINGS, "i-1", transport):
        log.warning("not this")
        try:
            fail("hush-hush-hush-hush-hush-hush-hush")
        except RuntimeError:
            log.exception("a handler failed", extra={"connection": 17})
    log.error("not any more")
    (event,) = events
    assert event["logger"] == "catfish.test"
    assert event["extra"]["connection"] == 17
    assert event["server_name"] == "i-1"
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "RuntimeError"
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"
    assert "vars" not in exception["stacktrace"]["frames"][-1]
    text = repr(event)
    assert "hush" not in text
    assert "word" not in text
    assert "***" in text


async def test_without_a_dsn_nothing_is_imported_or_sent() -> None:
    async with open_sentry(Settings(), "i-1", None):
        log.error("nobody hears that")


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(StartError, match=r"pip install 'catfish\[sentry\]'"):
        async with open_sentry(SETTINGS, "i-1"):
            pass


async def test_a_dsn_that_is_none_is_refused_without_showing_it() -> None:
    make_transport()
    with pytest.raises(StartError, match="sentry_dsn"):
        async with open_sentry(Settings(sentry_dsn="http://hush@x/"), "i-1"):
            pass
