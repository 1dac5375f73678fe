"""The answers: as JSON for programs, in columns on a terminal, and as lines separated by tabs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from catfish.administration.asking import Shown
from catfish.client.text import shorten, visible
from catfish.rooms.model import Message
from catfish.rooms.ports import InstanceRecord, ListedRoom, RoomsPage

CONTENT_CHARS_MAX = 200
"""Of a message's text in a table."""
STYLES = {"alive": "", "stopped": "dim", "dead": "bold red"}
"""Of an instance's line, by its state."""


def instances_as_json(instances: Iterable[InstanceRecord]) -> str:
    """Times in milliseconds since the epoch."""
    shown = []
    for each in instances:
        figures = each.figures
        shown.append(
            {
                "id": each.id,
                "state": each.state,
                "startedAt": each.started_at,
                "leaseLeftMs": each.lease_left_ms,
                "version": figures and figures.version,
                "host": figures and figures.host,
                "pid": figures and figures.pid,
                "connections": figures and figures.connections,
                "rooms": figures and figures.rooms,
                "journalWaiting": figures and figures.journal_waiting,
                "mirror": figures and figures.mirror,
                "mirrorLagMs": figures and figures.mirror_lag_ms,
            }
        )
    return json.dumps({"instances": shown}, ensure_ascii=False, indent=2)


def rooms_as_json(page: RoomsPage) -> str:
    """Times in milliseconds since the epoch; `before` continues behind the page, null when there is no more."""
    before = page.rooms[-1].record.number if page.more else None
    content = {"rooms": [_plain_room(room) for room in page.rooms], "before": before}
    return json.dumps(content, ensure_ascii=False, indent=2)


def room_as_json(shown: Shown) -> str:
    content = {
        "room": _plain_room(shown.room),
        "members": [
            {"user": member.user, "name": member.name, "since": member.since, "away": member.away}
            for member in shown.members
        ],
        "messages": [
            {
                "seq": message.seq,
                "id": message.id,
                "user": message.user,
                "name": message.name,
                "content": message.content,
                "createdAt": message.created_at,
                "editedAt": message.edited_at,
                "deletedAt": message.deleted_at,
            }
            for message in shown.messages
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def _plain_room(listed: ListedRoom) -> dict[str, Any]:
    room = listed.record.room
    return {
        "number": listed.record.number,
        "id": room.id,
        "access": room.access.value,
        "kind": room.kind.value,
        "code": room.code,
        "name": room.name,
        "capacity": room.capacity,
        "membersCount": room.members_count,
        "seq": room.seq,
        "createdBy": listed.record.created_by,
        "createdAt": room.created_at,
        "closedAt": listed.closed_at,
    }


class Table:
    """Rows of texts, some of which other people wrote: those are made harmless for a terminal."""

    def __init__(self, *headers: str) -> None:
        self._headers = headers
        self._rows: list[tuple[list[str], str]] = []

    def add(self, *cells: object, style: str = "") -> None:
        self._rows.append((["" if cell is None else visible(str(cell)) for cell in cells], style))

    def print(self, *, terminal: bool) -> None:
        """In columns on a terminal; else a row a line, separated by tabs, with a line of headers."""
        if not terminal:
            for cells in (list(self._headers), *(cells for cells, _ in self._rows)):
                click.echo("\t".join(cells))
            return
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(*self._headers, box=None, header_style="bold", pad_edge=False)
        for cells, style in self._rows:
            table.add_row(*(Text(cell, style) for cell in cells))
        Console().print(table)


def print_instances(instances: Sequence[InstanceRecord], *, terminal: bool) -> None:
    table = Table(
        *("instance", "state", "lease", "since", "version", "host", "pid"),
        *("connections", "rooms", "journal", "mirror", "lag"),
    )
    for each in instances:
        figures = each.figures
        lease = f"{each.lease_left_ms / 1000:.1f} s" if each.state == "alive" else f"{_ago(each.lease_left_ms)} ago"
        told: tuple[object, ...] = ()
        if figures is not None:
            told = figures.version, figures.host, figures.pid
            if each.state == "alive":
                lag = None if figures.mirror_lag_ms is None else f"{figures.mirror_lag_ms} ms"
                told += figures.connections, figures.rooms, figures.journal_waiting, figures.mirror, lag
        cells = *told, *[None] * (8 - len(told))
        table.add(each.id, each.state, lease, when(each.started_at), *cells, style=STYLES[each.state])
    table.print(terminal=terminal)


def print_rooms(rooms: Sequence[ListedRoom], *, terminal: bool) -> None:
    table = Table("number", "room", "kind", "code", "name", "members", "messages", "created", "closed")
    for listed in rooms:
        room = listed.record.room
        table.add(
            listed.record.number,
            room.id,
            room.kind.value,
            room.code,
            room.name,
            room.members_count if room.capacity is None else f"{room.members_count}/{room.capacity}",
            room.seq,
            when(room.created_at),
            None if listed.closed_at is None else when(listed.closed_at),
            style="" if listed.closed_at is None else "dim",
        )
    table.print(terminal=terminal)


def print_room(shown: Shown, *, terminal: bool) -> None:
    print_rooms([shown.room], terminal=terminal)
    click.echo()
    members = Table("member", "name", "since", "state")
    for member in shown.members:
        state = "away" if member.away else "here"
        members.add(member.user, member.name, when(member.since), state, style="dim" if member.away else "")
    members.print(terminal=terminal)
    click.echo()
    print_messages(shown.messages, terminal=terminal)


def print_messages(messages: Sequence[Message], *, terminal: bool) -> None:
    table = Table("seq", "sent", "user", "message")
    for message in messages:
        deleted = message.deleted_at is not None
        text = "(deleted)" if deleted else shorten(message.content, CONTENT_CHARS_MAX)
        table.add(message.seq, when(message.created_at), message.user, text, style="dim" if deleted else "")
    table.print(terminal=terminal)


def title(listed: ListedRoom) -> str:
    """The room in a sentence."""
    room = listed.record.room
    named = "" if room.name is None else f" ({visible(room.name)})"
    people = "1 member" if room.members_count == 1 else f"{room.members_count} members"
    return f"{room.kind.value} room {visible(room.id)}{named} with {people}"


def when(at_ms: int) -> str:
    """In the time zone of the one who asks."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")


def _ago(left_ms: int) -> str:
    seconds = max(-left_ms // 1000, 0)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
