"""What is counted, as a scrape shows it."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from catfish.histogram import Histogram
from catfish.http.observed import HttpFigures
from catfish.telemetry.exposition import expose
from catfish.telemetry.families import Families, decode_families, encode_families
from catfish.telemetry.loop import INTERVAL_S, LoopLag
from catfish.telemetry.readings import Sources, read
from catfish.telemetry.scrape import QUESTION, Reply, Scrape
from tests.server.harness import Server, start_server


def sources_of(server: Server) -> Sources:
    instance = server.instance
    return Sources(instance=instance, http=HttpFigures(instance.refusals), loop=LoopLag())


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class Others:
    """Two more workers, one of which is silent."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def index(self) -> int:
        return 0

    async def ask(self, question: str) -> list[Reply | None]:
        await trio.lowlevel.checkpoint()
        assert question == QUESTION
        return [Reply(1, self._data), None, Reply(2, b"?")]


def test_a_histogram_counts_a_value_in_the_bucket_that_holds_it() -> None:
    histogram = Histogram((1, 2.5, 10))
    for value in (0, 1, 1.5, 2.5, 11):
        histogram.observe(value)
    assert (histogram.counts, histogram.count, histogram.sum) == ([2, 2, 0, 1], 5, 16)


def test_families_survive_the_way_between_workers() -> None:
    families = Families()
    families.gauge("a", "A.", 1)
    families.counters("b", "B.", "code", {"x": 2})
    families.histogram("c", "C.", Histogram((1,)))
    assert decode_families(encode_families(families.all)) == families.all


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_an_exposition_is_what_prometheus_reads_with_every_worker_in_it(accept: str) -> None:
    families = Families()
    families.counter("catfish_things", "Things.", 3)
    families.histogram("catfish_s", "Seconds.", Histogram((0.5,)))
    content_type, body = expose({"0": families.all, "1": families.all}, accept)
    parse = parse_openmetrics if "openmetrics" in content_type else text_string_to_metric_families
    assert ("openmetrics" in content_type) == bool(accept)
    found = [sample for family in parse(body.decode()) for sample in family.samples]
    things = [(sample.labels, sample.value) for sample in found if sample.name == "catfish_things_total"]
    assert things == [({"worker": "0"}, 3), ({"worker": "1"}, 3)]
    assert [sample.labels["le"] for sample in found if sample.name == "catfish_s_bucket"] == ["0.5", "+Inf"] * 2


async def test_the_loop_is_late_by_as_much_as_it_was_kept_busy(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ticks: list[float] = []
    lag = LoopLag(lambda: ticks.append(trio.current_time()))
    nursery.start_soon(lag.run)
    await trio.sleep(INTERVAL_S * 1.5)
    assert lag.worst_s == 0
    autojump_clock.jump(INTERVAL_S * 2)  # as if something had kept the loop busy
    await trio.testing.wait_all_tasks_blocked()
    assert lag.worst_s == pytest.approx(INTERVAL_S * 1.5)
    await trio.sleep(10)
    assert lag.seconds.count >= 30
    assert 9 <= len(ticks) <= 12


async def test_a_message_a_refusal_and_a_batch_show_in_the_numbers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = await start_server(nursery)
    sources = sources_of(server)
    ada = server.connect()
    await ada.ask("hello", {"user": "ada"})
    await ada.ask("room:create", {})
    await ada.ask("room:join", {"rooms": "x"})
    families = decode_families(encode_families(read(sources)))
    found = {(sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples}
    assert found["catfish_sessions",] == 1
    assert found["catfish_journal_committed_total",] == found["catfish_journal_batch_commands_sum",] >= 1
    assert found["catfish_refusals_total", "bad_request"] == 1
    assert found["catfish_dependency_up", "database"] == 1
    assert ("catfish_dependency_up", "redis") not in found  # it is not configured
    assert found["process_open_fds",] > 2
    assert found["process_resident_memory_bytes",] > 10_000_000


async def test_a_scrape_that_reaches_one_worker_shows_all_that_reply(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    sources = sources_of(await start_server(nursery))
    alone = Scrape(sources, None)
    assert alone.reply("something else") == b""
    _, body = await Scrape(sources, Others(alone.reply(QUESTION)))("")
    found = samples(body)
    assert {dict(labels)["worker"] for name, labels in found if name == "catfish_rooms"} == {"0", "1"}
    assert found["catfish_workers_silent", (("worker", "0"),)] == 2
    _, own = await alone("")
    assert {dict(labels)["worker"] for _, labels in samples(own)} == {"0"}


def test_what_a_neighbour_says_is_decoded_strictly() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_families(b"\x93\x01\x02\x03")
