"""Log lines in both forms, and no secret in either."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catfish import log as catfish_log
from catfish.log_limit import LineLimit

log = logging.getLogger("catfish.test")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("catfish")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(False)


def written(say: Callable[[], object], **options: Any) -> str:
    stream = io.StringIO()
    catfish_log.set_up(**{"level": "info", "form": "human", "stream": stream, **options})
    say()
    return stream.getvalue()


def fail() -> None:
    try:
        raise RuntimeError("postgresql://chat:hush@db/x broke")
    except RuntimeError:
        log.exception("oh", extra={"connection": 17})


def test_the_human_form_is_one_line_with_the_extras_behind() -> None:
    line = written(lambda: log.info("joined %s", "lobby", extra={"connection": 17, "user": "a b"}))
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'INFO    catfish.test: joined lobby connection=17 user="a b"\n'


def test_the_json_form_is_one_object_a_line_with_the_extras_as_values() -> None:
    extra = {"connection": 17, "peer": ("::1", 80), "path": Path("/x"), "odd": "\ud800", "level": "not this"}
    line = written(lambda: log.warning("hm", extra=extra), form="json")
    assert line.count("\n") == 1
    value = msgspec.json.decode(line)
    assert value.pop("time").endswith("Z")
    assert value == {
        "level": "warning",
        "logger": "catfish.test",
        "message": "hm",
        "connection": 17,
        "peer": ["::1", 80],
        "path": "/x",
        "odd": "?",
    }


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_traceback_is_logged_without_the_password_in_it(form: str) -> None:
    text = written(fail, form=form)
    assert "RuntimeError: postgresql://chat:***@db/x broke" in text
    assert "Traceback" in text
    assert "hush" not in text


@pytest.mark.parametrize("form", ["human", "json"])
def test_secrets_are_taken_out_wherever_they_stand(form: str) -> None:
    secret = 'k"ey-of-the-server'

    def say() -> None:
        log.error("token %s", secret, extra={"value": secret, "deep": {"list": [secret]}})

    text = written(say, form=form, secrets=[secret, "", "abc"])
    assert "of-the-server" not in text
    assert text.count("***") == 3


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize("form", ["human", "json"])
def test_tokens_are_taken_out_wherever_they_stand(form: str) -> None:
    def say() -> None:
        log.error("GET /ws?token=opaque&x=1 %s", JWT, extra={"target": "/a?room=b&access_token=opaque", "of": [JWT]})

    text = written(say, form=form)
    assert "opaque" not in text
    assert "eyJ" not in text
    assert "/ws?token=***&x=1 ***" in text


def test_the_password_of_a_url_that_is_secret_is_hidden_also_where_it_stands_alone() -> None:
    text = written(lambda: log.error("login pa/ss of chat failed"), secrets=["postgresql://chat:pa%2Fss@db/x"])
    assert text.endswith("login *** of chat failed\n")


def test_what_a_peer_sent_neither_forges_a_line_nor_steers_a_terminal() -> None:
    text = written(lambda: log.info("bad\nname \x1b[2J", extra={"name_given": 'a\r"b', "x": "\x9b1m"}))
    assert text.endswith("""bad\\nname \\x1b[2J name_given="a\\r'b" x="\\x9b1m"\n""")


def test_libraries_are_heard_from_warnings_on_unless_debugging() -> None:
    def say() -> None:
        log.debug("ours, debug")
        log.info("ours, info")
        logging.getLogger("library").info("theirs, info")
        logging.getLogger("library").warning("theirs, warning")

    text = written(say)
    assert [line.split(": ")[1] for line in text.splitlines()] == ["ours, info", "theirs, warning"]
    assert len(written(say, level="debug").splitlines()) == 4
    assert written(say, level="error") == ""


def test_under_systemd_the_priority_takes_the_place_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with path.open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        catfish_log.set_up(level="debug", form="human", stream=stream)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(level, "x")
    assert [line[:4] for line in path.read_text().splitlines()] == ["<7>D", "<6>I", "<4>W", "<3>E"]


def test_lines_say_which_request_and_which_connection_they_belong_to() -> None:
    def say() -> None:
        log.info("a")
        before = catfish_log.request_id.set("r-1"), catfish_log.connection_id.set(9)
        log.info("b")
        log.info("c", extra={"connection": 10})
        catfish_log.request_id.reset(before[0])
        catfish_log.connection_id.reset(before[1])

    lines = [msgspec.json.decode(line) for line in written(say, form="json").splitlines()]
    assert [(line.get("request"), line.get("connection")) for line in lines] == [(None, None), ("r-1", 9), ("r-1", 10)]


def test_of_many_lines_of_one_kind_a_second_the_last_says_how_many_were_left_out() -> None:
    now = 0.0
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(catfish_log.HumanFormatter(catfish_log.Redactor(()), journal=True))
    limit = LineLimit(2, handler.emit, clock=lambda: now)
    handler.addFilter(limit)
    logger = logging.getLogger("catfish.test.limit")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for number in range(5):
        logger.info("slow", extra={"number": number})
        logger.info("other %s", number % 1)
    now = 1.0
    limit.flush()
    logger.info("slow", extra={"number": 5})
    lines = [line.partition(": ")[2] for line in stream.getvalue().splitlines()]
    assert [line for line in lines if line.startswith("slow")] == [
        "slow number=0",
        "slow number=1",
        "slow number=4 left_out=2",
        "slow number=5",
    ]
    assert [line for line in lines if line.startswith("other")] == ["other 0", "other 0", "other 0 left_out=2"]


def test_what_was_left_out_is_told_at_the_end() -> None:
    stream = io.StringIO()
    catfish_log.set_up(level="info", form="human", stream=stream, lines_max=1)
    for _ in range(3):
        log.info("again")
    assert stream.getvalue().count("again") == 1
    assert catfish_log._limit is not None
    catfish_log._limit.flush(everything=True)
    assert stream.getvalue().rstrip().endswith("again left_out=1")
