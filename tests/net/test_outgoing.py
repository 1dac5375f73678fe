"""A message is framed once and compressed once, and everyone gets the same bytes."""

from __future__ import annotations

import pytest

from catfish.net import outgoing as module
from catfish.net.outgoing import Outgoing
from catfish.wire.websocket.deflate import Inflater
from catfish.wire.websocket.frames import BINARY, TEXT, build_frame

LONG = b'{"text": "again and again and again"}' * 50


def test_frames_are_built_once_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    real = module._deflater.compress

    class Counting:
        def compress(self, payload: bytes) -> bytes:
            calls.append(payload)
            return real(payload)

    monkeypatch.setattr(module, "_deflater", Counting())
    outgoing = Outgoing(LONG, TEXT, 1024)
    plain, deflated = outgoing.frame(False), outgoing.frame(True)
    assert plain == build_frame(TEXT, LONG)
    assert len(deflated) < len(plain)
    for _ in range(3):
        assert outgoing.frame(False) is plain
        assert outgoing.frame(True) is deflated
    assert calls == [LONG]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_compressed_frame_says_so_and_inflates(opcode: int) -> None:
    frame = Outgoing(LONG, opcode, 0).deflated
    assert frame[0] == 0x80 | 0x40 | opcode
    payload = frame[4:] if frame[1] == 126 else frame[2:]
    assert Inflater().inflate_message(payload, 10_000) == LONG


def test_small_and_stubborn_messages_go_as_they_are() -> None:
    small = Outgoing(b"x" * 1023, TEXT, 1024)
    assert small.frame(True) is small.plain
    exact = Outgoing(b"x" * 1024, TEXT, 1024)
    assert exact.frame(True) is exact.deflated is not exact.plain
    noise = Outgoing(bytes(range(256)), BINARY, 0)
    assert noise.frame(True) is noise.plain
    assert Outgoing(b"", TEXT, 0).frame(True) == build_frame(TEXT, b"")
