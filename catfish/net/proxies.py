"""Who the client is, where proxies stand between it and us.

Two ways in which a proxy tells, each believed only of those whom a setting names:

    proxy_protocol    every connection from these begins with a PROXY header. It says who is connected; the proxy passes
                      bytes on and nothing else
    trusted_proxies   requests from these carry `X-Forwarded-For` (or `Forwarded`), as reverse proxies for HTTP do

Both may apply one after the other. What anybody else sends of the kind is looked at by nobody, but for one line in the
log when it comes from this machine: then it is most likely a proxy that the settings forgot.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from catfish.config import Settings
from catfish.errors import PROTOCOL_ERROR, PeerError
from catfish.net.plain_stream import PlainStream
from catfish.wire.addresses import UNIX, Networks
from catfish.wire.forwarded import Hop, find_client, parse_forwarded, parse_x_forwarded_for
from catfish.wire.proxy_protocol import parse_proxy_header

log = logging.getLogger(__name__)

HERE: Final = Networks((UNIX, "127.0.0.0/8", "::1/128"))
"""This machine."""
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Fields that proxies add: who sends one is no client itself."""


class Proxies:
    """Which proxies are believed, and what they say."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = Networks(settings.trusted_proxies)
        self._announcing = Networks(settings.proxy_protocol)
        self._field = settings.proxy_field
        self._warned = False
        self.expects_headers = bool(self._announcing)
        """Whether anybody is to send PROXY headers."""

    def announces(self, address: str) -> bool:
        """Whether connections from there begin with a PROXY header."""
        return address in self._announcing

    def trusts(self, address: str) -> bool:
        """Whether what a request from there says about its client is believed."""
        return address in self._trusted

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of the client.

        Args:
            peer: the address that the request came from, or that its PROXY header named.
            headers: of the request, by lower-case names; a repeated one joined with commas.
        """
        return self.describe(peer, headers).address or peer

    def describe(self, peer: str, headers: Mapping[str, str]) -> Hop:
        """The client and the scheme (`https`, `http`, or nothing) by which its request came to the nearest proxy."""
        value = headers.get(self._field)
        if peer not in self._trusted:
            if value is not None and not self._warned and peer in HERE:
                self._warned = True
                log.warning(
                    "a proxy on this machine is not in trusted_proxies: all its clients count as one address",
                    extra={"peer": peer, "field": self._field},
                )
            return Hop(peer)
        if self._field == "forwarded":
            hops = [] if value is None else parse_forwarded(value)
        else:
            hops = parse_x_forwarded_for(value or "", headers.get("x-forwarded-proto", ""))
        return find_client(peer, hops, self._trusted)


def is_straight(headers: Mapping[str, str]) -> bool:
    """Whether a request seems to come straight from its client, not through a proxy."""
    return not any(field in headers for field in FORWARDED)


async def read_proxy_header(stream: PlainStream, *, bytes_max: int) -> str | None:
    """Read the PROXY header of a connection, and not a byte more.

    Returns:
        the client's name; None: the proxy itself is the client.

    Raises:
        PeerError: there is none, or not a proper one. Nothing can be answered to that.
        EOFError: the peer left without a word, as health checks do.
        trio.BrokenResourceError: so it did.
    """
    read = b""
    while True:
        seen = await stream.peek_some(bytes_max)
        if not seen:
            if read:
                raise PeerError(PROTOCOL_ERROR, "PROXY header: it ends early")
            raise EOFError
        header = parse_proxy_header(read + seen, bytes_max=bytes_max)
        if header is not None:
            stream.receive_nowait(header.size - len(read))
            await trio.lowlevel.checkpoint_if_cancelled()
            return header.client
        # All of it belongs to the header: taken, so that the socket is not readable until there is more.
        read += stream.receive_nowait(len(seen))
