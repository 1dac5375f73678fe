"""Keys that an issuer publishes at a URL, and changes when it likes.

They are fetched when a token asks for them: at first, when they have grown old, and when a token names a key that is
not among them (the issuer has a new one). No more than one fetch is under way, and `jwks_retry_s` passes between two,
whatever tokens name; so a flood of invented names reaches the issuer as one request now and then. While the URL does
not answer, the keys of the last time go on being used.
"""

from __future__ import annotations

import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Final

import trio

from catfish import __version__
from catfish.auth.keys import Key, find, parse_jwks
from catfish.config import Settings
from catfish.errors import Rejected

log = logging.getLogger(__name__)

PIECE_BYTES: Final = 16_384
NEVER: Final = float("-inf")

Fetch = Callable[[str, float, int], bytes]
"""What is behind a URL, within a number of seconds and bytes. Blocks. Raises OSError or ValueError."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, and from nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def fetch(url: str, timeout_s: float, bytes_max: int) -> bytes:
    """
    Raises:
        OSError: it cannot be had, in time or at all.
        ValueError: it is too large, or not HTTP.
    """
    opener = urllib.request.build_opener(
        _NoRedirects(), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": f"catfish/{__version__}"}
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            while piece := response.read1(PIECE_BYTES):
                body += piece
                if len(body) > bytes_max:
                    raise ValueError(f"more than {bytes_max} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError("took too long")
    except HTTPException as error:
        raise ValueError(f"no HTTP: {error!r}") from None
    return bytes(body)


class PublishedKeys:
    """The keys behind `Settings.jwks_url`."""

    def __init__(self, url: str, settings: Settings, fetch: Fetch = fetch) -> None:
        self._url = url
        self._settings = settings
        self._fetch = fetch
        self._keys: list[Key] = []
        self._fetched_at = NEVER
        self._tried_at = NEVER
        self._fetching = trio.Lock()
        self._limiter = trio.CapacityLimiter(2)  # one that hangs in a resolver was left behind
        self.fetches = 0
        self.failures = 0

    async def find(self, algorithm: str, kid: str | None) -> list[Key]:
        """The keys that may have signed a token with this header.

        Raises:
            Rejected: unavailable, when no keys could be fetched yet.
        """
        found = find(self._keys, algorithm, kid)
        # Whoever finds its key among old ones does not wait for another's fetch.
        if self._is_due(found) and not (found and self._fetching.locked()):
            async with self._fetching:
                found = find(self._keys, algorithm, kid)
                if self._is_due(found):
                    await self._refresh()
                    found = find(self._keys, algorithm, kid)
        if self._fetched_at == NEVER:
            wait_s = max(1.0, self._tried_at + self._settings.jwks_retry_s - trio.current_time())
            raise Rejected(
                "unavailable", "token: the keys of its issuer cannot be fetched at the moment", round(wait_s * 1000)
            )
        return found

    def _is_due(self, found: list[Key]) -> bool:
        now = trio.current_time()
        if now < self._tried_at + self._settings.jwks_retry_s:
            return False
        return not found or now >= self._fetched_at + self._settings.jwks_cache_s

    async def _refresh(self) -> None:
        settings = self._settings
        self._tried_at = trio.current_time()
        self.fetches += 1
        try:
            with trio.fail_after(settings.jwks_timeout_s) as scope:
                scope.shield = True  # others need the keys as well, if whoever asked first goes away
                text = await trio.to_thread.run_sync(
                    self._fetch,
                    self._url,
                    settings.jwks_timeout_s,
                    settings.jwks_bytes_max,
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
            self._keys = parse_jwks(text)
            self._fetched_at = trio.current_time()
        except (OSError, ValueError, trio.TooSlowError) as error:
            self.failures += 1
            log.warning(
                "the keys that check tokens could not be fetched; those of the last time go on being used",
                extra={"url": self._url, "keys": len(self._keys), "error": str(error) or "took too long"},
            )
