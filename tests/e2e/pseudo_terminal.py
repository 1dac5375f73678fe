"""A program in a pseudo-terminal, with a person who types and reads."""

from __future__ import annotations

import os
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import trio

from tests.e2e.process import until

SHOWS_S = 60.0
_SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
_WHERE_IS_THE_CURSOR = b"\x1b[6n"
_HERE = b"\x1b[1;1R"


@asynccontextmanager
async def pseudo_terminal(*arguments: str) -> AsyncIterator[PseudoTerminal]:
    """`catfish ARGUMENTS` in a terminal of 80 columns; killed at the end when it still runs."""
    ours, theirs = os.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    terminal = PseudoTerminal(trio.lowlevel.FdStream(ours), theirs)
    async with terminal.stream, trio.open_nursery() as nursery:
        try:
            terminal.process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "catfish", *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                env={**os.environ, "TERM": "xterm-256color"},
                cwd=Path(__file__).parents[2],
            )
            nursery.start_soon(terminal.listen)
            yield terminal
        finally:
            if terminal.process is not None:
                if terminal.process.returncode is None:
                    terminal.process.kill()
                with trio.CancelScope(shield=True):
                    await terminal.process.wait()
            os.close(theirs)
            nursery.cancel_scope.cancel()


class PseudoTerminal:
    """What is typed into a program, and what it shows."""

    def __init__(self, stream: trio.lowlevel.FdStream, theirs: int) -> None:
        self.stream = stream
        self.process: trio.Process | None = None
        self._theirs = theirs
        self._raw = b""
        self._sending = trio.Lock()
        self.attributes_before = self.attributes()

    async def listen(self) -> None:
        async for data in self.stream:
            self._raw += data
            for _ in range(data.count(_WHERE_IS_THE_CURSOR)):
                await self._send(_HERE)

    def attributes(self) -> list[Any]:
        """Of the terminal: whether it echoes, and so on."""
        return termios.tcgetattr(self._theirs)

    @property
    def text(self) -> str:
        """Everything that was written so far, without what moves the cursor or colours text."""
        return _SEQUENCES.sub(b"", self._raw).decode("utf-8", "replace")

    async def shows(self, *texts: str) -> None:
        """Wait until all of `texts` were written."""
        with trio.move_on_after(SHOWS_S):
            await until(lambda: all(text in self.text for text in texts))
        missing = [text for text in texts if text not in self.text]
        assert not missing, f"{missing} not in:\n{self.text}"

    async def type(self, keys: str) -> None:
        await self._send(keys.encode())

    async def _send(self, data: bytes) -> None:
        async with self._sending:  # keys and answers of the terminal come from different tasks
            await self.stream.send_all(data)

    def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()

    async def ends(self) -> int:
        assert self.process is not None
        return await self.process.wait()
