"""The pure parts of the client: its states, delays, addresses, rooms, and the gate that requests pass."""

from __future__ import annotations

import itertools
import random
from typing import Any, get_args

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from catfish.client.backoff import Backoff
from catfish.client.link import parse_url
from catfish.client.requests import Gate, is_repeatable, wait_before_repeating
from catfish.client.rooms import Joined, Page, Room, RoomView, Verdict, message_seq, understand
from catfish.client.states import TABLE, Move, State
from catfish.errors import ERROR_CODES, PeerError, Rejected
from catfish.wire.native import Event


def test_every_state_and_move_is_either_in_the_table_or_impossible() -> None:
    impossible = {
        (State.CONNECTING, "lost"),  # there is nothing to lose yet
        (State.CONNECTING, "ended"),  # the first failure is the end, whatever its code
        (State.OPEN, "opened"),
        (State.OPEN, "failed"),
        (State.RECONNECTING, "lost"),
        (State.CLOSED, "opened"),
        (State.CLOSED, "failed"),
        (State.CLOSED, "lost"),
        (State.CLOSED, "ended"),
    }
    assert set(TABLE) | impossible == set(itertools.product(State, get_args(Move)))
    assert not set(TABLE) & impossible
    for state in State:
        assert TABLE[state, "close"] is State.CLOSED


def test_delays_grow_stay_within_their_range_and_never_pass_the_limit() -> None:
    backoff = Backoff(first_s=1, max_s=8, stable_s=10, rng=random.Random(3))
    for top in (1, 2, 4, 8, 8, 8):
        assert top / 2 <= backoff.draw() <= top
    backoff.ended(9.9)
    assert backoff.draw() >= 4
    backoff.ended(10)
    assert backoff.draw() <= 1


def test_two_clients_do_not_return_at_the_same_moment() -> None:
    assert len({Backoff().draw() for _ in range(50)}) > 40


@pytest.mark.parametrize(
    ("url", "host", "port", "resource", "secure"),
    [
        ("ws://127.0.0.1:8080", "127.0.0.1", 8080, "/ws", False),
        ("localhost:8080", "localhost", 8080, "/ws", False),
        ("http://localhost:8080/", "localhost", 8080, "/ws", False),
        ("wss://chat.example.org", "chat.example.org", 443, "/ws", True),
        ("https://chat.example.org/rooms/ws?x=1", "chat.example.org", 443, "/rooms/ws?x=1", True),
        ("ws://[::1]:9000", "::1", 9000, "/ws", False),
    ],
)
def test_addresses_are_understood_as_people_write_them(
    url: str, host: str, port: int, resource: str, secure: bool
) -> None:
    address = parse_url(url)
    assert (address.host, address.port, address.resource, address.secure) == (host, port, resource, secure)


def test_a_unix_socket_is_an_address_as_well() -> None:
    assert parse_url("unix:/run/catfish.sock").unix_path == "/run/catfish.sock"


