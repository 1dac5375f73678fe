"""Whether something that the server needs answers, as those who use it notice.

Several parts of the server notice an outage, each in its own time; it is logged once when the first does, and once when
the last of them is served again.
"""

from __future__ import annotations

import logging

import trio

log = logging.getLogger(__name__)


class Dependency:
    """Args:
    name: as it stands in a sentence, such as "the database".
    consequence: what is different without it.
    """

    def __init__(self, name: str, consequence: str) -> None:
        self._name = name
        self._consequence = consequence
        self._without: set[str] = set()
        self._away_since = 0.0

    @property
    def away(self) -> bool:
        return bool(self._without)

    @property
    def state(self) -> str:
        """As `/health` tells it: ok or away."""
        return "away" if self._without else "ok"

    def failed(self, part: str, error: object = None) -> None:
        """A part of the server did not get an answer."""
        if not self._without:
            self._away_since = trio.current_time()
            extra = {"noticed_by": part} if error is None else {"noticed_by": part, "error": str(error)}
            log.warning("%s does not answer: %s", self._name, self._consequence, extra=extra)
        self._without.add(part)

    def works(self, part: str) -> None:
        """That part got one."""
        if part in self._without:
            self._without.remove(part)
            if not self._without:
                away_s = round(trio.current_time() - self._away_since, 1)
                log.warning("%s answers again", self._name, extra={"away_s": away_s})
