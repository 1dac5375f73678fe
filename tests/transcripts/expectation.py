"""What a transcript recorded from one of the original servers expects, whoever plays it.

A transcript is a list of steps and what every client hears in each of them, in order, and what every HTTP request is
answered. In what is expected, `{{room1}}` is any value, the same one in all places; `{{iso}}`, `{{number}}`,
`{{string}}` and `{{bearer_jwt}}` are any of their kind; `{{$name}}` is a value that an earlier step captured, and
`{{repeat x 5}}` is xxxxx. An object may have more keys than expected; in events the order of its keys counts. A client
may hear the events of `mayAlso` besides. Of a step that is `loose` only names of events and statuses count; `anyError`
is any status from 400 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

STAND_IN = re.compile(r"\{\{([a-z_]+?)(\d*)\}\}")
VARIABLE = re.compile(r"\{\{\$(\w+)\}\}")
REPEAT = re.compile(r"\{\{repeat (.) (\d+)\}\}")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
BEARER = re.compile(r"Bearer [\w-]+\.[\w-]+\.[\w-]+")
SID = re.compile(r'"sid":"[^"]*"')

Log = Mapping[str, list[tuple[int, str, list[Any]]]]
"""What each client heard: step, event, arguments."""


class Expectation:
    """Args:
    transcript: as it was read.
    variables: what steps have captured.
    known: stand-ins whose values are known otherwise.
    """

    def __init__(
        self,
        transcript: dict[str, Any],
        variables: Mapping[str, Any] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.transcript = transcript
        self.variables = dict(variables or {})
        self.bound = dict(known or {})

    def fill(self, value: Any) -> Any:
        """With what was captured in the place of variables."""
        if isinstance(value, str):
            whole = VARIABLE.fullmatch(value)
            if whole is not None:
                return self.variables[whole[1]]
            value = VARIABLE.sub(lambda found: str(self.variables[found[1]]), value)
            repeat = REPEAT.fullmatch(value)
            return value if repeat is None else repeat[1] * int(repeat[2])
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def differences(self, log: Log, answers: Mapping[int, dict[str, Any]] | None = None) -> list[str]:
        """What was not as expected, in words.

        Args:
            answers: to the HTTP requests, by step: `status`, and `json` or `text`. None: they were not played.
        """
        found: list[str] = []
        for number in range(len(self.transcript["steps"])):
            for client in sorted({*self.transcript["expect"], *log}):
                found += self._events(number, client, log)
            if answers is not None:
                found += self._answer(number, answers.get(number))
        return found

    def _events(self, number: int, client: str, log: Log) -> list[str]:
        may_also = self.transcript.get("mayAlso", [])
        loose = self.transcript["steps"][number].get("loose")
        want = [(e["event"], e["args"]) for e in self.transcript["expect"].get(client, []) if e["step"] == number]
        want = [(event, args) for event, args in want if event not in may_also]
        got = [(event, args) for step, event, args in log.get(client, []) if step == number]
        got = [(event, args) for event, args in got if event not in may_also]
        same = len(want) == len(got) and all(
            w[0] == g[0] and (loose or self._covers(w[1], g[1])) for w, g in zip(want, got, strict=True)
        )
        return [] if same else [f"step {number}, client {client}: expected {want}, got {got}"]

    def _answer(self, number: int, got: dict[str, Any] | None) -> list[str]:
        step = self.transcript["steps"][number]
        want = step.get("response")
        if want is None:
            return []
        if got is None:
            return [f"step {number} was not answered"]
        if step.get("anyError"):
            same = got["status"] >= 400
        else:
            same = got["status"] == want["status"]
            if not step.get("loose"):
                same &= "json" not in want or self._covers(want["json"], got.get("json"), ordered=False)
                same &= "text" not in want or want["text"] == SID.sub('"sid":"{{sid}}"', got.get("text", ""))
        return [] if same else [f"step {number}, {step['action']} {step['args'][0]}: expected {want}, got {got}"]

    def _covers(self, want: Any, got: Any, *, ordered: bool = True) -> bool:
        if isinstance(want, str):
            stand_in = STAND_IN.fullmatch(want)
            return bool(self.fill(want) == got) if stand_in is None else self._stands_for(stand_in, got)
        if isinstance(want, list):
            return (
                isinstance(got, list)
                and len(want) == len(got)
                and all(self._covers(w, g, ordered=ordered) for w, g in zip(want, got, strict=True))
            )
        if isinstance(want, dict):
            if not isinstance(got, dict):
                return False
            shared = [key for key in got if key in want]
            same = list(want) == shared if ordered else len(want) == len(shared)
            return same and all(self._covers(value, got[key], ordered=ordered) for key, value in want.items())
        return type(want) is type(got) and bool(want == got)

    def _stands_for(self, stand_in: re.Match[str], got: Any) -> bool:
        kind, number = stand_in.groups()
        if number:
            # The same value everywhere, and no other stand-in of its kind is it.
            name = stand_in[0]
            others = [bound for other, bound in self.bound.items() if other != name and other.startswith("{{" + kind)]
            return bool(self.bound.setdefault(name, got) == got) and got not in others
        if kind in ("iso", "bearer_jwt"):
            return isinstance(got, str) and (ISO if kind == "iso" else BEARER).fullmatch(got) is not None
        return isinstance(got, (int, float) if kind == "number" else str)
