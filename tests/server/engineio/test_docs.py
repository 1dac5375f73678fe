"""The echo server of `docs/engineio.md`."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from catfish.config import Settings
from catfish.server.engineio.states import Reason
from catfish.wire.engineio import REFUSALS
from tests.server.docs import DOCS, open_documented
from tests.server.engineio.test_end_to_end import Messages


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]])
async def test_the_documented_server_echoes(transports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_documented("engineio.md", monkeypatch) as url:
        messages = Messages()
        await trio.to_thread.run_sync(partial(messages.client.connect, url, transports=transports))
        messages.client.send("hello")
        messages.client.send(b"\1\2")
        assert await messages.next(2) == ["hello", b"\1\2"]
        await trio.to_thread.run_sync(messages.client.disconnect)


def test_the_documents_name_every_refusal_reason_and_setting_rightly() -> None:
    text = (DOCS / "engineio.md").read_text()
    for refusal in REFUSALS:
        assert f"| {refusal.code} | {refusal.message} |" in text
    for reason in Reason:
        assert f"`{reason}`" in text
    for name in ("ping_interval_ms", "ping_timeout_ms", "close_timeout_s", "outbox_bytes_max", "poll_packets_max"):
        assert f"`{name}`" in text
        assert hasattr(Settings(), name)
