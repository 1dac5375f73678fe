"""Which vocabularies there are: the built-in ones, and those of installed packages.

A package brings one by an entry point in the group `catfish.contracts`: its name is the vocabulary's, its object what
makes the vocabulary when it is called without arguments (a class is such). See `docs/contracts.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from catfish.contracts.catfish import Catfish
from catfish.contracts.chatpoc import ChatPoc
from catfish.contracts.interface import Vocabulary
from catfish.contracts.peerprep import PeerPrep
from catfish.contracts.pulsechat import PulseChat
from catfish.contracts.yum import Yum
from catfish.errors import StartError

GROUP: Final = "catfish.contracts"
ALL: Final = "all"
METHODS: Final = ("claims", "handle", "refuse", "render")
BUILT_IN: Final[dict[str, Callable[[], Vocabulary]]] = {
    "catfish": Catfish,
    "yum": Yum,
    "chatpoc": ChatPoc,
    "pulsechat": PulseChat,
    "peerprep": PeerPrep,
}


def load_vocabularies(names: Sequence[str], plug_ins: Iterable[EntryPoint] | None = None) -> list[Vocabulary]:
    """Make the vocabularies of these names, in this order, each once.

    Args:
        names: `all` stands for the built-in ones and, behind them, those of all installed packages.
        plug_ins: for tests; by default the entry points of what is installed.

    Raises:
        StartError: there is no vocabulary of a name, or it is broken; only those that are asked for are looked at.
    """
    found: dict[str, list[EntryPoint]] = {}
    for plug_in in entry_points(group=GROUP) if plug_ins is None else plug_ins:
        found.setdefault(plug_in.name, []).append(plug_in)
    available = [*BUILT_IN, *sorted(found.keys() - BUILT_IN.keys())]
    chosen: dict[str, Vocabulary] = {}
    for name in names:
        for each in available if name == ALL else [name]:
            if each not in chosen:
                chosen[each] = _make(each, found.get(each, []), available)
    return list(chosen.values())


def choose(vocabularies: Iterable[Vocabulary], event: str, args: Sequence[Any]) -> Vocabulary | None:
    """The vocabulary of a socket whose first event this is; None when it belongs to none."""
    for vocabulary in vocabularies:
        if vocabulary.claims(event, args):
            return vocabulary
    return None


def _make(name: str, plug_ins: list[EntryPoint], available: list[str]) -> Vocabulary:
    built_in = BUILT_IN.get(name)
    if len(plug_ins) + (built_in is not None) > 1:
        origins = ["catfish itself"] * (built_in is not None) + [_package(plug_in) for plug_in in plug_ins]
        raise StartError(f"contracts: there are several vocabularies {name!r}: of {', '.join(origins)}; remove one")
    if built_in is not None:
        return built_in()
    if not plug_ins:
        raise StartError(f"contracts: there is no vocabulary {name!r}; there are {', '.join(available)}")
    return _load(plug_ins[0])


def _load(plug_in: EntryPoint) -> Vocabulary:
    broken = f"contracts: the vocabulary {plug_in.name!r} of {_package(plug_in)} cannot be used"
    try:
        vocabulary = plug_in.load()()
    except Exception as error:
        raise StartError(f"{broken}: {type(error).__name__}: {error}") from error
    missing = [method for method in METHODS if not callable(getattr(vocabulary, method, None))]
    if missing:
        raise StartError(f"{broken}: {plug_in.value} has no {', '.join(missing)}")
    name = getattr(vocabulary, "name", None)
    if name != plug_in.name:
        raise StartError(f"{broken}: its name is {name!r}, and that of its entry point {plug_in.name!r}")
    made: Vocabulary = vocabulary
    return made


def _package(plug_in: EntryPoint) -> str:
    return f"package {plug_in.dist.name}" if plug_in.dist is not None else plug_in.value
