"""`catfish chat ROOM`: talk in a room from a terminal, or from a script through pipes.

`View` says how things look, `Screen` where they go; here they meet the client.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any, Final

import trio

from catfish.client.client import Client, connect
from catfish.client.errors import ClientClosed, ClientError, ConnectFailed
from catfish.client.lines import Act, Ask, Delete, Edit, Line, Mistake, React, Say, parse_line
from catfish.client.link import Address, parse_url
from catfish.client.screen import Pipe, Prompt, Screen
from catfish.client.states import State
from catfish.client.text import visible
from catfish.client.view import Shown, View, help_lines, notice
from catfish.errors import Rejected, StartError

_CODE: Final = re.compile(r"[2-9a-hjkmnp-z]{6}", re.IGNORECASE)
"""What a room's code looks like. A room's id may look the same, so it is tried as a code first."""
_TYPING_AGAIN_S: Final = 3.0
_WAITING_MAX: Final = 100
"""Lines that wait to be sent; while there are more, none is read."""
_EARLIER: Final = 30
_GOODBYE_S: Final = 1.0
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_QUITS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(url: str, room: str, name: str) -> None:
    """Talk in `room` (a room's id, or a code) under `name`, until the input ends or the person leaves.

    Raises:
        StartError: nobody answers there, the room does not let the user in, or the server ended the connection;
            also when lines from a pipe were refused.
        KeyboardInterrupt: interrupted while reading from a pipe.
    """
    url, room, name = _encodable(url), _encodable(room), _encodable(name)
    try:
        address = parse_url(url)
    except ValueError as error:
        raise StartError(f"--url {error}") from None
    try:
        async with connect(url, name=name) as client:
            try:
                joined = await enter(client, room)
            except Rejected as refused:
                raise StartError(f"{room!r} does not let you in: {refused.message}") from None
            await Chat(client, joined, is_terminal()).run()
    except Exception as error:
        match _only(error):
            case ConnectFailed() as failed:
                raise StartError(no_connection(address, failed)) from None
            case ClientClosed() as closed:
                raise StartError(f"the server ended the connection: {visible(closed.close.reason)}") from None
            case BrokenPipeError():
                pass  # whoever read our lines has seen enough
            case _:
                raise


def _encodable(text: str) -> str:
    """Bytes that were no UTF-8, on the command line or at the prompt, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _only(error: BaseException) -> BaseException:
    """The error in the groups, when there is but one, or several of one kind."""
    if isinstance(error, BaseExceptionGroup):
        inner = [_only(each) for each in error.exceptions]
        return inner[0] if len({type(each) for each in inner}) == 1 else error
    return error


def is_terminal() -> bool:
    """Whether a person sits there: both ends are a terminal that can do more than print."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def no_connection(address: Address, error: ConnectFailed) -> str:
    """Why there is no connection, and what to do about it."""
    text = visible(str(error))
    if error.code == "unauthorized":
        return f"{text} (the server asks for tokens, which this command cannot give)"
    if error.close.reconnect and (address.host in _LOOPBACK or address.unix_path):
        if address.unix_path is not None:
            how = f"catfish serve --bind unix:{address.unix_path}"
        else:
            how = "catfish serve" + ("" if address.port == 8080 else f" --port {address.port}")
        return f"{text}\nNo server seems to run there; this starts one: {how}"
    return text


async def enter(client: Client, room: str) -> dict[str, Any]:
    """Join the room with that code, or else with that id. Raises Rejected."""
    if _CODE.fullmatch(room):
        try:
            return await client.join(code=room)
        except Rejected as refused:
            if refused.code != "no_such_code":
                raise
    return await client.join(room)


class Chat:
    """One person in one room.

    Args:
        joined: the reply to the join.
        interactive: a person at a terminal, not a script.
        screen: in place of the process's own terminal or pipes.
    """

    def __init__(self, client: Client, joined: dict[str, Any], interactive: bool, screen: Screen | None = None) -> None:
        self.view = View(client.user, one_line=not interactive)
        self._client = client
        self._joined = joined
        self._room: str = joined["room"]["id"]
        self._screen = screen or (self._prompt() if interactive else Pipe())
        self._out, self._queue = trio.open_memory_channel[Line](_WAITING_MAX)
        self._drained = trio.Event()
        self._waiting = 0
        self._sent = 0
        self._refused: list[str] = []
        self._told_typing_at = float("-inf")
        self._interrupted = self._leaving = False

    def _prompt(self) -> Prompt:
        return Prompt(f"{visible(self._client.name)}> ", self._typed)

    async def run(self) -> None:
        """Until the person leaves. Raises what `run` above raises."""
        with self._screen.running():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_signals, nursery.cancel_scope)
                await self._show(self.view.enter(self._joined))
                nursery.start_soon(self._show_events, nursery.cancel_scope)
                if self._screen.interactive:
                    nursery.start_soon(self._keep_fresh)
                async with trio.open_nursery() as sending:
                    sending.start_soon(self._carry_out)
                    await self._read()
                    # A person who leaves does not wait long for a server that is away; a script does.
                    with trio.move_on_after(_GOODBYE_S if self._screen.interactive else float("inf")):
                        await self._drained.wait()
                    sending.cancel_scope.cancel()
                await self._leave()
                await self._client.aclose()  # ends the events, once all that came are shown
        if self._interrupted and not self._screen.interactive:
            raise KeyboardInterrupt
        if self._waiting:
            raise StartError(f"{_count(self._waiting, 'message')} could not be sent")
        if self._refused and not self._screen.interactive:
            raise StartError(f"{len(self._refused)} of {_count(self._sent, 'line')} refused: {self._refused[-1]}")

    async def _leave(self) -> None:
        """So that the others hear of it now, and not when nobody came back for a while."""
        self._leaving = True
        if self._client.state is State.OPEN:
            # What goes wrong now no longer matters: the grace period does the same, later.
            with trio.move_on_after(_GOODBYE_S, shield=True), suppress(ClientError, Rejected):
                await self._client.leave(self._room)

    # What the person does

    async def _read(self) -> None:
        async with self._out:
            while (line := await self._screen.read()) is not None:
                line = _encodable(line)
                parsed = parse_line(line) if self._screen.interactive else Say(line) if line.strip() else None
                match parsed:
                    case None:
                        pass
                    case Ask("/quit"):
                        return
                    case Ask("/help"):
                        await self._screen.note(help_lines())
                    case Ask("/who"):
                        await self._screen.note([self.view.who()])
                    case Mistake(message):
                        await self._screen.note([notice(message, "red")])
                    case _:
                        self._waiting += 1
                        self._sent += 1
                        await self._out.send(parsed)
                        self._refresh()

    async def _carry_out(self) -> None:
        """One line after the other, so that messages keep their order."""
        async for line in self._queue:
            try:
                await self._do(line)
            except Rejected as refused:
                self._refused.append(visible(refused.message))
                await self._screen.note([notice(f"Refused: {refused.message}", "red")])
            self._waiting -= 1
            self._refresh()
        self._drained.set()

    async def _do(self, line: Line) -> None:
        client, room, view = self._client, self._room, self.view
        match line:
            case Say(text):
                await client.send(room, text)
            case Act(text):
                await client.send(room, text, data={"style": "me"})
            case Edit(seq, text):
                await client.edit(room, _number(seq, view.my_last_seq), text)
            case Delete(seq):
                await client.delete(room, _number(seq, view.my_last_seq))
            case React(seq, emoji, on):
                await client.react(room, _number(seq, view.last_seq), emoji, on)
            case Ask("/more") if view.oldest_seq > 1:
                await self._show(view.earlier(await client.history(room, before=view.oldest_seq, limit=_EARLIER)))
            case Ask("/more"):
                await self._show(view.earlier({"messages": []}))

    def _typed(self, text: str) -> None:
        """The text at the prompt has changed."""
        if text and not text.startswith("/"):
            if trio.current_time() - self._told_typing_at > _TYPING_AGAIN_S:
                self._client.typing(self._room, True)
                self._told_typing_at = trio.current_time()
        elif self._told_typing_at > float("-inf"):
            self._client.typing(self._room, False)
            self._told_typing_at = float("-inf")

    # What happens

    async def _show_events(self, everything: trio.CancelScope) -> None:
        async for event in self._client.events:
            if event.name == "client:refused":
                raise StartError(f"the room does not let you in again: {visible(event.data['message'])}")
            await self._show(self.view.event(event, trio.current_time()))
            self._refresh()
            if self._room not in self._client.rooms and not self._leaving:
                raise StartError(f"you are no longer in {self.view.title}")
        everything.cancel()

    async def _keep_fresh(self) -> None:
        """Signs of typing fade."""
        while True:
            self._refresh()
            await trio.sleep(1)

    def _refresh(self) -> None:
        self._screen.refresh(self.view.toolbar(trio.current_time(), self._waiting))

    async def _show(self, shown: Shown) -> None:
        await self._screen.show(shown.messages)
        await self._screen.note(shown.notices)

    async def _watch_signals(self, everything: trio.CancelScope) -> None:
        """Leave the terminal as it was found, and say goodbye to the server, also when told to stop from outside."""
        with trio.open_signal_receiver(*_QUITS) as signals:
            async for number in signals:
                self._interrupted = number == signal.SIGINT
                await self._leave()
                everything.cancel()


def _number(seq: int | None, otherwise: int) -> int:
    if seq is None and not otherwise:
        raise Rejected("no_such_message", "there is no such message yet")
    return seq if seq is not None else otherwise


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
