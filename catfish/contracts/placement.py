"""Which vocabularies are spoken on which path and in which namespace.

Each entry of the setting `contracts` is a name, for every path and every namespace of `socketio_namespaces`, or a name
with its place: `yum@/socket.io`, `yum@/socket.io#/chat`, `yum#/chat`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from catfish.contracts.interface import Vocabulary
from catfish.contracts.registry import load_vocabularies

_ENTRY: Final = re.compile(r"(?P<name>[\w.-]+)(?:@(?P<path>/[^#\s]*))?(?:#(?P<namespace>/\S*))?")


class _Place(NamedTuple):
    names: frozenset[str]
    path: str | None
    """None: every path."""
    namespace: str | None
    """None: those of the setting."""


class Placement:
    """The vocabularies of a server, made once, and where each is spoken.

    Args:
        entries: the setting `contracts`.
        namespaces: the setting `socketio_namespaces`.

    Raises:
        StartError: as `load_vocabularies`.
    """

    def __init__(self, entries: Sequence[str], namespaces: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._places: list[_Place] = []
        found: dict[str, Vocabulary] = {}
        for entry in entries:
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise ValueError(f"{entry!r} is not NAME, NAME@PATH or NAME@PATH#NAMESPACE")
            loaded = load_vocabularies([match["name"]])
            for vocabulary in loaded:
                found.setdefault(vocabulary.name, vocabulary)
            names = frozenset(vocabulary.name for vocabulary in loaded)
            path = None if match["path"] is None else match["path"].rstrip("/")
            self._places.append(_Place(names, path, match["namespace"]))
        self.vocabularies = found
        """By name, in the order in which they are asked whose a first event is."""

    def on(self, path: str) -> dict[str, list[Vocabulary]]:
        """The namespaces of a path, and what is spoken in each."""
        path = path.rstrip("/")
        here = [place for place in self._places if place.path in (None, path)]
        names = dict.fromkeys([*self._namespaces, *(place.namespace for place in here if place.namespace is not None)])
        return {
            namespace: [
                vocabulary
                for name, vocabulary in self.vocabularies.items()
                if any(
                    name in place.names
                    and (namespace in self._namespaces if place.namespace is None else namespace == place.namespace)
                    for place in here
                )
            ]
            for namespace in names
        }
