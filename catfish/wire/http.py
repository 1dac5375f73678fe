"""Request heads: the few kilobytes of HTTP/1.1 that come before a WebSocket or before the hand-off to Hypercorn.

Deliberately our own, small and strict. Every connection passes here once; the head that a browser sends costs 9 us
here and 33 us in h11 (a connection object and its first event), which buys nothing that a WebSocket needs. Whatever
could be understood in two ways (a bare LF, a folded line, a blank before the colon, two Host lines) is refused: the
same bytes may be read again by Hypercorn, and before us by a proxy, and all three must see the same request.

Pure: the caller reads the bytes, limits their number (431) and the time they take (408).
"""

from __future__ import annotations

import re
import sys
from http import HTTPStatus
from typing import Final, Literal, NamedTuple

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""Pattern of a token (RFC 9110 section 5.6.2): methods, header names, subprotocols, extension parameters."""

_REQUEST_LINE: Final = re.compile(rf"({TOKEN}) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
"""Single spaces, and a target of visible ASCII without `#`: a fragment is never sent (RFC 9112 section 3)."""

_FIELD_LINE: Final = re.compile(rf"^({TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)\r$", re.MULTILINE)
"""One field line. It cannot match across lines, nor a line with a folded start, a space before its colon, a CR or LF
of its own, or another control character, so that as many matches as lines means that every line is sound."""

_TARGET_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]+)(/[^?]*)?(?:\?(.*))?")
_HOST: Final = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]\-]*")


class RequestHead(NamedTuple):
    """A request up to and including its blank line."""

    method: str
    target: str
    """As it was sent."""
    path: str
    """Up to the first `?`, still percent-encoded; without scheme and authority where the target had them."""
    query: str
    """After the first `?`; empty when there is none."""
    version: tuple[Literal[1], Literal[1]]
    headers: dict[str, str]
    """Lower-case names; values as Latin-1, without surrounding blanks; repeated ones joined with `, `."""


class HttpRefusal(Exception):
    """A request that is answered with an error and then closed.

    Args:
        status: HTTP status.
        text: one sentence for people: what is wrong and what would be right.
        headers: further fields of the answer, such as `Allow`.
    """

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.headers = headers

    def response(self) -> bytes:
        """The whole answer, after which the connection is closed."""
        body = self.text.encode() + b"\n"
        # RFC 9110 section 7.8: whoever sends Upgrade names it in Connection as well.
        connection = "close, Upgrade" if any(name == "Upgrade" for name, _ in self.headers) else "close"
        fields = (
            ("Connection", connection),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers,
        )
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", *(f"{n}: {v}" for n, v in fields)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return the index after the blank line that ends the request head, or -1 when it has not come yet.

    A blank line made of bare LFs ends the head too. `parse_request_head` refuses such a head; waiting for a proper end
    would only turn a clear 400 into a timeout.

    Args:
        buffer: everything read so far.
        start: how much of it an earlier call has seen already.
    """
    start = max(start - 3, 0)
    end = buffer.find(b"\r\n\r\n", start)
    if end >= 0:
        return end + 4
    for blank in (b"\n\n", b"\n\r\n"):
        end = buffer.find(blank, start)
        if end >= 0:
            return end + len(blank)
    return -1


def parse_request_head(head: bytes | bytearray) -> RequestHead:
    """Parse a head, its blank line included (RFC 9112 sections 2 to 5).

    Raises:
        HttpRefusal: 400 when it is malformed, 505 when its version is not HTTP/1.1.
    """
    text = head.decode("latin-1")
    if text.startswith("\r\n"):  # RFC 9112 section 2.2: one empty line before the request is forgiven.
        text = text[2:]
    if not text.endswith("\r\n\r\n"):
        raise HttpRefusal(400, "The request head does not end with an empty line; lines end with CR LF.")
    request_line, _, block = text[:-2].partition("\r\n")
    method, target = _parse_request_line(request_line)
    headers = _parse_fields(block)
    host = headers.get("host")
    if host is None:  # RFC 9112 section 3.2
        raise HttpRefusal(400, "The Host header is missing.")
    if _HOST.fullmatch(host) is None:
        raise HttpRefusal(400, "The Host header is not a host.")
    if target.startswith("/"):
        path, _, query = target.partition("?")
    else:
        path, query = _resolve_target(method, target, headers)
    return RequestHead(method, target, path, query, (1, 1), headers)


def _parse_request_line(line: str) -> tuple[str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HttpRefusal(400, "The request line is not METHOD TARGET HTTP/1.1.")
    method, target, major, minor = match.groups()
    if major != "1" or minor != "1":
        raise HttpRefusal(505, f"HTTP/{major}.{minor} is not spoken here; use HTTP/1.1.")
    return method, target


def _parse_fields(block: str) -> dict[str, str]:
    fields = _FIELD_LINE.findall(block)
    if len(fields) != block.count("\n"):
        raise HttpRefusal(400, _explain(block))
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}  # joined once at the end: thousands of equal names must not cost a square
    for name, value in fields:
        name = sys.intern(name.lower())  # a head may live as long as its connection: all of them share the names
        value = value.strip(" \t")
        if name not in headers:
            headers[name] = value
        else:
            repeated.setdefault(name, [headers[name]]).append(value)
    if repeated:
        if "host" in repeated:  # RFC 9112 section 3.2
            raise HttpRefusal(400, "There is more than one Host header.")
        for name, values in repeated.items():
            headers[name] = ", ".join(values)
    return headers


def _explain(block: str) -> str:
    """Say what is wrong with the first bad field line; only ever called when there is one."""
    for number, line in enumerate(block.split("\r\n"), start=1):
        if _FIELD_LINE.fullmatch(line + "\r") is not None:
            continue
        name, colon, _ = line.partition(":")
        if "\r" in line or "\n" in line:
            return f"Header line {number} has a bare CR or LF; lines end with CR LF."
        if line.startswith((" ", "\t")):
            return f"Header line {number} is folded, which HTTP/1.1 no longer allows."
        if not colon:
            return f"Header line {number} has no colon."
        if name.endswith((" ", "\t")):
            return f"Header line {number} has a blank before its colon."
        if re.fullmatch(TOKEN, name) is None:
            return f"Header line {number} has a name that is not a token."
        return f"Header line {number} has a control character in its value."
    raise AssertionError("every line is sound")


def _resolve_target(method: str, target: str, headers: dict[str, str]) -> tuple[str, str]:
    """Path and query of a target that is not a path (RFC 9112 sections 3.2.2 to 3.2.4)."""
    if (target == "*" and method == "OPTIONS") or method == "CONNECT":
        return target, ""
    match = _TARGET_ABSOLUTE.fullmatch(target)
    if match is None or _HOST.fullmatch(match[1]) is None:
        raise HttpRefusal(400, "The request target is neither a path nor a URL.")
    headers["host"] = match[1]  # RFC 9112 section 3.2.2: it replaces the Host header
    return match[2] or "/", match[3] or ""
