"""Replays transcripts that were recorded from the original servers, in the format of their own checking program.

A transcript is a list of steps (`connect`, `emit`, `disconnect`, `kill`, `emit_then_disconnect`, `sleep`, each followed
by a pause) and what every client hears in each of them, in order. HTTP steps are left out here.

In what is expected, `{{room1}}` is any value, the same one in all places; `{{iso}}`, `{{number}}` and `{{string}}` are
any of their kind. An object may have more keys than expected, and a client may hear the events of `mayAlso`.
"""

from __future__ import annotations

import re
from typing import Any

import trio

from tests.contracts.harness import Sockets

STAND_IN = re.compile(r"\{\{(\w+?)(\d*)\}\}")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Replay:
    """Args:
    transcript: as it was read.
    variables: what HTTP steps would have captured.
    known: stand-ins whose values these steps would have shown.
    """

    def __init__(
        self,
        transcript: dict[str, Any],
        variables: dict[str, str] | None = None,
        known: dict[str, str] | None = None,
    ) -> None:
        self.transcript = transcript
        self.variables: dict[str, Any] = dict(variables or {})
        self.bound: dict[str, Any] = dict(known or {})
        self.log: dict[str, list[tuple[int, str, list[Any]]]] = {}

    async def run(self, sockets: Sockets) -> list[str]:
        """Play all steps; what differs from the expectation, in words."""
        clients: dict[str, Any] = {}
        for number, step in enumerate(self.transcript["steps"]):
            name, action = step["client"], step["action"]
            if name == "$http":
                continue
            args = self._fill(step["args"])
            if name == "$sleep":
                await trio.sleep(args[0] / 1000)
            elif action == "connect":
                clients[name] = sockets.connect()
                self._note(number, name, "$connect", [])
            elif action in ("disconnect", "kill"):
                reason = "io client disconnect" if action == "disconnect" else "transport close"
                clients[name].log.append(("$disconnect", reason))
                clients[name].close()
            elif action == "emit_then_disconnect":
                clients[name].emit(*args)
                clients[name].log.append(("$disconnect", "io client disconnect"))
                clients[name].close()
            elif step.get("ack"):
                await self._ask(number, step, clients[name], args)
            else:
                assert action == "emit"
                clients[name].emit(*args)
            await trio.sleep(self.transcript.get("settleMs", 200) / 1000)
            for each, client in clients.items():
                for event, *values in client.log:
                    self._note(number, each, event, values)
                client.log.clear()
        return self._compare()

    async def _ask(self, number: int, step: dict[str, Any], client: Any, args: list[Any]) -> None:
        acked = trio.Event()
        acks = client.request(*args, acked=acked)
        with trio.move_on_after(step.get("ackTimeout", 1000) / 1000):
            await acked.wait()
        if not acks:
            client.log.append(("$no_ack",))
        for variable, path in step.get("capture", {}).items():
            value: Any = acks[0]
            for key in path.split("."):
                value = value[int(key)] if isinstance(value, list) else value[key]
            self.variables[variable] = value

    def _note(self, step: int, client: str, event: str, args: list[Any]) -> None:
        self.log.setdefault(client, []).append((step, event, args))

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            whole = re.fullmatch(r"\{\{\$(\w+)\}\}", value)
            if whole is not None:
                return self.variables[whole[1]]
            return re.sub(r"\{\{\$(\w+)\}\}", lambda found: str(self.variables[found[1]]), value)
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self._fill(item) for key, item in value.items()}
        return value

    def _compare(self) -> list[str]:
        expected, may_also = self.transcript["expect"], self.transcript.get("mayAlso", [])
        differences = []
        for number in range(len(self.transcript["steps"])):
            for client in sorted({*expected, *self.log}):
                want = [(e["event"], e["args"]) for e in expected.get(client, []) if e["step"] == number]
                want = [(event, args) for event, args in want if event not in may_also]
                got = [(event, args) for step, event, args in self.log.get(client, []) if step == number]
                got = [(event, args) for event, args in got if event not in may_also]
                same = len(want) == len(got) and all(
                    w[0] == g[0] and self._covers(w[1], g[1]) for w, g in zip(want, got, strict=True)
                )
                if not same:
                    differences.append(f"step {number}, client {client}: expected {want}, got {got}")
        return differences

    def _covers(self, want: Any, got: Any) -> bool:
        if isinstance(want, str) and (stand_in := STAND_IN.fullmatch(want)):
            kind, number = stand_in.groups()
            if number:
                return self._is_bound(want, kind, got)
            if kind == "iso":
                return isinstance(got, str) and ISO.fullmatch(got) is not None
            return isinstance(got, (int, float) if kind == "number" else str)
        if isinstance(want, list):
            return isinstance(got, list) and len(want) == len(got) and all(map(self._covers, want, got))
        if isinstance(want, dict):
            if not isinstance(got, dict):
                return False
            shared = [key for key in got if key in want]
            return list(want) == shared and all(self._covers(value, got[key]) for key, value in want.items())
        return type(want) is type(got) and bool(want == got)

    def _is_bound(self, stand_in: str, kind: str, value: Any) -> bool:
        """Whether the stand-in is this value everywhere, and no other stand-in of its kind is."""
        others = [bound for name, bound in self.bound.items() if name != stand_in and name.startswith("{{" + kind)]
        return bool(self.bound.setdefault(stand_in, value) == value) and value not in others
