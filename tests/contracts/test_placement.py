"""Which vocabularies are spoken where."""

from __future__ import annotations

import pytest

from catfish.config import Settings
from catfish.contracts.placement import Placement
from catfish.contracts.registry import BUILT_IN


def spoken(path: str, *entries: str, namespaces: tuple[str, ...] = ("/",)) -> dict[str, list[str]]:
    places = Placement(entries, namespaces).on(path)
    return {namespace: [vocabulary.name for vocabulary in found] for namespace, found in places.items()}


def test_all_are_spoken_everywhere_by_default() -> None:
    settings = Settings()
    placement = Placement(settings.contracts, settings.socketio_namespaces)
    for path in settings.socketio_paths:
        assert {name: len(found) for name, found in placement.on(path).items()} == {"/": len(BUILT_IN)}


def test_a_place_is_a_path_a_namespace_or_both() -> None:
    entries = ("yum@/a", "chatpoc@/b/#/poc", "peerprep#/peers", "catfish")
    assert spoken("/a", *entries) == {"/": ["yum", "catfish"], "/peers": ["peerprep"]}
    assert spoken("/b", *entries) == {"/": ["catfish"], "/poc": ["chatpoc"], "/peers": ["peerprep"]}
    assert spoken("/c/", *entries) == {"/": ["catfish"], "/peers": ["peerprep"]}


def test_a_name_without_a_namespace_is_in_all_of_the_setting() -> None:
    assert spoken("/x", "yum", namespaces=("/", "/two")) == {"/": ["yum"], "/two": ["yum"]}


def test_a_vocabulary_in_several_places_is_the_same_one() -> None:
    placement = Placement(("yum@/a", "yum@/b"), ("/",))
    assert placement.on("/a")["/"][0] is placement.on("/b")["/"][0]


@pytest.mark.parametrize("entry", ["", "yum@x", "yum#x", "yum@/a b", "y um"])
def test_what_is_no_place_is_refused_by_the_settings(entry: str) -> None:
    with pytest.raises(ValueError, match="NAME@PATH"):
        Settings(contracts=(entry,))
