"""Plays transcripts recorded from the original servers without sockets, in virtual time; HTTP steps are left out.

`tests.transcripts` has the transcripts, says what their expectations mean, and plays them over the network.
"""

from __future__ import annotations

from typing import Any

import trio

from tests.contracts.harness import Sockets
from tests.transcripts.expectation import Expectation


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
        self.expectation = Expectation(transcript, variables, known)
        self.log: dict[str, list[tuple[int, str, list[Any]]]] = {}

    async def run(self, sockets: Sockets) -> list[str]:
        """Play all steps; what differs from the expectation, in words."""
        clients: dict[str, Any] = {}
        for number, step in enumerate(self.transcript["steps"]):
            name, action = step["client"], step["action"]
            if name == "$http":
                continue
            args = self.expectation.fill(step["args"])
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
        return self.expectation.differences(self.log)

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
            self.expectation.variables[variable] = value

    def _note(self, step: int, client: str, event: str, args: list[Any]) -> None:
        self.log.setdefault(client, []).append((step, event, args))
