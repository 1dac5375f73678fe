"""The claim `rooms` of a token."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from catfish.rooms.grants import EMIT, JOIN, MODERATE, READ, RIGHTS, SEND, Grants, parse_grants

GRANTS = Grants({"lobby": [JOIN, READ, SEND], "stage": [], "*": [JOIN, READ]})


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("lobby", {JOIN, READ, SEND}),
        ("stage", set()),
        ("elsewhere", {JOIN, READ}),
        ("*", {JOIN, READ}),
        ("Lobby", {JOIN, READ}),
    ],
)
def test_a_rooms_own_entry_decides_alone_and_the_star_about_the_rest(room: str, allowed: set[str]) -> None:
    assert {right for right in RIGHTS if GRANTS.allows(room, right)} == allowed


def test_without_a_star_other_rooms_are_closed() -> None:
    grants = Grants({"lobby": [MODERATE, EMIT]})
    assert grants.allows("lobby", MODERATE)
    assert not any(grants.allows("other", right) for right in RIGHTS)
    assert not any(Grants({}).allows("lobby", right) for right in RIGHTS)


def test_a_claim_comes_back_as_it_was_and_equal_ones_are_equal() -> None:
    claim = {"lobby": ["join", "read", "send"], "stage": [], "*": ["join", "read"]}
    assert GRANTS.claim() == claim
    read = parse_grants(claim)
    assert read == GRANTS
    assert hash(read) == hash(GRANTS)
    assert Grants({}) != GRANTS
    assert repr(Grants({"a": ["send"]})) == "Grants({'a': ['send']})"


def test_a_token_without_the_claim_restricts_nothing() -> None:
    assert parse_grants(None) is None


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("lobby", "must be an object"),
        (["lobby"], "must be an object"),
        (True, "must be an object"),
        ({"lobby": "join"}, "'lobby' must have a list of rights"),
        ({"lobby": [1]}, "'lobby' must have a list of rights"),
        ({"lobby": None}, "'lobby' must have a list of rights"),
        ({"lobby": ["jion"]}, "'jion', which is no right; there are join, read, send, emit, moderate"),
    ],
)
def test_a_claim_that_says_something_else_is_no_freedom(claim: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_grants(claim)


def test_the_guide_lists_the_rights() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text("utf-8")
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", guide, re.MULTILINE)) == dict(RIGHTS)
