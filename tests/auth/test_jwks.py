"""Keys that an issuer publishes: when they are fetched, and what happens while they cannot be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from catfish.auth import jwks, tokens
from catfish.auth.jwks import PublishedKeys, fetch
from catfish.auth.tokens import TokenVerifier
from catfish.config import Settings
from catfish.errors import Rejected
from tests.auth.signing import SECRET, jwk, key_set, private, token

URL = "https://issuer.example/keys"
FIRST = key_set(jwk("ES256", kid="first"))
BOTH = key_set(jwk("ES256", kid="first"), jwk("ES256 other", kid="second"))


class Issuer:
    """What is behind the URL."""

    def __init__(self, answer: bytes | Exception = FIRST) -> None:
        self.answer = answer
        self.asked = 0

    def fetch(self, url: str, timeout_s: float, bytes_max: int) -> bytes:
        assert url == URL
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def keys(issuer: Issuer) -> PublishedKeys:
    return PublishedKeys(URL, Settings(), issuer.fetch)


async def names(keys: PublishedKeys, kid: str | None) -> list[str | None]:
    return [key.kid for key in await keys.find("ES256", kid)]


async def test_keys_are_fetched_when_the_first_token_comes_and_kept(
    issuer: Issuer, keys: PublishedKeys, mock_clock: MockClock
) -> None:
    assert issuer.asked == 0
    for _ in range(5):
        assert await names(keys, "first") == ["first"]
    assert issuer.asked == 1
    mock_clock.jump(301)
    assert await names(keys, "first") == ["first"]
    assert issuer.asked == 2


async def test_a_new_key_of_the_issuer_is_found_by_its_name(
    issuer: Issuer, keys: PublishedKeys, mock_clock: MockClock
) -> None:
    assert await names(keys, "first") == ["first"]
    issuer.answer = BOTH
    mock_clock.jump(11)
    assert await names(keys, "second") == ["second"]
    assert issuer.asked == 2


async def test_invented_names_reach_the_issuer_now_and_then_only(
    issuer: Issuer, keys: PublishedKeys, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(names, keys, f"invented-{number}")
    assert issuer.asked == 1
    for number in range(100):
        assert await names(keys, f"invented-{number}") == []
    assert issuer.asked == 1
    mock_clock.jump(10)
    assert await names(keys, "invented") == []
    assert await names(keys, "first") == ["first"]
    assert issuer.asked == 2


@pytest.mark.parametrize("trouble", [OSError("no route"), ValueError("too large"), b"<html>", b'{"keys":[]}'])
async def test_while_the_url_does_not_answer_the_old_keys_stay_good(
    issuer: Issuer,
    keys: PublishedKeys,
    mock_clock: MockClock,
    trouble: bytes | Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await names(keys, "first") == ["first"]
    issuer.answer = trouble
    mock_clock.jump(301)
    for _ in range(3):
        assert await names(keys, "first") == ["first"]
    assert (issuer.asked, keys.failures) == (2, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    issuer.answer = BOTH
    mock_clock.jump(10)
    assert await names(keys, "second") == ["second"]


async def test_before_there_were_any_keys_tokens_may_come_again_later(
    issuer: Issuer, keys: PublishedKeys, mock_clock: MockClock
) -> None:
    issuer.answer = OSError("refused")
    for _ in range(3):
        with pytest.raises(Rejected) as refused:
            await names(keys, "first")
        assert refused.value.code == "unavailable"
        assert refused.value.retry_after_ms is not None
        assert 1_000 <= refused.value.retry_after_ms <= 10_000
    assert issuer.asked == 1
    issuer.answer = FIRST
    mock_clock.jump(10)
    assert await names(keys, "first") == ["first"]


async def test_who_knows_its_key_does_not_wait_for_a_fetch_of_somebody_else(nursery: trio.Nursery) -> None:
    hold = threading.Event()
    started = threading.Event()

    def slow(url: str, timeout_s: float, bytes_max: int) -> bytes:
        if started.is_set():
            hold.wait(10)
        started.set()
        return FIRST

    keys = PublishedKeys(URL, Settings(jwks_retry_s=0.000_001), slow)
    try:
        assert await names(keys, "first") == ["first"]
        nursery.start_soon(names, keys, "unknown")
        while keys.fetches < 2:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(5):
            assert await names(keys, "first") == ["first"]
    finally:
        hold.set()


async def test_the_fetch_for_a_client_that_goes_away_is_for_the_next_one(issuer: Issuer, keys: PublishedKeys) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await names(keys, "first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names, keys, "first")
        while not keys.fetches:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert await names(keys, "first") == ["first"]
    assert issuer.asked == 1


async def test_a_url_that_never_answers_is_given_up(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    hold = threading.Event()

    def never(url: str, timeout_s: float, bytes_max: int) -> bytes:
        hold.wait(10)
        return FIRST

    keys = PublishedKeys(URL, Settings(), never)

    async def jump() -> None:
        while not keys.fetches:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(5)

    nursery.start_soon(jump)
    try:
        with pytest.raises(Rejected) as refused:
            await names(keys, "first")
        assert refused.value.code == "unavailable"
    finally:
        hold.set()


async def test_tokens_of_published_keys_beside_a_secret(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "PublishedKeys", lambda url, settings: PublishedKeys(url, settings, issuer.fetch))
    verifier = TokenVerifier(Settings(auth="required", jwt_secret=SECRET, jwks_url=URL))
    assert (await verifier.verify(token())).user == "ann"
    assert issuer.asked == 0
    for kid in ("first", None):
        assert (await verifier.verify(token(key=private("ES256"), algorithm="ES256", kid=kid))).user == "ann"
    for bad in (
        token(key=private("ES256 other"), algorithm="ES256", kid="first"),
        token(key=private("ES256 other"), algorithm="ES256", kid="other"),
        token(key=private("RS256"), algorithm="RS256"),
    ):
        with pytest.raises(Rejected) as refused:
            await verifier.verify(bad)
        assert refused.value.code == "unauthorized"


# The fetch itself


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tell(body: bytes, status: int = 200, **fields: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in fields.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_what_is_behind_a_url_is_fetched() -> None:
    with serving(tell(FIRST)) as url:
        assert fetch(url, 5, 10_000) == FIRST


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (tell(b"x" * 101), "more than 100 bytes"),
        (tell(b"gone", 404), "404"),
        (tell(b"", 302, Location="file:///etc/passwd"), "302"),
        (tell(b"", 302, Location="http://127.0.0.1:1/"), "302"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "HTTP"),
        (lambda handler: None, "HTTP|closed|reset"),
    ],
)
def test_what_is_too_large_elsewhere_or_nothing_is_not_taken(
    answer: Callable[[BaseHTTPRequestHandler], None], words: str
) -> None:
    with serving(answer) as url, pytest.raises((OSError, ValueError), match=words):
        fetch(url, 5, 100)


def test_where_nobody_listens_nothing_is_fetched() -> None:
    with pytest.raises(OSError, match="refused"):
        fetch("http://127.0.0.1:1/keys", 5, 100)
    assert jwks.PIECE_BYTES > 0
