"""UUIDs of conversations and messages."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.rooms.uuids import NUMBER_BITS, SEQ_BITS, canonical_uuid, draw_uuid, message_uuid, parse_message_uuid


@given(st.integers(0, 2**NUMBER_BITS - 1), st.integers(0, 2**SEQ_BITS - 1))
def test_a_message_s_uuid_leads_back_to_it(number: int, seq: int) -> None:
    text = message_uuid(number, seq)
    assert parse_message_uuid(text) == parse_message_uuid(text.upper()) == (number, seq)
    found = uuid.UUID(text)
    assert (found.version, found.variant) == (8, uuid.RFC_4122)


@pytest.mark.parametrize(("number", "seq"), [(-1, 1), (1, -1), (2**60, 1), (1, 2**62)])
def test_what_has_no_uuid(number: int, seq: int) -> None:
    with pytest.raises(ValueError):
        message_uuid(number, seq)


@given(st.one_of(st.text(max_size=40), st.uuids().map(str)))
def test_other_texts_lead_nowhere_or_come_from_a_message(text: str) -> None:
    place = parse_message_uuid(text)
    assert place is None or message_uuid(*place) == text.lower()


def test_there_is_one_form_of_a_uuid() -> None:
    drawn = draw_uuid()
    assert canonical_uuid(drawn) == canonical_uuid(drawn.upper()) == drawn
    assert uuid.UUID(drawn).version == 4
    for text in (f"{{{drawn}}}", drawn.replace("-", ""), f"urn:uuid:{drawn}", "", "x" * 36, drawn[:-1] + "١"):
        assert canonical_uuid(text) is None
