"""Outages: shown while they last, logged once when they begin and once when they end, figures for operators."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import catfish
from catfish.rooms.events import Event
from catfish.rooms.ports import Mirror
from catfish.server.dependency import Dependency
from catfish.wire.native import Refusal
from tests.server.harness import Server, start_server


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    return await start_server(nursery, lease_s=9.0, journal_wait_s_max=2.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_outage_begins_with_the_first_who_notices_and_ends_with_the_last(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    database = Dependency("the database", "all waits")
    database.works("lease")
    assert database.state == "ok"
    for part in ("lease", "journal", "lease"):
        database.failed(part, "no route")
    assert database.state == "away"
    await trio.sleep(5)
    database.works("lease")
    assert database.state == "away"
    database.works("journal")
    database.works("journal")
    assert database.state == "ok"
    assert warnings(caplog) == ["the database does not answer: all waits", "the database answers again"]
    assert vars(caplog.records[0])["error"] == "no route"
    assert vars(caplog.records[1])["away_s"] == 5.0


async def test_an_outage_of_the_database_is_over_also_when_nobody_writes(
    server: Server, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    instance = server.instance
    [ann] = await server.join("lobby", "ann")
    server.store.away = True
    sent = ann.request("chat:send", {"room": "lobby", "content": "hi"})
    await trio.sleep(30)
    ann.read()
    assert isinstance(ann.replies[sent], Refusal)
    assert ann.replies[sent].code == "unavailable"
    assert instance.database.state == "away"
    server.store.away = False
    await trio.sleep(5)
    assert instance.database.state == "ok"
    assert not instance.journal.statistics().away
    begun, ended = [text for text in warnings(caplog) if text.startswith("the database")]
    assert begun.startswith("the database does not answer: ")
    assert ended == "the database answers again"


async def test_a_quiet_server_notices_an_outage_by_its_lease(server: Server, autojump_clock: MockClock) -> None:
    server.store.away = True
    await trio.sleep(4)
    assert server.instance.database.state == "away"
    server.store.away = False
    await trio.sleep(4)
    assert server.instance.database.state == "ok"


async def test_the_journal_stops_while_the_database_is_away(server: Server, autojump_clock: MockClock) -> None:
    [ann] = await server.join("lobby", "ann")
    server.store.away = True
    ann.request("chat:send", {"room": "lobby", "content": "hi"})
    await trio.sleep(30)
    with trio.fail_after(1):
        await server.instance.journal.flush()


class Away(Mirror):
    def publish(self, number: int, event: Event, to: str | None = None) -> None: ...


async def test_the_state_of_the_mirror_is_told(server: Server, autojump_clock: MockClock) -> None:
    supervisor = server.instance.supervisor
    assert supervisor.mirror_condition == "off"
    supervisor.mirror = Away()
    for connected, condition in [(True, "ok"), (False, "away"), (False, "away"), (True, "ok"), (True, "ok")]:
        supervisor.mirror_state(connected)
        assert supervisor.mirror_condition == condition


async def figures(server: Server) -> Any:
    """What it told last."""
    await trio.sleep(3.1)
    [record] = await server.store.administration.instances()
    return record.figures


async def test_an_instance_tells_how_it_is_with_its_lease(server: Server, autojump_clock: MockClock) -> None:
    server.instance.measure_lag_ms = lambda: 4
    [ann] = await server.join("lobby", "ann")
    told = await figures(server)
    assert (told.version, told.connections, told.rooms, told.mirror) == (catfish.__version__, 1, 1, "off")
    assert (told.pid > 0, told.host != "", told.mirror_lag_ms) == (True, True, 4)
    await ann.vanish()
    assert (await figures(server)).connections == 0
