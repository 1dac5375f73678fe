"""Whom a proxy speaks for: `X-Forwarded-For` and `Forwarded` (RFC 7239). Pure.

Every proxy appends the address that a request came from, so what is on the right was written by the nearest one.
Whoever sends the request may have written anything on the left of that. So the list is read from the right, as long as
the address that is speaking is a trusted proxy's: the first one that is not is the client's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from catfish.wire.addresses import Networks, canonical

Field = Literal["x-forwarded-for", "forwarded"]
HOPS_MAX: Final = 32
"""Entries that are read, from the right; nobody has as many proxies."""

_PAIR: Final = re.compile(r'\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(?:([;,])|$)')
"""One `name=value` of a `Forwarded` field, and what separates it from the next (RFC 7239 section 4)."""
_WITH_PORT: Final = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[0-9.]+))(?::[0-9A-Za-z._-]+)?")


class Hop(NamedTuple):
    """What one proxy says of where a request came from."""

    address: str | None
    """None: it does not say (`unknown`, or a name that it made up)."""
    scheme: str = ""
    """`https`, `http`, or nothing."""


def parse_node(text: str) -> str | None:
    """An address, as proxies write it: alone, in brackets, with a port. None for anything else."""
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"] or ""
    return canonical(text)


def parse_x_forwarded_for(addresses: str, schemes: str = "") -> list[Hop]:
    """The hops in `X-Forwarded-For`, the nearest last. The nearest one's scheme is the last of `X-Forwarded-Proto`."""
    texts = addresses.split(",")[-HOPS_MAX:]
    hops = [Hop(parse_node(text)) for text in texts]
    return [*hops[:-1], hops[-1]._replace(scheme=schemes.rpartition(",")[2].strip().lower())]


def parse_forwarded(value: str) -> list[Hop]:
    """The hops in `Forwarded`, the nearest last; of one that is malformed, what came behind it does not count."""
    hops: list[Hop] = []
    fields: dict[str, str] = {}
    position = 0
    while position < len(value):
        match = _PAIR.match(value, position)
        if match is None:
            return [Hop(None)]  # nobody can tell what belongs to whom
        name, quoted, plain, separator = match.groups()
        fields[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        position = match.end()
        if separator != ";":
            hops.append(Hop(parse_node(fields.get("for", "")), fields.get("proto", "").lower()))
            fields = {}
    return hops[-HOPS_MAX:]


def find_client(peer: str, hops: Sequence[Hop], trusted: Networks) -> Hop:
    """The client, seen from here: the first from the right that is no trusted proxy.

    Where a trusted proxy does not say whom it speaks for, it is the client itself; where all are trusted, the first one
    is. The scheme is what the nearest proxy said: it is the one that the client's request came by, or knows it.
    """
    client = peer
    for hop in reversed(hops):
        if client not in trusted or hop.address is None:
            break
        client = hop.address
    return Hop(client, hops[-1].scheme if hops and peer in trusted else "")
