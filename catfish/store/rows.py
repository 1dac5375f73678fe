"""From rows to what the domain knows."""

from __future__ import annotations

from typing import Any

from catfish.rooms.commands import AUTOMATIC_CLIENT_ID
from catfish.rooms.model import Message


def shown_client_id(client_id: str | None) -> str | None:
    """What members see of a client id: nothing, when the server made it itself."""
    return None if client_id is None or client_id.startswith(AUTOMATIC_CLIENT_ID) else client_id


def message_from_row(room: str, row: tuple[Any, ...]) -> Message:
    """From the columns of `queries.MESSAGE`."""
    seq, id, user, name, content, client_id, reply_to, data, created_at, edited_at, deleted_at, reacted = row
    reactions: dict[str, list[str]] | None = None
    if reacted is not None:
        reactions = {}
        for emoji, who in reacted:
            reactions.setdefault(emoji, []).append(who)
    return Message(
        room=room,
        seq=seq,
        id=id,
        user=user,
        name=name,
        content=content,
        client_id=shown_client_id(client_id),
        reply_to=reply_to,
        data=data,
        created_at=created_at,
        edited_at=edited_at,
        deleted_at=deleted_at,
        reactions=reactions,
    )
