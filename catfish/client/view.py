"""What the person at the terminal sees: events and replies in, lines out. Pure; every word of others is made harmless.

A line is a `rich.text.Text`, never markup; without colours it is its plain text.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

from rich.text import Text

from catfish.client.lines import COMMANDS
from catfish.client.text import colour_of, shorten, visible
from catfish.wire.native import Event

LEAVING: Final = {"gone": "lost the connection", "kicked": "was removed", "banned": "was banned"}
OWN_LEAVING: Final = {"kicked": "You were removed from the room.", "banned": "You were banned from the room."}
"""By the reason of `room:left`."""
TYPING_S: Final = 6.0
"""A sign of typing counts so long."""
_NAMES_MAX: Final = 8
"""Names that are listed before the rest is counted."""


class Shown(NamedTuple):
    """Lines for the person."""

    messages: list[Text]
    """What was said: in a pipe, standard output."""
    notices: list[Text]
    """What happened besides: in a pipe, standard error."""


def notice(text: str, style: str = "dim") -> Text:
    return Text(f"  {visible(text)}", style=style)


class View:
    """One room, as one user sees it.

    Args:
        me: the user's id.
        zone: of the times shown; the machine's when None.
        one_line: show line breaks as a sign, so that each message is one line.
    """

    def __init__(self, me: str, *, zone: tzinfo | None = None, one_line: bool = False) -> None:
        self.me = me
        self.title = ""
        self.oldest_seq = 0
        """Of the messages shown; 0 when there are none."""
        self.last_seq = 0
        self.my_last_seq = 0
        self.connected = True
        self._zone = zone
        self._one_line = one_line
        self._members: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._typing: dict[str, float] = {}
        self._day = ""

    # What is here

    def enter(self, joined: dict[str, Any]) -> Shown:
        """The reply to `room:join`: the room's newest messages, and who is there."""
        room = joined["room"]
        self.title = visible(shorten(str(room.get("name") or room["id"]), 60))
        self._set_members(joined["members"])
        shown = [line for message in joined["messages"] for line in self.message(message)]
        code = f", code {visible(room['code'])}" if room.get("code") else ""
        here = f"In {self.title}{code}. {self._who()} /help lists what you can type."
        return Shown(shown, [notice(here)])

    def earlier(self, page: dict[str, Any]) -> Shown:
        """A page of messages before the oldest one shown."""
        if not page["messages"]:
            return Shown([], [notice("There is nothing earlier.")])
        day, last, mine, self._day = self._day, self.last_seq, self.my_last_seq, ""
        shown = [line for message in page["messages"] for line in self.message(message)]
        self._day, self.last_seq = day, last
        self.my_last_seq = mine or self.my_last_seq
        return Shown([notice("Earlier:"), *shown, notice("─" * 20)], [])

    def who(self) -> Text:
        line = Text("  ")
        for index, user in enumerate(self._members):
            line.append(", " if index else "").append_text(self._name(user))
            line.append(" (you)" if user == self.me else "", style="dim")
        return line

    def toolbar(self, now_s: float, waiting: int = 0) -> str:
        """One line of state below the prompt; `waiting` messages are not stored yet."""
        parts = [self.title, f"{len(self._members)} here"]
        if not self.connected:
            parts.append("reconnecting…")
        if waiting:
            parts.append(f"{waiting} to be sent")
        typing = [self._plain_name(user) for user, until in self._typing.items() if until > now_s]
        if typing:
            parts.append(f"{', '.join(typing[:3])} {'is' if len(typing) == 1 else 'are'} typing…")
        return " · ".join(parts)

    # What happens

    def event(self, event: Event, now_s: float) -> Shown:
        """What an event of this room, or of the client, looks like."""
        data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
        if event.name == "chat:message":
            self._typing.pop(str(data.get("user")), None)
            return Shown(self.message(data), [])
        if event.name == "chat:typing":
            self._types(str(data.get("user", "?")), now_s + TYPING_S if data.get("on") else 0.0)
        show = getattr(self, "_on_" + event.name.replace(":", "_"), None)
        line = show(data) if show is not None else None
        return Shown([], [] if line is None else [line] if isinstance(line, Text) else line)

    def message(self, message: dict[str, Any]) -> list[Text]:
        """A message, after a line with the date when a new day begins."""
        user, seq = str(message.get("user", "?")), message.get("seq", 0)
        self._names[user] = str(message.get("name") or user)
        if seq:
            self.last_seq = max(self.last_seq, seq)
            self.oldest_seq = min(self.oldest_seq or seq, seq)
            if user == self.me and "deletedAt" not in message:
                self.my_last_seq = max(self.my_last_seq, seq)
        at = self._time(message.get("createdAt"))
        lines = self._new_day(at)
        line = Text(at.strftime("%H:%M") + " ", style="dim") if at is not None else Text("")
        line = Text.assemble(line, (f"#{seq} " if seq and not self._one_line else "", "dim"))
        data = message.get("data")
        acts = isinstance(data, dict) and data.get("style") == "me"
        line.append_text(Text("* ") if acts else Text("")).append_text(self._name(user)).append(" " if acts else ": ")
        if message.get("replyTo"):
            line.append(f"(to #{visible(str(message['replyTo']))}) ", style="dim")
        if "deletedAt" in message:
            line.append("(deleted)", style="dim italic")
        else:
            line.append_text(self._content(message.get("content", ""), len(line.plain)))
        if "editedAt" in message and "deletedAt" not in message:
            line.append(" (edited)", style="dim")
        for emoji, users in (message.get("reactions") or {}).items():
            line.append(f"  {visible(str(emoji))}{f' {len(users)}' if len(users) > 1 else ''}", style="dim")
        return [*lines, line]

    def _on_room_joined(self, data: dict[str, Any]) -> Text | None:
        member = data.get("member") or {}
        user = str(member.get("user", "?"))
        known = user in self._members
        self._members[user] = self._names[user] = str(member.get("name") or user)
        if user == self.me or known:
            return None
        return self._about(user, "is back" if data.get("returning") else "is here")

    def _on_room_left(self, data: dict[str, Any]) -> Text | None:
        user, reason = str(data.get("user", "?")), data.get("reason")
        if user == self.me:
            return notice(OWN_LEAVING.get(str(reason), "You left the room."))
        line = self._about(user, LEAVING.get(str(reason), "left"))
        self._members.pop(user, None)
        self._typing.pop(user, None)
        return line

    def _on_room_ready(self, data: dict[str, Any]) -> Text:
        return notice("You are both here.")

    def _on_room_closed(self, data: dict[str, Any]) -> Text:
        return notice("The room was closed.")

    def _on_chat_edited(self, data: dict[str, Any]) -> Text:
        line = self._about(str(data.get("user", "?")), f"changed #{data.get('seq')}: ")
        return line.append_text(self._content(data.get("content", ""), 4))

    def _on_chat_deleted(self, data: dict[str, Any]) -> Text:
        if data.get("seq") == self.my_last_seq:
            self.my_last_seq = 0
        return self._about(str(data.get("user", "?")), f"deleted #{data.get('seq')}")

    def _on_chat_reacted(self, data: dict[str, Any]) -> Text:
        emoji = visible(shorten(str(data.get("emoji", "")), 32))
        what = f"reacted {emoji} to" if data.get("on") else f"took {emoji} back from"
        return self._about(str(data.get("user", "?")), f"{what} #{data.get('seq')}")

    def _on_media_toggled(self, data: dict[str, Any]) -> Text:
        device = {"mic": "microphone"}.get(str(data.get("device")), visible(str(data.get("device"))))
        return self._about(str(data.get("user", "?")), f"switched the {device} {'on' if data.get('on') else 'off'}")

    def _on_error(self, data: dict[str, Any]) -> Text:
        return notice(f"Refused: {data.get('message')}", "red")

    def _on_server_draining(self, data: dict[str, Any]) -> Text:
        return notice("The server is about to restart.")

    def _types(self, user: str, until_s: float) -> None:
        if until_s and user != self.me:
            self._typing[user] = until_s
        else:
            self._typing.pop(user, None)

    # What the client tells of itself

    def _on_client_reconnecting(self, data: dict[str, Any]) -> Text | None:
        if not self.connected:
            return None  # said once; the toolbar shows that it goes on
        self.connected = False
        self._typing.clear()
        told = data.get("code") not in (1005, 1006)  # else there was no word from the server
        reason = f" ({shorten(str(data.get('reason')), 100)})" if told else ""
        return notice(f"Connection lost{reason}. Trying to reconnect…", "yellow")

    def _on_client_resumed(self, data: dict[str, Any]) -> list[Text]:
        before = set(self._members)
        self._set_members(data.get("members", []))
        lines = [self._on_chat_edited(message) for message in data.get("changed", []) if "deletedAt" not in message]
        lines += [self._on_chat_deleted(message) for message in data.get("changed", []) if "deletedAt" in message]
        if not self.connected:
            self.connected = True
            lines.append(notice("Connected again; nothing was missed.", "green"))
        for user in set(self._members) - before - {self.me}:
            lines.append(self._about(user, "is here"))
        for user in before - set(self._members) - {self.me}:
            lines.append(self._about(user, "left"))
        return lines

    def _on_client_reset(self, data: dict[str, Any]) -> Text:
        self.oldest_seq = self.last_seq = self.my_last_seq = 0
        return notice("The room was made anew; this is another one with the same name.", "yellow")

    # Parts of lines

    def _set_members(self, members: Iterable[Any]) -> None:
        self._members = {str(member["user"]): str(member.get("name") or member["user"]) for member in members}
        self._names |= self._members

    def _who(self) -> str:
        others = [self._plain_name(user) for user in self._members if user != self.me]
        if not others:
            return "Nobody else is here."
        names, rest = ", ".join(others[:_NAMES_MAX]), len(others) - _NAMES_MAX
        return f"Here: {names}{f' and {rest} more' if rest > 0 else ''}."

    def _plain_name(self, user: str) -> str:
        """The name, with some of the id when somebody else who is here has the same."""
        name = visible(shorten(self._names.get(user, user), 40))
        twins = any(other != user and visible(shorten(known, 40)) == name for other, known in self._members.items())
        return f"{name}·{visible(user[-4:])}" if twins and user != self.me else name

    def _name(self, user: str) -> Text:
        return Text(self._plain_name(user), style=f"bold {colour_of(user)}")

    def _about(self, user: str, what: str) -> Text:
        return Text.assemble(("  ", ""), self._name(user), (f" {visible(what)}", "dim"))

    def _content(self, content: Any, indent: int) -> Text:
        """Further lines are indented, so that nobody can write a line that looks like another person's message."""
        text = visible(str(content), lines=not self._one_line)
        return Text(text.replace("\n", "\n" + " " * min(indent, 12)))

    def _time(self, at_ms: Any) -> datetime | None:
        if not isinstance(at_ms, (int, float)):
            return None
        try:
            return datetime.fromtimestamp(at_ms / 1000, self._zone).astimezone(self._zone)
        except (OverflowError, ValueError, OSError):
            return None

    def _new_day(self, at: datetime | None) -> list[Text]:
        day = f"{at:%A} {at.day} {at:%B %Y}" if at is not None else self._day
        if day == self._day:
            return []
        self._day = day
        return [] if self._one_line else [Text(f"── {day} ──", style="dim")]


def help_lines() -> list[Text]:
    """What `/help` shows."""
    return [
        Text.assemble(("  " + f"{command} {takes}".ljust(26), "bold"), (what, "dim"))
        for command, (takes, what) in COMMANDS.items()
    ]
