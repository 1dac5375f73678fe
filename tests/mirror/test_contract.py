"""What `rooms.ports.Mirror` and `Mirrored` promise each other, of the double and of the real one."""

from __future__ import annotations

from typing import Any

import trio

from catfish.rooms.events import Custom
from tests.mirror.world import World, said, stored, until


async def test_what_one_publishes_the_others_hear_and_it_does_not(world: World) -> None:
    a, b, c = [await world.join(name) for name in "abc"]
    a.say("one")
    b.store("two")
    await until(lambda: len(c.heard) == 2)
    await until(lambda: len(b.heard) == 1)
    await until(lambda: len(a.heard) == 1)
    assert a.heard == [(1, stored("two"), None)]
    assert b.heard == [(1, said("one"), None)]
    assert c.states == [True]


async def test_of_every_room_in_the_order_in_which_it_was_published(world: World) -> None:
    a, b = [await world.join(name) for name in "ab"]
    for i in range(300):
        a.say(str(i), number=i % 5)
        if i % 7 == 0:
            await trio.lowlevel.checkpoint()
    await until(lambda: len(b.heard) == 300)
    for room in range(5):
        assert b.texts(room) == [str(i) for i in range(300) if i % 5 == room]


async def test_what_is_meant_for_one_user_says_so(world: World) -> None:
    a, b = [await world.join(name) for name in "ab"]
    a.say("psst", to="bob")
    await until(lambda: b.heard != [])
    assert b.heard == [(1, said("psst"), "bob")]


async def test_rooms_that_are_hosted_nowhere_else_are_passed_over(world: World) -> None:
    a, b = [await world.join(name) for name in "ab"]
    a.say("unheard", number=100)
    a.say("heard", number=1)
    await until(lambda: b.heard != [])
    assert b.texts() == ["heard"]
    assert b.mirror.statistics().received == 1


async def test_an_event_crosses_as_it_was_when_it_was_published(world: World) -> None:
    a, b = [await world.join(name) for name in "ab"]
    event = Custom(room="room", user="ann", event="said", data={"n": 1})
    a.mirror.publish(1, event)
    event.data["n"] = 2
    event.user = "bob"
    await until(lambda: b.heard != [])
    assert b.heard == [(1, Custom(room="room", user="ann", event="said", data={"n": 1}), None)]


async def test_an_event_that_cannot_be_sent_is_dropped_alone_and_leaves_a_gap(world: World) -> None:
    a, b = [await world.join(name) for name in "ab"]
    await until(lambda: a.mirror.statistics().peers == b.mirror.statistics().peers == 1)
    gaps = b.gaps
    bad: Any = object()
    a.mirror.publish(1, Custom(room="room", user="ann", event="said", data=bad))
    a.say("good")
    await until(lambda: b.heard != [])
    assert b.texts() == ["good"]
    assert a.mirror.statistics().dropped_ephemeral == 1
    await until(lambda: b.gaps > gaps)


async def test_a_newcomer_is_told_at_once_to_compare_its_rooms(world: World) -> None:
    a = await world.join("a")
    a.say("before")
    b = await world.join("b")
    await until(lambda: b.gaps > 0)
    a.say("after")
    await until(lambda: "after" in b.texts())
    assert a.states == b.states == [True]


async def test_in_an_outage_what_is_published_is_dropped_and_counted_and_afterwards_there_is_a_gap(
    world: World,
) -> None:
    a, b = [await world.join(name) for name in "ab"]
    await until(lambda: a.gaps > 0 and b.gaps > 0)
    a.say("before")
    await until(lambda: b.texts() == ["before"])
    await world.outage()
    await until(lambda: a.states == b.states == [True, False])
    a.say("lost")
    a.store("lost here")
    statistics = a.mirror.statistics()
    assert (statistics.dropped_ephemeral, statistics.dropped_durable) == (1, 1)
    assert not statistics.connected
    gaps = a.gaps, b.gaps
    await world.recovery()
    await until(lambda: a.states == b.states == [True, False, True])
    await until(lambda: a.gaps > gaps[0] and b.gaps > gaps[1])
    a.say("after")
    await until(lambda: b.texts() == ["before", "after"])
    assert b.mirror.statistics().stale == 0


async def test_an_instance_may_start_in_an_outage(world: World) -> None:
    await world.join("elder")
    await world.outage()
    a, b = [await world.join(name) for name in "ab"]
    assert a.states == b.states == [False]
    a.say("lost")
    await world.recovery()
    await until(lambda: a.states == b.states == [False, True])
    a.say("after")
    await until(lambda: b.heard != [])
    assert b.texts() == ["after"]
    assert a.gaps == 1 or a.gaps == 2
