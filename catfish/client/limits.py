"""The client's limits, and its figures."""

from __future__ import annotations

from typing import NamedTuple

from catfish.client.states import State


class Limits(NamedTuple):
    """What the client keeps at most, and how long it waits. Seconds, bytes, items."""

    connect_s: float = 10.0
    """From dialling to the reply to hello; then the attempt has failed."""
    close_s: float = 3.0
    """To say goodbye; then the connection is cut."""
    heartbeat_timeout_s: float = 20.0
    """For any sign of life after a ping; then the connection is given up (4000)."""
    message_bytes_max: int = 67_108_864
    """Of one message from the server; a larger one ends the client (1009)."""
    events_max: int = 1_000
    """Events that wait for the user; beyond them rooms catch up from history, and ephemeral events are lost."""
    held_max: int = 256
    """Events of one room that wait while it catches up; beyond them it catches up once more."""
    requests_max: int = 64
    """Requests that wait for a reply; further ones wait for their turn."""
    request_bytes_max: int = 8_388_608
    """Of those requests together. While more waits to be sent, what is only told is dropped."""


class Statistics(NamedTuple):
    state: State
    connections: int
    """Made since the start, the present one included."""
    rooms: int
    requests_waiting: int
    events_waiting: int
    events_dropped: int
    """Ephemeral events that were lost because the user did not take them in time, and events of unknown rooms."""
    duplicates: int
    """Messages that came again and were dropped."""
    late_replies: int
    catch_ups: int
    """Times that a room's missing messages were read from its history."""
