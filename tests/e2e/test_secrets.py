"""Nothing secret gets into the log, whatever place a client puts it in, at the level that says most."""

from __future__ import annotations

import base64
import json
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio

from tests.e2e.process import ServerProcess, until

API_KEY = "api-key-0f3a9c"
JWT_SECRET = "jwt-secret-of-more-than-thirty-two-bytes-5be1"
REDIS_PASSWORD = "redis-password-77d2"
PASSWORD = "correct-horse-battery-4417"
OPAQUE = "opaque-token-that-is-no-jwt-90ab"
HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
JWT = f"{HEADER}.eyJzdWIiOiJhbm4ifQ.signature-that-nobody-made-3c5d"
SECRETS = (API_KEY, JWT_SECRET, REDIS_PASSWORD, PASSWORD, OPAQUE, "signature-that-nobody-made-3c5d")
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def frame(text: str, first: int = 0x81) -> bytes:
    """A masked frame whose mask changes nothing."""
    payload = text.encode()
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + payload


def post(path: str, body: str, fields: str = "") -> bytes:
    length = len(body.encode())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


def get(target: str, fields: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n".encode()


def upgrade(target: str, *messages: str, fields: str = "") -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\n{UPGRADE}{fields}\r\n".encode()
    return head + b"".join(map(frame, messages)) + b"\x88\x80" + bytes(4)


def conversations() -> list[bytes]:
    """What clients send: each on a connection of its own."""
    found = []
    for token in (JWT, OPAQUE, API_KEY, JWT_SECRET):
        bearer = f"Authorization: Bearer {token}\r\n"
        hello = json.dumps(["hello", {"token": token, "user": "ann"}, 1])
        found += [
            get("/api/messages?roomCode=ABC234", bearer),
            get(f"/api/messages?roomCode=ABC234&token={token}"),
            get(f"/api/messages?roomCode=ABC234&access_token={token}"),
            get("/api/rooms", f"X-Api-Key: {token}\r\n"),
            get("/nothing?refresh_token=" + token, f"Cookie: session={token}\r\n"),
            get(f"/bad target?token={token}"),
            get("/", f"Broken Field {token}\r\n"),
            post("/api/auth/refresh", json.dumps({"refreshToken": token})),
            post("/api/auth/logout", json.dumps({"refreshToken": [token]})),
            upgrade("/ws", hello, json.dumps(["token:refresh", {"token": token}, 2])),
            upgrade("/ws", f'["hello", {{"token": "{token}"'),
            upgrade(f"/ws?token={token}", hello),
            upgrade(f"/ws?access_token={token}", fields=bearer),
            upgrade(f"/elsewhere?token={token}", fields=bearer),
            upgrade("/socket.io/?EIO=4&transport=websocket", "40" + json.dumps({"token": token})),
            upgrade(f"/socket.io/?EIO=4&transport=websocket&token={token}", "40", '42["joinRoom",{"token":"' + token),
            upgrade(f"/socket.io/?EIO=3&transport=nonsense&token={token}"),
        ]
    for body in (
        json.dumps({"email": "ann@example.org", "password": PASSWORD}),
        json.dumps({"email": "ann@example.org", "password": PASSWORD, "more": 1}),
        json.dumps({"email": 5, "password": PASSWORD}),
        '{"email": "ann@example.org", "password": "' + PASSWORD,
    ):
        found += [
            post(f"/api/auth/{each}?password={PASSWORD}", body, f"Authorization: Basic {PASSWORD}\r\n")
            for each in ("register", "login", "password")
        ]
    return found


async def converse(address: str, data: bytes) -> bytes:
    """Say it all, and listen until the server has nothing more to say."""
    host, _, port = address.rpartition(":")
    answer = b""
    with trio.move_on_after(5):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            try:
                await stream.send_all(data)
                while more := await stream.receive_some():
                    answer += bytes(more)
            except trio.BrokenResourceError:
                pass
    return answer


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("form", ["human"])
async def test_no_secret_gets_into_the_log(form: str, tmp_path: Path, database_url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        redis = f"redis://someone:{REDIS_PASSWORD}@127.0.0.1:{nobody.getsockname()[1]}/0"
        environment = {
            "CATFISH_DATABASE_URL": database_url,
            "CATFISH_REDIS_URL": redis,
            "CATFISH_API_KEY": API_KEY,
            "CATFISH_JWT_SECRET": JWT_SECRET,
        }
        options = ["--migrate", "--log-level", "debug", "--log-format", form, "--set", "log_requests=true"]
        with trio.fail_after(90):
            async with ServerProcess.running(tmp_path, *options, **environment) as server:
                answers: list[bytes] = []

                async def say(data: bytes, limiter: trio.CapacityLimiter) -> None:
                    async with limiter:
                        answers.append(await converse(server.address, data))

                said = conversations()
                limiter = trio.CapacityLimiter(16)
                async with trio.open_nursery() as nursery:
                    for data in said:
                        nursery.start_soon(say, data, limiter)
                assert await server.end(signal.SIGTERM) == 0
                await until(lambda: b"catfish has stopped" in server.output)
    log = server.output.decode()
    assert len(answers) == len(said)
    assert {answer[9:12] for answer in answers} >= {b"101", b"400", b"401", b"404"}
    assert b"HTTP/1.1 500" not in b"".join(answers)
    assert "DEBUG" in log or '"level":"debug"' in log
    assert "Redis is away" in log
    for secret in SECRETS:
        assert secret not in log, next(line for line in log.splitlines() if secret in line)
