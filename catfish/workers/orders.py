"""What a worker is told when it is started: one variable of its environment, which only its own account can read."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, Self

import attrs
import cattrs
import msgspec

from catfish.config import Settings

VARIABLE: Final = "CATFISH_WORKER"


@attrs.frozen(kw_only=True)
class Orders:
    index: int
    """Which of the workers it is."""
    tag: str
    """The name of the process; see `tags`."""
    directory: Path
    """Of the sockets of all workers."""
    control: int
    """Descriptor of its end of the pair that joins it with its parent."""
    board: int
    """Descriptor of the shared memory."""
    board_entries: int
    entry: int
    """Its own on the board."""
    settings: Settings
    """The effective ones: they name the inherited sockets, and the databases that the parent runs."""

    def encode(self) -> str:
        """The value of the variable."""
        return msgspec.json.encode(_converter.unstructure(self)).decode()

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self:
        """What `encode` made. The variable is removed, so that nobody takes it for his.

        Raises:
            KeyError: there is none.
        """
        return _converter.structure(msgspec.json.decode(environ.pop(VARIABLE)), cls)


_converter: Final = cattrs.Converter()
