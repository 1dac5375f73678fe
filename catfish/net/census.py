"""How many connections each address has, and whether it may have one more."""

from __future__ import annotations

from typing import Final

from catfish.config import Settings
from catfish.net.proxies import Proxies
from catfish.wire.addresses import Networks, address_of, subscriber_of
from catfish.wire.http import HttpRefusal

CROWDED: Final = HttpRefusal(
    429, "There are as many connections from your address as there may be.", (("Retry-After", "5"),)
)


class Census:
    """An address is counted for each connection that it has itself, and for each WebSocket that a trusted proxy has for
    it. The connections of such a proxy are nobody's: it keeps them, and sends what comes from many."""

    def __init__(self, settings: Settings, proxies: Proxies) -> None:
        self._most = settings.connections_per_address_max
        self._exempt = Networks(settings.limits_exempt)
        self._proxies = proxies
        self._counts: dict[str, int] = {}
        self.refused = 0

    def __len__(self) -> int:
        """Addresses."""
        return len(self._counts)

    def connected(self, peer: str) -> str | None:
        """Whom a connection of that peer counts for; None: for nobody."""
        address = address_of(peer)
        return None if address in self._exempt or self._proxies.trusts(address) else subscriber_of(address)

    def represented(self, peer: str, address: str) -> str | None:
        """Whom a WebSocket counts for that this peer has for the client; None: for nobody, or it is counted already."""
        if address in self._exempt or not self._proxies.trusts(address_of(peer)):
            return None
        return subscriber_of(address)

    def is_full(self, address: str | None) -> bool:
        """Whether it has as many as it may have. Who asks refuses then."""
        if address is None or self._counts.get(address, 0) < self._most:
            return False
        self.refused += 1
        return True

    def enter(self, address: str | None) -> None:
        """It has one more."""
        if address is not None:
            self._counts[address] = self._counts.get(address, 0) + 1

    def leave(self, address: str | None) -> None:
        """One of them is over."""
        if address is not None:
            left = self._counts[address] - 1
            if left:
                self._counts[address] = left
            else:
                del self._counts[address]