@pytest.mark.parametrize("url", ["ftp://x", "ws://", "ws://host:99999", "ws://host:x", "http://[::1", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_url(url)


def test_only_what_has_the_same_effect_twice_is_repeated() -> None:
    assert is_repeatable("chat:send", {"clientId": "c"})
    assert not is_repeatable("chat:send", {})
    assert not is_repeatable("chat:send", None)
    assert is_repeatable("room:join", {})
    for event in ("room:create", "room:match", "room:next", "room:emit", "signal"):
        assert not is_repeatable(event, {})


def test_only_refusals_that_pass_are_waited_for() -> None:
    passing = {code for code in ERROR_CODES if wait_before_repeating(Rejected(code, "")) is not None}
    assert passing == {"busy", "unavailable", "draining", "rate_limited"}
    assert wait_before_repeating(Rejected("busy", "", 250)) == 0.25


def view(**more: Any) -> RoomView:
    return RoomView.of(Room("lobby", "open", 5, 1_000), 5, None, more.pop("held_max", 4))


def message(seq: Any) -> Event:
    return Event("chat:message", {"room": "lobby", "seq": seq})


TYPING = Event("chat:typing", {"room": "lobby"})


def test_a_room_knows_the_next_message_from_a_duplicate_and_from_a_gap() -> None:
    room = view()
    assert [room.judge(message(seq)) for seq in (0, 1, 5, 6, 7)] == [
        Verdict.DELIVER,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.DELIVER,
        Verdict.GAP,
    ]
    assert room.judge(TYPING) is Verdict.DELIVER
    room.advance(message(6))
    room.advance(TYPING)
    room.advance(message(0))
    assert room.seq == 6


@pytest.mark.parametrize("data", [None, {}, [], {"seq": "1"}, {"seq": -1}, {"seq": True}, {"seq": 1.0}])
def test_a_message_without_a_number_is_the_servers_fault(data: Any) -> None:
    with pytest.raises(PeerError):
        message_seq(Event("chat:message", data))


def test_what_is_held_is_bounded_and_what_is_lost_for_good_is_counted() -> None:
    room = view(held_max=3)
    room.start_over()
    for event in (message(6), TYPING, message(7)):
        room.hold(event)
    assert len(room.held) == 3
    for event in (TYPING, message(8), TYPING):
        room.hold(event)
    assert not room.held
    assert room.overflowed
    assert room.start_over() == 3
    assert room.start_over() == 0
    room.hold(TYPING)
    room.cut()
    assert not room.held
    assert not room.catching_up


def test_a_private_room_is_entered_by_its_code_again_even_by_its_creator() -> None:
    private = RoomView.of(Room("r", "private", 3, 1, code="k7m2qa"), 3, None, 9)
    assert private.join_data() == {"code": "k7m2qa", "since": 3}
    opened = RoomView.of(Room("r", "open", 3, 1, code="k7m2qa"), 3, None, 9)
    assert opened.join_data() == {"room": "r", "since": 3}


def test_a_room_made_anew_is_told_from_the_old_one() -> None:
    room = view()
    assert not room.is_other(Room("lobby", "open", 2, 1_000))
    other = Room("lobby", "open", 2, 2_000)
    assert room.is_other(other)
    room.renumber(other)
    assert (room.seq, room.is_other(other)) == (0, False)


@pytest.mark.parametrize(
    "reply", [None, [], {"messages": 1, "more": False}, {"messages": [], "more": True}, {"more": False}]
)
def test_a_page_that_is_none_is_the_servers_fault(reply: Any) -> None:
    with pytest.raises(PeerError):
        understand(reply, Page)


def test_fields_that_a_newer_server_adds_are_ignored() -> None:
    room = {"id": "r", "kind": "open", "seq": 1, "createdAt": 2, "topic": "new"}
    joined = understand({"room": room, "members": [], "messages": [], "seq": 1, "epoch": 4}, Joined)
    assert (joined.room.id, joined.more, joined.changed) == ("r", False, [])


async def test_the_gate_lets_in_first_come_first_served_within_its_limits(autojump_clock: MockClock) -> None:
    gate = Gate(items_max=3, bytes_max=10)
    inside: list[str] = []

    async def enter(name: str, size: int) -> None:
        await gate.enter(size)
        inside.append(name)

    async with trio.open_nursery() as nursery:
        for name, size in (("a", 4), ("b", 4), ("c", 4), ("d", 1)):
            nursery.start_soon(enter, name, size)
            await wait_all_tasks_blocked()
        assert inside == ["a", "b"]  # d would fit, but c came first
        gate.leave(4)
        await wait_all_tasks_blocked()
        assert sorted(inside) == ["a", "b", "c", "d"]
        nursery.start_soon(enter, "e", 1)
        await wait_all_tasks_blocked()
        assert "e" not in inside  # three are inside
        gate.leave(4)
    assert "e" in inside


async def test_the_gate_forgets_those_who_stop_waiting(autojump_clock: MockClock) -> None:
    gate = Gate(items_max=5, bytes_max=10)
    await gate.enter(6)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as impatient:
            nursery.start_soon(gate.enter, 0)
            impatient.cancel()
            await gate.enter(10)
        with trio.move_on_after(1) as patience:
            await gate.enter(8)
        assert patience.cancelled_caught
        await gate.enter(4)
        gate.leave(4)
    gate.leave(6)
    gate.leave(0)
    await gate.enter(1_000)  # larger than all places together: alone


async def test_admission_and_cancellation_at_the_same_moment_lose_no_place(autojump_clock: MockClock) -> None:
    gate = Gate(items_max=1, bytes_max=10)
    await gate.enter(1)

    async def come_and_go() -> None:
        await gate.enter(1)
        try:
            await trio.sleep_forever()
        finally:
            gate.leave(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_and_go)
        await wait_all_tasks_blocked()
        gate.leave(1)
        nursery.cancel_scope.cancel()
    with trio.fail_after(1):
        await gate.enter(1)
