"""What must be true, whatever goes wrong.

While it runs, a device fails as soon as it is told a message out of order, twice or not at all, a change to a message
that it was not given, the coming or going of somebody that is none, or anything of a room in which it is not
(`device`); that somebody is gone who was not away for the grace period (`presence`); and when there are three in a room
for two, one person in two of them, or strangers who wait apart (`watch_strangers`).

In the end, a lease and a grace period after the last fault: every acknowledged message is in the store, once, and
everybody who is there has all of them as they are now; the store and all members agree with the truth about who is
there; nobody is away, no grace period runs, no two strangers wait apart.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import trio

from catfish.rooms.model import RoomKind
from tests.doubles.memory_room import StoredRoom
from tests.simulation.clock import STARTED_AT

if TYPE_CHECKING:
    from tests.simulation.world import World

APART_S = 2.0
"""What may come on top of the time that the server says: it looks at intervals, and so do we."""
WITHOUT_NEWS = frozenset(("mirror", "trimmed", "parted", "mirror away", "paths", "slow store", "store away"))
"""Faults because of which an instance may not hear for a while that somebody's partner has left."""
UNHEARD_S = 15.0


def rooms(world: World) -> list[StoredRoom]:
    return list(world.store._rooms.shelf.rooms.values())


async def watch_strangers(world: World) -> None:
    """At all times: never three in a room of two, never one person in two, and no two who wait apart for longer than
    the server says that it takes to bring them together."""
    together_s = world.settings.rematch_s * 1.5 + (APART_S if WITHOUT_NEWS.isdisjoint(world.faults) else UNHEARD_S)
    waiting_since: dict[tuple[str, str], float] = {}
    while True:
        await trio.sleep(1.0)
        check_pairs(world)
        now = trio.current_time()
        waiting_since = {key: waiting_since.get(key, now) for key in waiting(world)}
        if world.store.away or any(
            node is not None and node.is_troubled_since(now - UNHEARD_S) for node in world.nodes
        ):
            waiting_since = {}  # nobody can be brought together
        apart = [
            (one, other)
            for one, other in itertools.combinations(waiting_since, 2)
            if now - max(waiting_since[one], waiting_since[other], may_meet_from(world, one[0], other[0])) > together_s
        ]
        if apart:
            world.fail(f"these wait apart for {together_s} s: {apart}")
            waiting_since = {}


def may_meet_from(world: World, one: str, other: str) -> float:
    """Strangers who met are not brought together again for a while: when that ends."""
    met = world.store._rooms.shelf.met
    return max(met.get((one, other), 0), met.get((other, one), 0)) / 1000 - STARTED_AT


def waiting(world: World) -> list[tuple[str, str]]:
    """Users who are connected, as far as an instance that lives can tell, and wait for a stranger; and where."""
    alive = {node.instance.id for node in world.nodes if node is not None and node.alive}
    return [
        (user, room.id)
        for room in rooms(world)
        if not room.closed
        for user, stranger in room.strangers.items()
        if stranger.place is not None
        and any(each.instance in alive and each.away_since is None for each in room.of_user(user))
    ]


def check_pairs(world: World) -> None:
    inside: Counter[str] = Counter()
    for room in rooms(world):
        if room.kind is RoomKind.MATCHED and not room.closed:
            if len(room.strangers) > 2 or len(room.users()) > 2:
                world.fail(f"more than two in {room.id}: {sorted(room.strangers)}, {sorted(room.users())}")
            inside.update(room.users() | set(room.strangers))
    for user, count in inside.items():
        if count > 1:
            world.fail(f"{user} is in {count} matched rooms")


def check(world: World) -> None:
    """Everybody who stayed is connected, and more than a lease and a grace period has passed."""
    check_pairs(world)
    check_messages(world)
    check_members(world)
    for one, other in itertools.combinations(waiting(world), 2):
        if trio.current_time() - may_meet_from(world, one[0], other[0]) > world.settings.rematch_s * 1.5 + UNHEARD_S:
            world.fail(f"these wait apart: {one}, {other}")


def check_messages(world: World) -> None:
    by_id = {room.id: room for room in rooms(world)}
    for (room, user, client_id), seq in world.acknowledged.items():
        stored = by_id[room].stored(seq)
        if stored is None or (stored.message.user, stored.message.client_id) != (user, client_id):
            world.fail(f"message {client_id}, acknowledged as {seq} in {room}, is not there in the store")
    for stored_room in by_id.values():
        ids = Counter((each.message.user, each.message.client_id) for each in stored_room.messages)
        for key, count in ids.items():
            if count > 1:
                world.fail(f"{key} is stored {count} times in {stored_room.id}")
    for device in world.devices:
        for view in device.views.values():
            stored_messages = by_id[view.room].messages
            if device.staying and view.inside and view.seq not in (None, len(stored_messages)):
                device.fail(f"has heard {view.room} up to {view.seq}, which has {len(stored_messages)} messages")
            for seq, message in view.messages.items():
                truth = stored_messages[seq - 1].message
                if message["id"] != truth.id:
                    device.fail(f"message {seq} of {view.room} is another one in the store")
                elif device.staying and view.inside and message["content"] != truth.content:
                    device.fail(f"message {seq} of {view.room} reads {message['content']!r}, not {truth.content!r}")


def check_members(world: World) -> None:
    truth: dict[str, set[str]] = {}
    for device in world.devices:
        for view in device.views.values():
            if device.staying and view.inside:
                truth.setdefault(view.room, set()).add(device.user)
    for room in rooms(world):
        there = truth.get(room.id, set())
        if room.users() != there:
            world.fail(f"in the store {sorted(room.users())} are in {room.id}; in truth {sorted(there)} are")
        alive = {node.instance.id: node.name for node in world.nodes if node is not None}
        away = [
            (user, [(alive.get(each.instance), each.away_since) for each in room.of_user(user)])
            for user in room.users()
            if world.store._rooms.shelf.member(room, user).away
        ]
        if away:
            world.fail(f"in the store {away} are away from {room.id}")
        for device in world.devices:
            seen = device.views.get(room.id)
            if seen is not None and seen.inside and device.staying and seen.members.keys() != there:
                device.fail(f"sees {sorted(seen.members)} in {room.id}, where {sorted(there)} are")
    for node in world.nodes:
        if node is not None and node.instance.departures.absent_count:
            world.fail(f"{node.name} still has {node.instance.departures.absent_count} grace periods")
