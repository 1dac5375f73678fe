"""Larger texts are compressed for those who take it, and secrets never."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from catfish.http.compression import INLINE_BYTES_MAX, Compressed
from tests.http.harness import Answer, call

TEXT = b'{"text":"' + b"over and over " * 500 + b'"}'
JSON = (b"content-type", b"application/json")


class Source:
    """An application that answers with these pieces."""

    def __init__(self, *pieces: bytes, status: int = 200, headers: Any = (JSON,)) -> None:
        self.pieces = pieces
        self.status = status
        self.headers = list(headers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = (b"content-length", b"%d" % sum(map(len, self.pieces)))
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        for index, piece in enumerate(self.pieces):
            more = index < len(self.pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})


async def ask(source: Source, accepts: str | None = "gzip", method: str = "GET") -> Answer:
    headers = {} if accepts is None else {"accept-encoding": accepts}
    return await call(Compressed(source, 1_024), method, "/", headers=headers)


@pytest.mark.parametrize("accepts", ["gzip", "br, GZIP;q=0.5", "deflate, *", "x-gzip", "gzip;q=1.0"])
async def test_who_takes_gzip_gets_it(accepts: str) -> None:
    answer = await ask(Source(TEXT), accepts)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(answer.body) < len(TEXT) / 5
    assert gzip.decompress(answer.body) == TEXT


@pytest.mark.parametrize("accepts", [None, "", "identity", "br", "gzip;q=0", "gzip; q=0.000", "*;q=0"])
async def test_who_does_not_gets_it_plain(accepts: str | None) -> None:
    answer = await ask(Source(TEXT), accepts)
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding", "a cache must not give it to the others"
    assert answer.body == TEXT


@pytest.mark.parametrize(
    ("source", "method"),
    [
        (Source(TEXT[:1_000]), "GET"),
        (Source(TEXT, headers=(JSON, (b"cache-control", b"no-store"))), "GET"),
        (Source(TEXT, headers=(JSON, (b"content-encoding", b"br"))), "GET"),
        (Source(TEXT, headers=((b"content-type", b"image/png"),)), "GET"),
        (Source(TEXT, headers=()), "GET"),
        (Source(TEXT, status=404), "GET"),
        (Source(TEXT, status=206), "GET"),
        (Source(b"", status=204), "GET"),
        (Source(TEXT), "HEAD"),
    ],
)
async def test_what_is_short_secret_or_no_text_is_left_alone(source: Source, method: str) -> None:
    answer = await ask(source, method=method)
    assert answer.headers.get("content-encoding") in (None, "br")
    assert "vary" not in answer.headers
    assert answer.body == (b"" if method == "HEAD" else b"".join(source.pieces))


@pytest.mark.parametrize("pieces", [(TEXT, TEXT), (TEXT, b""), (b"", TEXT, TEXT), (TEXT * 20, TEXT)])
async def test_an_answer_in_pieces_stays_one_answer(pieces: tuple[bytes, ...]) -> None:
    answer = await ask(Source(*pieces, headers=((b"content-type", b"text/html"), (b"etag", b'"abc"'))))
    assert gzip.decompress(answer.body) == b"".join(pieces)
    assert "content-length" not in answer.headers
    assert answer.headers["etag"] == 'W/"abc"'


async def test_what_is_very_long_is_compressed_as_well() -> None:
    text = TEXT * (INLINE_BYTES_MAX // len(TEXT) + 2)
    assert gzip.decompress((await ask(Source(text))).body) == text
