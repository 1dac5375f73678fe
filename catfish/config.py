"""Settings: every knob and every limit, with its unit and what happens when it is reached.

`Settings` holds values that are valid: whoever constructs one, the command line or a test, gets a `ValueError` for a
value out of its range. Where the values come from is told by `catfish.config_sources`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

import attrs

from catfish.config_fields import limit, setting
from catfish.config_fields import matches as _matches
from catfish.config_fields import parse_names as _parse_names
from catfish.config_fields import parse_networks as _parse_networks
from catfish.config_fields import parse_origins as _parse_origins

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080


class TcpBind(NamedTuple):
    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int
    """0 lets the kernel pick one."""


class UnixBind(NamedTuple):
    path: Path


class FdBind(NamedTuple):
    fd: int
    """A listening socket that is open already."""


Bind = TcpBind | UnixBind | FdBind

_BIND: Final = re.compile(
    r"unix:(?P<path>.+)|fd:(?P<fd>\d{1,6})|(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})"
)


def parse_bind(text: str) -> Bind:
    """Read one address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH or fd:N.

    Raises:
        ValueError: it is none of these, or the port is above 65535.
    """
    match = _BIND.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an address to listen on")
    if match["path"] is not None:
        return UnixBind(Path(match["path"]))
    if match["fd"] is not None:
        return FdBind(int(match["fd"]))
    port = int(match["port"])
    if port > 65_535:
        raise ValueError(f"{text!r} has a port above 65535")
    return TcpBind(match["v6"] or match["host"], port)


def _parse_binds(texts: tuple[str, ...]) -> None:
    if not texts:
        raise ValueError("no address to listen on")
    for text in texts:
        parse_bind(text)


@attrs.frozen(kw_only=True)
class Settings:
    """The effective settings of one server."""

    # Where it listens
    bind: tuple[str, ...] = setting(
        (f"{DEFAULT_HOST}:{DEFAULT_PORT}",),
        "Addresses to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH, or fd:N for a socket that is open already.",
        form="one or more of HOST:PORT, [IPV6]:PORT, unix:PATH, fd:N (separated by commas in the environment)",
        check=_parse_binds,
    )
    tls_certificate: Path | None = setting(None, "Certificate chain file (PEM); with it every TCP bind speaks TLS.")
    tls_key: Path | None = setting(None, "Private key file (PEM) of the certificate.")
    backlog: int = setting(1024, "Connections that the kernel holds for us to accept; beyond that it refuses.")
    origins: tuple[str, ...] = setting(
        (),
        "Pages of which origins may connect, besides the server's own (and those of localhost, to a browser on this"
        " machine); * lets the pages of every site in.",
        form="origins such as https://chat.example (no path, no final slash), or *",
        check=_parse_origins,
    )

    # What it keeps, and where
    state_dir: Path | None = setting(None, "Directory of the embedded Postgres; default: the user's state directory.")
    database_url: str | None = setting(
        None,
        "Postgres to use (libpq URL); without it a private one is started.",
        secret=True,
        form="a Postgres URL such as postgresql://user:password@host:5432/database",
        check=_matches(r"postgres(ql)?://|\w+\s*="),
    )
    database_pool_max: int = setting(
        8, "Connections to Postgres, one of them the journal's; reads beyond that wait.", least=3
    )
    database_timeout_s: float = setting(10.0, "Seconds after which a statement is given up and counts as an outage.")
    redis_url: str | None = setting(
        None,
        "Redis to mirror events over.",
        secret=True,
        form="a Redis URL such as redis://host:6379/0",
        check=_matches(r"(rediss?(\+sentinel|\+cluster)?|unix)://"),
    )
    redis_prefix: str = setting(
        "catfish",
        "Beginning of every name in Redis; servers of different databases need different ones.",
        form="letters, digits, and . _ : -",
        check=_matches(r"[\w.:-]+\Z"),
    )
    workers: int = setting(1, "Processes that share the port.")
    migrate: bool = setting(False, "Apply pending migrations at start (always done with the embedded Postgres).")

    # Who may come in
    auth: Literal["open", "required"] = setting("open", "open: anonymous names allowed; required: a token is needed.")
    jwt_secret: str | None = setting(
        None, "Secret that signs tokens (HS256, HS384, HS512); 32 random bytes or more.", secret=True
    )
    jwt_secrets_former: tuple[str, ...] = setting(
        (), "Secrets that no token is signed with any more, and that old ones may still come with.", secret=True
    )
    jwt_keys: tuple[str, ...] = setting(
        (),
        "Public keys of whoever signs tokens (RS…, PS…, ES…, EdDSA).",
        form="PEM files with public keys or certificates, or the text of one",
    )
    jwks_url: str | None = setting(
        None,
        "Where an issuer publishes its keys (JWKS); fetched when a token asks for one, and kept.",
        form="an address such as https://issuer.example/.well-known/jwks.json",
        check=_matches(r"https?://[^\s/@]+"),
    )
    jwks_cache_s: float = setting(300.0, "Seconds after which keys of `jwks_url` are fetched again for the next token.")
    jwks_retry_s: float = setting(10.0, "Least seconds between two fetches, whatever tokens name; old keys stay good.")
    jwks_timeout_s: float = setting(5.0, "Seconds for `jwks_url` to answer; then it counts as away.")
    jwks_bytes_max: int = setting(262_144, "Bytes of such an answer; a larger one is not taken.")
    jwt_issuer: str | None = setting(None, "Who must have issued a token (claim `iss`); others are refused.")
    jwt_audience: tuple[str, ...] = setting(
        (),
        "For whom tokens may be (claim `aud`), one of these; without it those for anybody in particular are refused.",
    )
    jwt_leeway_s: float = setting(
        0.0, "Seconds that a token counts before its `nbf` and after its `exp`, for clocks that differ.", least=0
    )
    token_bytes_max: int = setting(8_192, "Bytes of a token; a longer one is refused unread.")
    api_key: str | None = setting(None, "Key of the server API.", secret=True)
    login_from: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128"),
        "Where servers are that sign users in (POST /api/auth/login) without the API key; never through a proxy.",
        form="addresses, networks such as 10.1.0.0/16, or unix for those who come over a Unix socket",
        check=_parse_networks,
    )
    registration: Literal["auto", "open", "closed"] = setting(
        "auto",
        "Who makes an account with an email and a password: open: anybody; closed: servers with the API key alone;"
        " auto: open where `auth` is open, else closed.",
    )
    password_chars_min: int = setting(8, "Characters of a new password at least; a shorter one is `bad_request`.")
    password_hashes_max: int = setting(
        2, "Passwords that are hashed at the same time; each takes `argon2_memory_kib` and a processor."
    )
    password_waiting_max: int = setting(64, "Passwords that wait to be hashed; a further one is `busy`.")
    argon2_memory_kib: int = setting(65_536, "Memory that hashing a password takes (Argon2id), in KiB.", least=8)
    argon2_passes: int = setting(3, "Passes over that memory.")
    argon2_lanes: int = setting(1, "Threads that hash one password; the memory is at least 8 KiB for each.")
    access_valid_s: int = setting(900, "Seconds for which an access token of an account is valid.")
    refresh_valid_s: int = setting(
        2_592_000, "Seconds for which a refresh token is valid that was not used; then one has to log in again."
    )

    # Proxies in front of it
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Reverse proxies whose word counts about who their clients are (see proxy_field); anybody else's does not.",
        form="addresses, networks such as 10.1.0.0/16, or unix for those who come over a Unix socket",
        check=_parse_networks,
    )
    proxy_field: Literal["x-forwarded-for", "forwarded"] = setting(
        "x-forwarded-for", "The field that they write; it must be one that they do not just pass on from the client."
    )
    proxy_protocol: tuple[str, ...] = setting(
        (),
        "Proxies that begin every connection with a PROXY header (version 1 or 2); one without it is closed.",
        form="addresses, networks such as 10.1.0.0/16, or unix for those who come over a Unix socket",
        check=_parse_networks,
    )

    # Reading a request
    request_head_bytes_max: int = setting(16_384, "Bytes of an HTTP request head; a longer one is answered 431.")
    request_head_timeout_s: float = setting(10.0, "Seconds for the whole head to arrive; a slower one is answered 408.")
    request_body_bytes_max: int = setting(262_144, "Bytes of an HTTP request body; a longer one is answered 413.")
    request_body_timeout_s: float = setting(10.0, "Seconds for the whole body to arrive; a slower one is answered 408.")
    idempotency_s: float = setting(
        86_400.0, "Seconds for which the answer to a POST with an Idempotency-Key is remembered, at least."
    )
    http_keep_alive_s: float = setting(15.0, "Seconds that an idle HTTP connection stays open.")
    hsts_s: int = setting(
        15_552_000, "Seconds for which browsers that came by HTTPS keep to it (HSTS); 0: they are not told to.", least=0
    )
    gzip_bytes_min: int = setting(1_024, "Bytes below which an answer over HTTP is sent as it is.")
    connections_max: int = setting(20_000, "Open connections; a further one is answered 503 and closed.")
    connections_per_address_max: int = setting(
        1_000, "Open connections of one address; a further one is answered 429 and closed."
    )

    # How much there may be of everything: RATE/BURST
    limits_exempt: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128", "unix"),
        "Where nobody is limited by rate or by connections per address; who comes through a proxy is not there.",
        form="addresses, networks such as 10.1.0.0/16, or unix for those who come over a Unix socket",
        check=_parse_networks,
    )
    limits_kept_max: int = setting(
        100_000, "Users, and addresses, of which each limit remembers what they did; the longest quiet are forgotten."
    )
    limit_connecting_user: str = limit("5/100", "Sessions of one user that begin; beyond that `rate_limited`.")
    limit_connecting_address: str = limit("50/1000", "Sessions that begin from one address; beyond that 429.")
    limit_events_connection: str = limit("200/1000", "Events from one connection, of any kind.")
    limit_events_user: str = limit("400/2000", "The same from all connections of one user.")
    limit_events_address: str = limit("5000/20000", "The same from one address; requests for polling count as well.")
    limit_joining_connection: str = limit("10/300", "Rooms that one connection enters or makes.")
    limit_joining_user: str = limit("20/600", "The same by one user.")
    limit_joining_address: str = limit("200/4000", "The same from one address.")
    limit_matching_connection: str = limit("2/20", "Strangers that one connection looks for.")
    limit_matching_user: str = limit("4/40", "The same by one user.")
    limit_matching_address: str = limit("50/500", "The same from one address.")
    limit_sending_connection: str = limit("20/200", "Messages, edits, deletions and reactions from one connection.")
    limit_sending_user: str = limit("40/400", "The same by one user.")
    limit_sending_address: str = limit("1000/10000", "The same from one address.")
    limit_rest_user: str = limit("50/500", "Requests over HTTP with the token of one user; beyond that 429.")
    limit_rest_address: str = limit("200/2000", "Requests over HTTP from one address; beyond that 429.")
    limit_login_address: str = limit(
        "1/60", "Requests that check or set a password, from one address; they are costly on purpose. Beyond that 429."
    )
    limit_refused_connection: str = limit(
        "50/500", "Requests of one connection that are refused as `rate_limited`; beyond that it is closed with 4029."
    )

    # WebSocket connections
    message_bytes_max: int = setting(1_048_576, "Bytes of one message after inflation; a larger one closes with 1009.")
    fragments_max: int = setting(1_024, "Frames of one message; a message in more closes with 1009.")
    deflate: bool = setting(True, "Offer permessage-deflate to clients that ask for it.")
    deflate_bytes_min: int = setting(1_024, "Bytes below which a message is sent as it is; 0 compresses all.", least=0)
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

    # Engine.IO and Socket.IO
    socketio_paths: tuple[str, ...] = setting(
        ("/socket.io", "/api/v1/chat-service/socket.io"),
        "Paths on which Socket.IO is spoken.",
        form="paths such as /socket.io",
    )
    socketio_msgpack_paths: tuple[str, ...] = setting(
        ("/socket.io-msgpack",),
        "Paths for Socket.IO clients with socket.io-msgpack-parser.",
        form="paths such as /socket.io-msgpack",
    )
    socketio_namespaces: tuple[str, ...] = setting(
        ("/",), "Socket.IO namespaces that lead to the rooms.", form="names that begin with a slash"
    )
    ping_interval_ms: int = setting(25_000, "Milliseconds between Engine.IO pings, as clients are told.")
    ping_timeout_ms: int = setting(
        20_000, "Milliseconds for an answer to an Engine.IO ping; then the session is over (ping timeout)."
    )
    max_payload_bytes: int = setting(
        1_000_000, "Bytes of one Engine.IO message or POST; a larger message closes with 1009, a POST is answered 413."
    )
    payload_packets_max: int = setting(10_000, "Packets in one POST; with more the session is over (parse error).")
    poll_packets_max: int = setting(
        16, "Packets in the answer to one poll, the rest is for the next; more than 16 python-engineio does not take."
    )
    upgrade_timeout_s: float = setting(
        10.0, "Seconds for the move from polling to WebSocket; then the WebSocket is closed and polling goes on."
    )
    recovery_s: float = setting(
        0.0,
        "Seconds for which a Socket.IO session may be recovered (connection state recovery); 0: never.",
        least=0,
    )
    connect_timeout_s: float = setting(
        45.0, "Seconds for a Socket.IO client to enter its first namespace; then the connection is closed."
    )
    attachments_max: int = setting(10, "Binary attachments of one Socket.IO packet; more close the connection.")
    namespaces_max: int = setting(
        16, "Socket.IO namespaces that one connection may be in; a further CONNECT is refused."
    )
    asked_max: int = setting(
        1_000,
        "Events of ours that one Socket.IO client has yet to acknowledge; the oldest is given up for a further one.",
    )
    contracts: tuple[str, ...] = setting(
        ("all",),
        "Event vocabularies that Socket.IO clients may speak; what a client of another one sends is ignored.",
        form="all, or some of catfish, yum, chatpoc, pulsechat, peerprep and the names that installed packages bring;"
        " NAME@PATH or NAME@PATH#NAMESPACE for one place alone",
        check=_parse_names,
    )

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
    grace_s: float = setting(10.0, "Seconds in which a member whose connection was lost may return unnoticed.", least=0)
    rematch_s: float = setting(
        5.0,
        "Seconds that somebody waits for the next stranger to come; then it is brought to another who waits elsewhere.",
    )
    partner_pause_s: float = setting(
        300.0,
        "Seconds for which two strangers who met are not matched again.",
        least=0,
    )
    report_messages: int = setting(20, "Messages of the room that are kept with a report.")
    room_idle_s: float = setting(60.0, "Seconds that an empty room stays in memory.", least=0)
    poll_s: float = setting(
        1.0, "Seconds between two comparisons of the rooms with the database while Redis is away; events cross as late."
    )
    lease_s: float = setting(15.0, "Seconds after which an instance that gave no sign of life counts as dead.")

    # Between instances
    mirror_streams: int = setting(
        1, "Redis streams that the rooms are spread over; more of them only help a Redis Cluster."
    )
    mirror_entries_max: int = setting(
        10_000,
        "Entries that such a stream keeps, about; who falls further behind fills its rooms from the database.",
    )
    mirror_entry_bytes_max: int = setting(262_144, "Bytes of one entry; a batch with more leaves in several.")
    mirror_waiting_items_max: int = setting(20_000, "Events that wait for Redis; a further one does not cross.")
    mirror_waiting_bytes_max: int = setting(16_777_216, "Bytes of the events that wait; a further one does not cross.")
    mirror_interval_ms: float = setting(
        3.0,
        "Least milliseconds between two batches to Redis; what comes meanwhile travels together. Longer ones cost"
        " time on the way to other instances, shorter ones CPU.",
        least=0,
    )
    mirror_timeout_s: float = setting(
        3.0, "Seconds for an answer of Redis; then it counts as away, and rooms are compared with the database."
    )
    outlet_entries_max: int = setting(
        100_000,
        "Messages that the stream for other services keeps, about; who falls further behind misses some. 0: no stream.",
        least=0,
    )

    # Stopping
    drain_grace_s: float = setting(10.0, "Seconds from SIGTERM until whatever is still open is cut.", least=0)
    drain_spread_s: float = setting(3.0, "Seconds over which clients are told to spread their return.", least=0)

    # Workers
    worker_start_s: float = setting(60.0, "Seconds for a new worker process to accept connections; then it is killed.")
    worker_silence_s: float = setting(
        30.0, "Seconds without a sign of life from a worker; then it is killed and started again."
    )
    worker_steady_s: float = setting(
        30.0, "Seconds that a worker must have served; if it ends before, that is a failure in a row with earlier ones."
    )
    worker_backoff_s_max: float = setting(30.0, "Seconds before a worker that keeps failing is started again, at most.")
    worker_failures_max: int = setting(
        5, "Failures of a worker in a row; with so many, and no other worker serving, the server stops with status 1."
    )
    handover_timeout_s: float = setting(
        5.0, "Seconds for a worker to take over a request of its sessions; then it is answered as of an unknown one."
    )

    # What it says
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severity that is logged.")
    log_format: Literal["human", "json"] = setting("human", "Form of the log lines on standard error.")
    log_lines_max: int = setting(
        20, "Log lines of one kind in a second; more are left out, and counted in the next one. 0: no limit.", least=0
    )
    metrics_from: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128"),
        "Where those are who read GET /metrics without the API key; never through a proxy.",
        form="addresses, networks such as 10.1.0.0/16, or unix for those who come over a Unix socket",
        check=_parse_networks,
    )
    otel_endpoint: str | None = setting(
        None,
        "Where spans go (OTLP over HTTP); needs the extra otel.",
        form="a URL such as http://127.0.0.1:4318/v1/traces",
        check=_matches(r"https?://\S+\Z"),
    )
    otel_ratio: float = setting(1.0, "Part of the traces that are recorded, of those that begin here.", least=0)
    sentry_dsn: str | None = setting(
        None,
        "Where faults are reported (Sentry's DSN); needs the extra sentry.",
        secret=True,
        form="a URL such as https://key@sentry.example/1",
        check=_matches(r"https?://\S+@\S+\Z"),
    )
    log_requests: bool = setting(False, "Log each HTTP request; those that fail by our fault are logged in any case.")

    def secrets(self) -> list[str]:
        """Everything in it that nobody may read, such as a log's readers."""
        found: list[str] = []
        for field in attrs.fields(Settings):
            value = getattr(self, field.name) if field.metadata["secret"] else None
            found += value if isinstance(value, tuple) else [value] if value else []
        return found

    @property
    def state_directory(self) -> Path:
        """`state_dir`, or where the XDG Base Directory Specification puts the state of a user's programs."""
        home = os.environ.get("XDG_STATE_HOME", "")
        default = Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()
        return self.state_dir or default / "catfish"

    def __attrs_post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be set together")
        has_key = self.jwt_secret is not None or self.jwt_keys or self.jwks_url is not None
        if self.auth == "required" and not has_key and self.registration != "open":
            raise ValueError(
                "auth is required; then jwt_secret must be set (or jwt_keys, or jwks_url), or nobody could come in"
            )
        if self.argon2_memory_kib < 8 * self.argon2_lanes:
            raise ValueError(
                f"argon2_memory_kib is {self.argon2_memory_kib};"
                f" it must be 8 for each of argon2_lanes, which are {self.argon2_lanes}"
            )
        if self.history_page_default > self.history_page_max:
            raise ValueError(
                f"history_page_default is {self.history_page_default};"
                f" it must not be above history_page_max, which is {self.history_page_max}"
            )


attrs.resolve_types(Settings)
