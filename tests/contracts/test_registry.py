"""Which vocabularies there are, and what is said when one cannot be had."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from catfish.contracts.catfish import Catfish
from catfish.contracts.registry import BUILT_IN, GROUP, choose, load_vocabularies
from catfish.contracts.yum import Yum
from catfish.errors import StartError


class Board(Catfish):
    name = "board"


class Mute:
    name = "mute"
    claims = handle = None


class Failing:
    def __init__(self) -> None:
        raise RuntimeError("no colours")


def plug_in(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{value}", GROUP)


def names(*asked: str, plug_ins: tuple[EntryPoint, ...] = ()) -> list[str]:
    return [vocabulary.name for vocabulary in load_vocabularies(asked, plug_ins)]


def test_all_are_the_built_in_ones_and_those_of_packages() -> None:
    assert names("all") == list(BUILT_IN) == ["catfish", "yum", "chatpoc", "pulsechat", "peerprep"]
    assert names("all", plug_ins=(plug_in("board", "Board"),)) == [*BUILT_IN, "board"]


def test_each_name_is_loaded_once_in_the_order_in_which_they_are_given() -> None:
    assert names("yum", "catfish", "yum") == ["yum", "catfish"]
    assert names("peerprep", "all")[:2] == ["peerprep", "catfish"]
    assert names() == []


def test_what_is_installed_is_looked_at_by_default() -> None:
    assert [vocabulary.name for vocabulary in load_vocabularies(["yum"])] == ["yum"]


def test_a_plug_in_that_is_not_asked_for_is_not_loaded() -> None:
    assert names("yum", plug_ins=(plug_in("broken", "Failing"),)) == ["yum"]


@pytest.mark.parametrize(
    ("name", "plug_ins", "says"),
    [
        ("nosuch", (), "there is no vocabulary 'nosuch'; there are catfish, yum, chatpoc, pulsechat, peerprep"),
        ("nosuch", (plug_in("board", "Board"),), "peerprep, board"),
        ("board", (plug_in("board", "Nowhere"),), "AttributeError: module .* has no attribute 'Nowhere'"),
        ("board", (EntryPoint("board", "no.such.module:Board", GROUP),), "ModuleNotFoundError: No module named 'no'"),
        ("board", (plug_in("board", "Failing"),), "RuntimeError: no colours"),
        ("board", (plug_in("board", "GROUP"),), "TypeError: 'str' object is not callable"),
        ("mute", (plug_in("mute", "Mute"),), "has no claims, handle, refuse, render"),
        ("easel", (plug_in("easel", "Board"),), "its name is 'board', and that of its entry point 'easel'"),
        ("board", (plug_in("board", "Board"), plug_in("board", "Yum")), "several vocabularies 'board'"),
        ("yum", (plug_in("yum", "Yum"),), "several vocabularies 'yum': of catfish itself, .*; remove one"),
    ],
)
def test_what_cannot_be_had_is_said_at_the_start(name: str, plug_ins: tuple[EntryPoint, ...], says: str) -> None:
    with pytest.raises(StartError, match=f"^contracts: .*{says}"):
        load_vocabularies([name], plug_ins)


@pytest.mark.parametrize(
    ("event", "args", "name"),
    [
        ("join-room", [], "catfish"),
        ("joinRoom", [], "yum"),
        ("room:create", [], "chatpoc"),
        ("JOIN", [], "pulsechat"),
        ("join_room", [], "peerprep"),
        ("send_message", [], "peerprep"),
        ("sendMessage", [], "yum"),
        ("send-message", [], "catfish"),
        ("send-message", [{"chatId": None}], "pulsechat"),
        ("leave-room", [{"room": 1}], "catfish"),
    ],
)
def test_a_first_event_chooses_the_vocabulary(event: str, args: list[Any], name: str) -> None:
    vocabulary = choose(load_vocabularies(["all"], ()), event, args)
    assert vocabulary is not None
    assert vocabulary.name == name


def test_what_belongs_to_none_chooses_none() -> None:
    vocabularies = load_vocabularies(["all"], ())
    assert [choose(vocabularies, event, []) for event in ("ping", "hello", "chat:history", "")] == [None] * 4
    assert choose([Yum()], "send-message", [{"room": "x"}]) is None
