"""Values out of payloads, texts out of values, times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.config import Settings
from catfish.contracts.common import iso, ms_of, name_in, text_in
from catfish.rooms.policy import Policy


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_written_as_javascript_does_and_read_back(at_ms: int) -> None:
    text = iso(at_ms)
    assert ms_of(text) == at_ms
    seconds, ms = divmod(at_ms, 1000)
    expected = datetime.fromtimestamp(seconds, UTC).replace(microsecond=ms * 1000)
    assert text == expected.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert len(text) == 24


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2025-01-02T03:04:00.678Z", 1735787040678),
        ("2025-01-02T04:04:00.678+01:00", 1735787040678),
        ("2025-01-02T03:04:00", 1735787040000),
        ("2025-01-02", 1735776000000),
        ("1969-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        ("2025-13-01", None),
        ("2" * 50, None),
        (1735787040678, None),
        (None, None),
    ],
)
def test_times_of_clients(text: Any, at_ms: int | None) -> None:
    found = ms_of(text)
    assert found == at_ms or (text.startswith("9999") and (found or 0) > 253_000_000_000_000)


@given(st.text() | st.none() | st.integers())
def test_a_name_that_is_found_is_one_that_the_domain_takes(value: Any) -> None:
    name = name_in(value)
    if name is not None:
        assert Policy(Settings()).name(name) == name


def test_names_are_cut_and_cleaned() -> None:
    assert name_in("  Ann\n\u2028 B.\0 ") == "Ann B."
    assert name_in("x" * 63 + " y") == "x" * 63
    assert name_in("\u0007 ") is None
    assert name_in(["Ann"]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ({"userId": 1, "content": "D"}, "D"),
        ({"senderId": 1, "text": "C"}, "C"),
        ({"messageContent": "m"}, "m"),
        ({"content": 1, "text": "t"}, "t"),
        ({}, ""),
        (None, ""),
        (["x"], ""),
        ("x" * 20, "x" * 10),
    ],
)
def test_the_text_of_a_value_that_nobody_checked(value: Any, text: str) -> None:
    assert text_in(value, 10) == text
