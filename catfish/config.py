"""Settings: every knob and every limit, with its unit and what happens when it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs


def setting(default: Any, help: str, *, secret: bool = False) -> Any:
    """A field of `Settings`: `help` says what it is, its unit, and the consequence when it is a limit."""
    if isinstance(default, (list, dict)):
        raise TypeError("defaults are immutable")
    return attrs.field(default=default, metadata={"help": help, "secret": secret})


@attrs.frozen(kw_only=True)
class Settings:
    """The effective settings of one server."""

    # Where it listens
    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8080",),
        "Addresses to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH, or fd:N for a socket that is open already.",
    )
    tls_certificate: Path | None = setting(None, "Certificate chain file (PEM); with it every TCP bind speaks TLS.")
    tls_key: Path | None = setting(None, "Private key file (PEM) of the certificate.")
    backlog: int = setting(1024, "Connections that the kernel holds for us to accept; beyond that it refuses.")
    origins: tuple[str, ...] = setting(
        (),
        "Browser origins that may open WebSockets besides the server's own and localhost; * allows every one.",
    )

    # What it keeps, and where
    state_dir: Path | None = setting(None, "Directory of the embedded Postgres; default: the user's state directory.")
    database_url: str | None = setting(
        None, "Postgres to use (libpq URL); without it a private one is started.", secret=True
    )
    database_pool_max: int = setting(8, "Connections to Postgres, one of them the journal's; reads beyond that wait.")
    database_timeout_s: float = setting(10.0, "Seconds after which a statement is given up and counts as an outage.")
    redis_url: str | None = setting(None, "Redis to mirror events over.", secret=True)
    workers: int = setting(1, "Processes that share the port.")
    migrate: bool = setting(False, "Apply pending migrations at start (always done with the embedded Postgres).")

    # Who may come in
    auth: Literal["open", "required"] = setting("open", "open: anonymous names allowed; required: a token is needed.")
    jwt_secret: str | None = setting(None, "Secret that signs tokens.", secret=True)
    api_key: str | None = setting(None, "Key of the server API.", secret=True)

    # Reading a request
    request_head_bytes_max: int = setting(16_384, "Bytes of an HTTP request head; a longer one is answered 431.")
    request_head_timeout_s: float = setting(10.0, "Seconds for the whole head to arrive; a slower one is answered 408.")
    connections_max: int = setting(20_000, "Open connections; a further one is answered 503 and closed.")

    # WebSocket connections
    message_bytes_max: int = setting(1_048_576, "Bytes of one message after inflation; a larger one closes with 1009.")
    fragments_max: int = setting(1_024, "Frames of one message; a message in more closes with 1009.")
    deflate: bool = setting(True, "Offer permessage-deflate to clients that ask for it.")
    deflate_bytes_min: int = setting(1_024, "Bytes below which a message is sent as it is; 0 compresses all.")
    outbox_bytes_max: int = setting(
        1_048_576, "Bytes waiting for a reader; one more and it is disconnected as a slow consumer (4001)."
    )
    outbox_age_s_max: float = setting(
        30.0, "Seconds that bytes may wait for a reader without progress; then it is disconnected (4002)."
    )
    heartbeat_s: float = setting(25.0, "Seconds between pings to a silent client.")
    heartbeat_timeout_s: float = setting(20.0, "Seconds for an answer to a ping; then it is disconnected (4000).")
    close_timeout_s: float = setting(5.0, "Seconds for the peer to answer a close frame; then the socket is closed.")
    read_bytes_per_turn: int = setting(65_536, "Bytes read from one connection before the others have their turn.")

    # Requests
    requests_waiting_max: int = setting(
        64, "Requests of one connection that wait for an answer; while there are more, nothing is read from it."
    )
    rooms_per_session_max: int = setting(256, "Rooms that one session may be in; a further join is `too_many_rooms`.")
    room_capacity_max: int = setting(10_000, "Members of a room that names no capacity; a further join is `room_full`.")
    members_listed_max: int = setting(1_000, "Members in one answer; `membersCount` tells how many there are.")
    history_page_max: int = setting(200, "Messages in one page; a larger limit is `bad_request`.")
    history_page_default: int = setting(50, "Messages in a page that names no limit.")
    content_chars_max: int = setting(5_000, "Characters of a message; a longer one is `bad_request`.")
    data_bytes_max: int = setting(65_536, "Bytes of a `data` field as JSON; a larger one is `bad_request`.")

    # Journal and presence
    journal_batch_max: int = setting(500, "Commands in one transaction.")
    journal_items_max: int = setting(20_000, "Commands that wait to be stored; a further one is `busy`.")
    journal_bytes_max: int = setting(67_108_864, "Bytes of the commands that wait; a further one is `busy`.")
    journal_wait_s_max: float = setting(
        15.0, "Seconds that a command waits for a database that is away; then it is `unavailable`."
    )
    grace_s: float = setting(10.0, "Seconds in which a member whose connection was lost may return unnoticed.")
    room_idle_s: float = setting(60.0, "Seconds that an empty room stays in memory.")
    lease_s: float = setting(15.0, "Seconds after which an instance that gave no sign of life counts as dead.")

    # Stopping
    drain_grace_s: float = setting(10.0, "Seconds from SIGTERM until whatever is still open is cut.")
    drain_spread_s: float = setting(3.0, "Seconds over which clients are told to spread their return.")

    # What it says
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severity that is logged.")
    log_format: Literal["human", "json"] = setting("human", "Form of the log lines on standard error.")
