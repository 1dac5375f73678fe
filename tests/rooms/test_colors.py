"""Colours of accounts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.rooms.colors import color_of


@pytest.mark.parametrize(("name", "color"), [("ann", "#5d2fc1"), ("bob", "#0071db"), ("cyd", "#b8652e")])
def test_colours_are_those_that_the_original_server_gave(name: str, color: str) -> None:
    assert color_of(f"{name}@example.test") == color


@given(st.text(st.characters(), max_size=300))
def test_every_text_has_a_colour(text: str) -> None:
    assert re.fullmatch(r"#[0-9a-f]{6}", color_of(text))
