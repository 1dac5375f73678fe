"""What a session says in rooms that it is in, and what it does about others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from catfish.contracts.interface import Moderating, Origin
from catfish.errors import Close, Rejected
from catfish.rooms.clock import now_ms
from catfish.rooms.commands import Change, Changed, Delete, MarkRead, Read, SendMessage
from catfish.rooms.events import Announced, Device, Event, MediaToggled
from catfish.rooms.model import Message, Role
from catfish.rooms.moderation import Actor
from catfish.rooms.permissions import Facts, Right, check, check_granted, is_granted
from catfish.rooms.room import Listener, LiveRoom
from catfish.server.identification import Identified
from catfish.server.inbox import Gauge
from catfish.server.instance import Instance
from catfish.server.limits import Kind, Meter
from catfish.server.moderation import Desk


class Speaking(Identified):
    """The part of a `Participant` that speaks; args as there."""

    __slots__ = ("_gauge",)

    def __init__(self, instance: Instance, gauge: Gauge, meter: Meter | None, hang_up: Callable[[Close], None]) -> None:
        super().__init__(instance, meter, hang_up)
        self._gauge = gauge

    def live(self, room: str) -> LiveRoom:
        raise NotImplementedError

    def _check_rate(self, kind: Kind) -> None:
        if self.meter is not None:
            self.meter.check(kind)

    # Writing

    def send(
        self,
        *,
        number: int,
        room: str,
        content: str,
        user: str | None = None,
        name: str | None = None,
        client_id: str | None = None,
        reply_to: int | None = None,
        data: Any = None,
        created_at: int | None = None,
        origin: Origin | None = None,
        done: Callable[[Message | Rejected], None],
    ) -> None:
        self._check_rate("sending")
        if self.grants is not None:
            check_granted(Right.SEND, room, self.grants)
        command = SendMessage(
            number=number,
            room=room,
            user=self.user if user is None else user,
            name=self.name if name is None else name,
            content=content,
            client_id=client_id,
            reply_to=reply_to,
            data=data,
            created_at=now_ms() if created_at is None else created_at,
            grants=self.grants,
        )

        def stored(answer: Message | Rejected) -> None:
            self._gauge.remove()
            done(answer)

        self._instance.publisher.send(command, stored, origin)
        self._gauge.add()

    def change(self, live: LiveRoom, command: Change, done: Callable[[Any], None]) -> None:
        if not isinstance(command, MarkRead):
            self._check_rate("sending")
        if self.grants is not None:
            right = Right.READ if isinstance(command, MarkRead) else Right.SEND
            if isinstance(command, Delete) and is_granted(Right.MODERATE, live.id, self.grants):
                right = Right.MODERATE
            check_granted(right, live.id, self.grants)

        def stored(answer: Changed | Read | Rejected) -> None:
            self._gauge.remove()
            done(answer)

        self._instance.publisher.change(live.id, command, stored)
        self._gauge.add()

    def check(self, right: Right, live: LiveRoom) -> None:
        facts = Facts(
            live.access,
            admitted=True,
            role=Role.NONE if live.is_of_strangers else Role.MEMBER,
            room=live.id,
            grants=self.grants,
            muted_until=live.muted.get(self.user, 0),
            now=now_ms(),
        )
        check(right, facts)

    def say(self, room: str, event: Event, *, everyone: bool = False) -> None:
        live = self.live(room)
        if (live.muted or self.grants is not None) and type(event) is not Announced:
            self.check(Right.EMIT, live)
        self._instance.supervisor.tell(live, event, None if everyone else cast(Listener, self))

    def say_to(self, room: str, user: str, event: Event) -> None:
        live = self.live(room)
        live.member(user)
        if live.muted or self.grants is not None:
            self.check(Right.EMIT, live)
        if user in self.apart:
            raise Rejected("blocked", f"to: {user!r} and you do not reach each other")
        self._instance.supervisor.tell_one(live, user, event)

    def toggle(self, room: str, device: Device, on: bool, *, origin: Origin | None = None) -> None:
        live = self.live(room)
        if live.muted or self.grants is not None:
            self.check(Right.EMIT, live)
        live.toggle(self.user, device, on)
        self.say(room, MediaToggled(room=room, user=self.user, device=device, on=on, origin=origin))

    # Moderating

    @property
    def moderation(self) -> Moderating:
        return Desk(self._instance, Actor(user=self.user, grants=self.grants))
