"""The answer to a scrape, whichever worker it reaches: the numbers of all."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple, Protocol

import msgspec

from catfish.telemetry.exposition import expose
from catfish.telemetry.families import Families, Family, decode_families, encode_families
from catfish.telemetry.readings import Sources, read

log = logging.getLogger(__name__)

QUESTION: Final = "metrics"


class Reply(NamedTuple):
    worker: int
    data: bytes


class Others(Protocol):
    """The other workers."""

    @property
    def index(self) -> int:
        """Our own number."""

    async def ask(self, question: str) -> list[Reply | None]:
        """What each of them replies; None: it does not."""


class Scrape:
    """Args:
    others: None where there is one process.
    """

    def __init__(self, sources: Sources, others: Others | None) -> None:
        self._sources = sources
        self._others = others

    def reply(self, question: str) -> bytes:
        """What a neighbour is told. Nothing, for a question that this version does not know."""
        return encode_families(read(self._sources)) if question == QUESTION else b""

    async def __call__(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of the exposition, in a form that the request accepts."""
        own = read(self._sources)
        workers: dict[str, list[Family]] = {}
        if self._others is not None:
            silent = 0
            for reply in await self._others.ask(QUESTION):
                families = None if reply is None else _decoded(reply)
                if reply is None or families is None:
                    silent += 1
                else:
                    workers[str(reply.worker)] = families
            told = Families()
            told.gauge("catfish_workers_silent", "Workers that serve, and did not answer this worker.", silent)
            own += told.all
        # While a worker is replaced there are two with its number: the one that goes on counts.
        workers.setdefault("0" if self._others is None else str(self._others.index), own)
        return expose(dict(sorted(workers.items(), key=lambda each: int(each[0]))), accept)


def _decoded(reply: Reply) -> list[Family] | None:
    try:
        return decode_families(reply.data)
    except msgspec.DecodeError as error:
        log.debug("a worker's numbers cannot be read", extra={"worker": reply.worker, "error": str(error)})
        return None
