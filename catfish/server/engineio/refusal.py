"""Requests that are refused in the protocol's own words."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from catfish.wire.engineio import Refusal
from catfish.wire.http import HttpRefusal

END: Final = "\r\n"
TOO_LARGE: Final = Refusal(3, 413, "Payload too large")
"""Not in the protocol: what a POST is told that is longer than `maxPayload`."""


class EngineRefusal(HttpRefusal):
    """A request that is answered with an error body of the protocol, whether it asked for a WebSocket or not."""

    def __init__(self, refusal: Refusal, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(refusal.status, refusal.message, headers)
        self.body = refusal.body

    def response(self) -> bytes:
        return (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            "Connection: close\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            f"{''.join(f'{name}: {value}{END}' for name, value in self.headers)}\r\n"
        ).encode() + self.body


class ClientGone(Exception):
    """The client ended its request before it was answered."""
