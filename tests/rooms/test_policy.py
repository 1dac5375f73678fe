"""Policy and codes: what is accepted, and that refusals name the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.codes import CODE_ALPHABET, draw_code, draw_id, normalise_code
from catfish.rooms.model import RoomKind
from catfish.rooms.policy import Policy

POLICY = Policy(Settings())


@pytest.mark.parametrize(
    ("check", "value", "field"),
    [
        (POLICY.room, "", "room"),
        (POLICY.room, "x" * 129, "room"),
        (POLICY.room, "a\nb", "room"),
        (POLICY.room, " a", "room"),
        (POLICY.room, "a\u2028b", "room"),
        (POLICY.user, "\ud800", "user"),
        (POLICY.user, "a\0", "user"),
        (POLICY.name, "   ", "name"),
        (POLICY.name, "n" * 65, "name"),
        (POLICY.code, "x" * 13, "code"),
        (POLICY.event, "", "event"),
        (POLICY.client_id, "c" * 129, "clientId"),
        (POLICY.emoji, "e" * 33, "emoji"),
        (POLICY.content, "", "content"),
        (POLICY.content, "x" * 5001, "content"),
        (POLICY.content, "a\0b", "content"),
        (POLICY.content, "a\ud800b", "content"),
        (POLICY.limit, -1, "limit"),
        (POLICY.limit, 201, "limit"),
        (POLICY.interests, ["x"] * 17, "interests"),
        (POLICY.interests, [""], "interests"),
        (lambda value: POLICY.capacity(RoomKind.OPEN, value), 0, "capacity"),
        (lambda value: POLICY.capacity(RoomKind.OPEN, value), 10_001, "capacity"),
        (lambda value: POLICY.seq("before", value), 0, "before"),
        (lambda value: POLICY.seq("before", value), 2**53, "before"),
    ],
)
def test_a_refusal_names_the_field(check: Callable[[Any], object], value: object, field: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check(value)
    assert refusal.value.code == "bad_request"
    assert refusal.value.message.startswith(f"{field}: ")


def test_what_people_write_is_accepted_as_it_is() -> None:
    assert POLICY.content(" zwei\nZeilen 🐟\t") == " zwei\nZeilen 🐟\t"
    assert POLICY.room("日本語 room/1#x") == "日本語 room/1#x"
    assert POLICY.name("  Ann 🐟 ") == "Ann 🐟"
    assert POLICY.client_id(None) is None
    assert POLICY.limit(None) == 50
    assert POLICY.limit(0) == 0
    assert POLICY.interests([" Jazz", "jazz ", "Go"]) == ("jazz", "go")
    assert POLICY.capacity(RoomKind.OPEN, None) is None
    assert POLICY.capacity(RoomKind.MATCHED, 99) == 2


@given(st.text())
def test_any_text_is_accepted_or_refused_and_what_is_accepted_can_be_stored(text: str) -> None:
    for check in (POLICY.room, POLICY.user, POLICY.name, POLICY.emoji, POLICY.content):
        try:
            accepted = check(text)
        except Rejected:
            continue
        assert "\0" not in accepted
        accepted.encode()


def test_codes_can_be_read_out_and_differ() -> None:
    codes = {draw_code() for _ in range(200)}
    assert len(codes) > 190
    for code in codes:
        assert len(code) == 6
        assert set(code) <= set(CODE_ALPHABET)
    assert not set("0o1il") & set(CODE_ALPHABET)
    assert normalise_code(" AbC234\n") == "abc234"
    assert draw_id("r").startswith("r-")
    assert draw_id("r") != draw_id("r")
