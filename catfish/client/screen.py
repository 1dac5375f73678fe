"""Where lines come from and where they go: a terminal with a prompt that stays below what arrives, or plain pipes."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.text import Text

from catfish.client.lines import COMMANDS

_READ_BYTES = 65_536
_LINE_CHARS_MAX = 1_048_576
"""A longer line from a pipe comes in pieces."""


class Screen(Protocol):
    """What the chat needs of a terminal."""

    interactive: bool

    async def show(self, lines: Iterable[Text]) -> None:
        """What was said. Raises BrokenPipeError when nobody reads any more."""

    async def note(self, lines: Iterable[Text]) -> None:
        """What happened besides."""

    def running(self) -> AbstractContextManager[object]:
        """Around everything else."""

    async def read(self) -> str | None:
        """The next line that is typed; None at the end of the input."""

    def refresh(self, toolbar: str) -> None:
        """The line of state has changed."""


class Pipe:
    """Lines in, lines out; what happened besides goes to standard error."""

    interactive = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._read_ahead = ""
        self._ended = False

    def running(self) -> AbstractContextManager[object]:
        return nullcontext()

    async def show(self, lines: Iterable[Text]) -> None:
        await self._write(1, lines)

    async def note(self, lines: Iterable[Text]) -> None:
        await self._write(2, lines)

    async def _write(self, descriptor: int, lines: Iterable[Text]) -> None:
        data = "".join(f"{line.plain}\n" for line in lines).encode("utf-8", "replace")
        # In a thread: whoever reads the pipe may be slow, and the connection must be looked after meanwhile. On the
        # descriptor: a thread that is left waiting would hold the lock of sys.stdout at exit.
        while data:
            written = await trio.to_thread.run_sync(os.write, descriptor, data, abandon_on_cancel=True)
            data = data[written:]

    async def read(self) -> str | None:
        while True:
            line, found, rest = self._read_ahead.partition("\n")
            if found:
                self._read_ahead = rest
                return line.removesuffix("\r")
            if self._ended or len(line) > _LINE_CHARS_MAX:
                self._read_ahead = ""
                return line or None
            data = await trio.to_thread.run_sync(os.read, 0, _READ_BYTES, abandon_on_cancel=True)
            self._read_ahead += self._decoder.decode(data, final=not data)
            self._ended = not data

    def refresh(self, toolbar: str) -> None:
        pass


class Prompt:
    """A terminal: the prompt is the last line, and what arrives is printed above it.

    prompt_toolkit runs its own event loop in a worker thread; everything else stays on Trio.

    Args:
        message: in front of what is typed.
        typed: called on Trio's thread whenever the text at the prompt changes, with that text.
    """

    interactive = True

    def __init__(self, message: str, typed: Callable[[str], None]) -> None:
        self._message = message
        self._toolbar = ""
        self._typed = typed
        self._token: trio.lowlevel.TrioToken | None = None
        self._stopping = False
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._session: PromptSession[str] = PromptSession(
            erase_when_done=True,  # the message comes back from the server, with its number and time
            bottom_toolbar=lambda: self._toolbar,
            completer=WordCompleter(list(COMMANDS), sentence=True),
            complete_while_typing=False,
        )

    async def show(self, lines: Iterable[Text]) -> None:
        await trio.lowlevel.checkpoint()
        for line in lines:
            self._console.print(line, soft_wrap=True)

    note = show

    def refresh(self, toolbar: str) -> None:
        if toolbar != self._toolbar:
            self._toolbar = toolbar
            self._session.app.invalidate()

    def running(self) -> AbstractContextManager[object]:
        return patch_stdout(raw=True)

    async def read(self) -> str | None:
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
            self._session.default_buffer.on_text_changed += self._tell_of_typing
        self._stopping = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            line = await trio.to_thread.run_sync(self._prompt)
            nursery.cancel_scope.cancel()
        return line

    def _prompt(self) -> str | None:
        """In the worker thread."""
        while True:
            try:
                return self._session.prompt(self._message, handle_sigint=False, pre_run=self._stop_if_asked)
            except KeyboardInterrupt:
                # Ctrl-C throws away what was typed; when nothing was, it leaves.
                if not self._session.default_buffer.text:
                    return None
            except EOFError:
                return None

    async def _stop_when_cancelled(self) -> None:
        """The thread gives the terminal back as it was before it ends, so it is asked to, and waited for."""
        try:
            await trio.sleep_forever()
        finally:
            self._stopping = True
            loop = self._session.app.loop
            if loop is not None and not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(self._stop_if_asked)
                except RuntimeError:
                    pass  # it was closed meanwhile: the prompt has ended by itself

    def _stop_if_asked(self) -> None:
        app = self._session.app
        if self._stopping and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    def _tell_of_typing(self, buffer: Buffer) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._typed, buffer.text)
