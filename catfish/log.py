"""Logging: one line an event on standard error, for people or for programs, without secrets.

Every module logs to `logging.getLogger(__name__)`; `set_up` is called once, by the command line. What a line is about
goes into `extra=`, never into the text:

    log.info("slow consumer", extra={"connection": 17, "waiting_bytes": 1_048_577})

`human` writes `time LEVEL logger: message key=value …`; `json` writes one object a line with the keys time, level,
logger, message, those of `extra`, and exception. Under systemd the human form leaves the time to the journal and puts
the priority in front as sd-daemon(3) has it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal
from urllib.parse import unquote

import msgspec

from catfish.log_limit import LineLimit

_PLAIN: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
"""Attributes that every record has; whatever else one has came by `extra=`."""
_URL_PASSWORD: Final = re.compile(r"(?P<before>\w://[^\s:/@]*:)(?P<password>[^\s@/]+)(?=@)")
_QUERY_TOKEN: Final = re.compile(r"(?P<before>\b(?:access_|refresh_)?token=)[^&\s\"']+", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
"""A JSON Web Token: its header is an object, which begins so in base64url."""
_HIDDEN: Final = "***"

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The HTTP request that is being answered; every line has it as `request`."""
connection_id: Final[ContextVar[int | None]] = ContextVar("connection_id", default=None)
"""The WebSocket connection whose task this is; every line has it as `connection`."""
_IDS: Final[Mapping[str, ContextVar[Any]]] = {"request": request_id, "connection": connection_id}
_SECRET_CHARS_MIN: Final = 4
"""A shorter secret protects nothing, and hiding it would tear other words apart."""


def set_up(
    *,
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["human", "json"],
    secrets: Collection[str] = (),
    stream: IO[str] | None = None,
    lines_max: int = 0,
) -> None:
    """Send every log line to `stream` (standard error) in the given form, in the place of earlier handlers.

    Our own loggers speak from `level` on; those of libraries from `level` on, but no more than warnings unless it is
    `debug`. Each of `secrets`, every password in a URL and every token is replaced. Of one kind of line `lines_max` are
    written in a second, see `log_limit`; 0: all.
    """
    stream = sys.stderr if stream is None else stream
    redact = Redactor(secrets)
    formatter = JsonFormatter(redact) if form == "json" else HumanFormatter(redact, journal=_is_journal(stream))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_add_ids)
    global _limit
    _limit = LineLimit(lines_max, handler.emit) if lines_max else None
    if _limit is not None:
        handler.addFilter(_limit)
        atexit.register(_limit.flush, everything=True)
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number if level == "debug" else max(number, logging.WARNING))
    logging.getLogger("catfish").setLevel(number)
    logging.captureWarnings(True)


_limit: LineLimit | None = None


def flush() -> None:
    """Tell what was left out until now. Cheap; call it about once a second."""
    if _limit is not None:
        _limit.flush()


def _add_ids(record: logging.LogRecord) -> bool:
    """What the line is about, where whoever wrote it did not say so."""
    for name, variable in _IDS.items():
        id = variable.get()
        if id is not None and not hasattr(record, name):
            setattr(record, name, id)
    return True


class Redactor:
    """Takes secrets out of text."""

    def __init__(self, secrets: Collection[str]) -> None:
        passwords = [unquote(match["password"]) for match in map(_URL_PASSWORD.search, secrets) if match]
        long = sorted(
            {text for text in (*secrets, *passwords) if len(text) >= _SECRET_CHARS_MIN}, key=len, reverse=True
        )
        self._secrets = re.compile("|".join(map(re.escape, long))) if long else None

    def __call__(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(_HIDDEN, text)
        text = _URL_PASSWORD.sub(rf"\g<before>{_HIDDEN}", text)
        return _TOKEN.sub(_HIDDEN, _QUERY_TOKEN.sub(rf"\g<before>{_HIDDEN}", text))


class HumanFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z WARNING catfish.net.hub: slow consumer connection=17`, and the traceback below."""

    def __init__(self, redact: Redactor, *, journal: bool = False) -> None:
        super().__init__()
        self._redact = redact
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        start = f"{_time_of(record)} {record.levelname:<7}"
        if self._journal:
            start = f"<{_priority_of(record)}>{record.levelname}"
        message = _one_line(self._redact(record.getMessage()))
        fields = "".join(f" {key}={_quoted(self._redact(str(value)))}" for key, value in _extras_of(record).items())
        exception = _exception_of(self, record)
        below = "" if exception is None else f"\n{self._redact(exception)}"
        return f"{start} {record.name}: {message}{fields}{below}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line (RFC 8259); values that JSON has no form for are written as text."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in _extras_of(record).items() if key not in line}
        exception = _exception_of(self, record)
        if exception is not None:
            line["exception"] = exception
        redacted = _redact_values(line, self._redact)
        return msgspec.json.encode(redacted).decode()


def _redact_values(value: Any, redact: Redactor) -> Any:
    """The same value for JSON, every text in it without secrets."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): _redact_values(inner, redact) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redact_values(inner, redact) for inner in value]
    return redact(str(value)).encode("utf-8", "replace").decode()


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras_of(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def _one_line(text: str) -> str:
    """The text without control characters: what a peer sent may not forge a line or steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


def _quoted(text: str) -> str:
    if re.fullmatch(r"[^\s\"=\x00-\x1f\x7f-\x9f]+", text):
        return text
    return f'"{_one_line(text).replace(chr(34), chr(39))}"'


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None


def _priority_of(record: logging.LogRecord) -> int:
    """Of syslog: 3 error, 4 warning, 6 informational, 7 debug."""
    if record.levelno >= logging.ERROR:
        return 3
    if record.levelno >= logging.WARNING:
        return 4
    return 6 if record.levelno >= logging.INFO else 7


def _is_journal(stream: IO[str]) -> bool:
    """Whether the stream goes to systemd's journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # not a file; io.UnsupportedOperation is one of these
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
