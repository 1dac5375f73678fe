"""The requests of the protocol as methods; `docs/protocol.md` describes each.

Arguments that are left out are left out of the data.
"""

from __future__ import annotations

import secrets
from typing import Any

import trio

from catfish.client.requests import wait_before_repeating
from catfish.errors import Rejected


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def draw_id(prefix: str) -> str:
    """A name that nobody else draws (96 bits)."""
    return f"{prefix}-{secrets.token_urlsafe(12)}"


class Calls:
    """What `Client` offers over `request` and `tell`. Every coroutine raises what `Client.request` raises."""

    async def request(self, event: str, data: Any = None) -> Any:
        raise NotImplementedError

    def tell(self, event: str, data: Any = None) -> bool:
        raise NotImplementedError

    # Rooms

    async def create(
        self,
        *,
        kind: str | None = None,
        access: str | None = None,
        name: str | None = None,
        capacity: int | None = None,
    ) -> dict[str, Any]:
        """Make a room with a code; this does not enter it. Returns the room."""
        given = _given(kind=kind, access=access, name=name, capacity=capacity)
        reply: dict[str, Any] = await self.request("room:create", given)
        return dict(reply["room"])

    async def join(
        self, room: str | None = None, *, code: str | None = None, since: int | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """Enter a room by its id, or by its code. Returns `{room, members, messages, seq, more?, changed?}`.

        Without `since`, `messages` are the newest. With it they are those after message `since`, and what does not fit
        into the reply follows as events. From here on the client comes back to the room by itself.
        """
        data = _given(room=room, code=code, since=since, limit=limit)
        return dict(await self.request("room:join", data))

    async def match(self, interests: list[str] | None = None) -> dict[str, Any]:
        """Meet a stranger or wait for one. Returns `{room, matched, peer?}`; `room:ready` comes when both are there."""
        return dict(await self.request("room:match", _given(interests=interests)))

    async def next(self, interests: list[str] | None = None) -> dict[str, Any]:
        """Leave the stranger and meet another one, as `match` does."""
        return dict(await self.request("room:next", _given(interests=interests)))

    async def leave(self, room: str) -> None:
        """Leave a room. Not being in it is as good."""
        try:
            await self.request("room:leave", {"room": room})
        except Rejected as refused:
            if refused.code != "not_in_room":
                raise

    async def members(self, room: str) -> list[dict[str, Any]]:
        return list((await self.request("room:members", {"room": room}))["members"])

    async def emit(self, room: str, event: str, data: Any = None) -> None:
        """Send the others an event of the application's own; nobody stores it."""
        await self.request("room:emit", {"room": room, "event": event, "data": data})

    # Chat

    async def send(
        self,
        room: str,
        content: str,
        *,
        reply_to: int | None = None,
        data: Any = None,
        client_id: str | None = None,
    ) -> dict[str, Any]:
        """Store a message, once. Returns `{seq, id, createdAt}` as soon as it is stored.

        Goes on for as long as it takes: it is sent again on the next connection, and after `busy`, `unavailable` or
        `rate_limited`, with the same `client_id`. When it is cancelled, the message may have been stored or not; the
        same call with the same `client_id` finds out.
        """
        message = _given(room=room, content=content, clientId=client_id or draw_id("m"), replyTo=reply_to, data=data)
        while True:
            try:
                return dict(await self.request("chat:send", message))
            except Rejected as refused:
                delay = wait_before_repeating(refused)
                if delay is None:
                    raise
            await trio.sleep(delay)

    async def history(
        self, room: str, *, before: int | None = None, after: int | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """A page of messages, oldest first: the newest, those below `before`, or those above `after`.

        Returns `{messages, more}`.
        """
        data = {"room": room, **_given(before=before, after=after, limit=limit)}
        return dict(await self.request("chat:history", data))

    async def edit(self, room: str, seq: int, content: str) -> None:
        await self.request("chat:edit", {"room": room, "seq": seq, "content": content})

    async def delete(self, room: str, seq: int) -> None:
        await self.request("chat:delete", {"room": room, "seq": seq})

    async def react(self, room: str, seq: int, emoji: str, on: bool = True) -> None:
        await self.request("chat:react", {"room": room, "seq": seq, "emoji": emoji, "on": on})

    async def read(self, room: str, seq: int) -> None:
        """Move one's read position."""
        await self.request("chat:read", {"room": room, "seq": seq})

    def typing(self, room: str, on: bool = True) -> bool:
        """Say that one is typing. Returns whether it went out; nothing is lost when not."""
        return self.tell("chat:typing", {"room": room, "on": on})

    # Media

    async def toggle(self, room: str, device: str, on: bool) -> None:
        """Switch one's camera, mic or screen on or off."""
        await self.request("media:toggle", {"room": room, "device": device, "on": on})

    async def signal(self, room: str, to: str, data: Any) -> None:
        """Send something to one member, such as an offer for a video call."""
        await self.request("signal", {"room": room, "to": to, "data": data})
