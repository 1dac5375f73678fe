"""Every kind of bad token on every transport: refused in the transport's own way, and nothing is done for its bearer.

`tests/http/test_bad_tokens.py` does the same with the routes.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from catfish.errors import TOKEN_EXPIRED, UNAUTHORIZED
from tests.auth.signing import SECRET, bad_tokens, pem, token
from tests.server.harness import start_server
from tests.server.test_vocabularies import Socket, open_world

STRICT: dict[str, Any] = {
    "jwt_secret": SECRET,
    "jwt_keys": (pem("ES256"),),
    "jwt_issuer": "us",
    "jwt_audience": ("chat",),
}
MODES = pytest.mark.parametrize("auth", ["open", "required"])


@MODES
async def test_in_hello(nursery: trio.Nursery, auth: str) -> None:
    server = await start_server(nursery, auth=auth, **STRICT)
    for name, text in bad_tokens().items():
        eve = server.connect()
        refusal = await eve.ask("hello", {"token": text})
        assert refusal.code == "unauthorized", name
        assert not eve.session.participant.identified
        assert eve.connection.close_called is None
        if auth == "required":
            assert (await eve.ask("room:join", {"room": "lobby"})).code == "unauthorized"
        welcome = await eve.ask("hello", {"token": token({"iss": "us", "aud": "chat"})})
        assert welcome["user"] == "ann"


@MODES
@pytest.mark.parametrize("where", ["header", "query"])
async def test_with_a_native_connection(
    nursery: trio.Nursery, auth: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server = await start_server(nursery, auth=auth, **STRICT)
    for name, text in bad_tokens().items():
        if where == "header":
            eve = server.connect(authorization=f"Bearer {text}")
        else:
            eve = server.connect(target=f"/ws?token={text}")
        eve.request("room:join", {"room": "lobby"})
        await wait_all_tasks_blocked()
        eve.read()
        assert [error.code for error in eve.errors] == ["unauthorized"], name
        assert eve.connection.close_called == (TOKEN_EXPIRED if name.startswith("expired") else UNAUTHORIZED)
        assert not eve.session.participant.identified
        assert len(text) < 20 or text not in caplog.text


@MODES
@pytest.mark.parametrize("where", ["auth", "header", "query"])
async def test_with_a_socket(nursery: trio.Nursery, auth: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    world = await open_world(nursery, auth=auth, **STRICT)
    for name, text in bad_tokens().items():
        eve = Socket(
            world,
            {"token": text} if where == "auth" else None,
            f"Bearer {text}" if where == "header" else None,
            f"&token={text}" if where == "query" else "",
        )
        [packet] = await eve.packets()
        assert packet.startswith("44"), name
        problem = msgspec.json.decode(packet[2:])
        assert (problem["message"], problem["data"]["code"]) == ("unauthorized", "unauthorized")
        assert text not in packet
        assert len(text) < 20 or text not in caplog.text
        good = {"token": token({"iss": "us", "aud": "chat"})}
        eve.send("40" + msgspec.json.encode(good).decode())
        assert (await eve.packets())[0].startswith('40{"sid":'), "a client may try again on the same connection"


async def test_in_a_refresh(nursery: trio.Nursery) -> None:
    world = await open_world(nursery, **STRICT)
    ann = await world.connect({"token": token({"iss": "us", "aud": "chat"})})
    await ann.packets()
    for name, text in bad_tokens().items():
        ann.emit("auth:refresh", {"token": text}, id=1)
        [packet] = await ann.packets()
        answer = msgspec.json.decode(packet[3:])[0]
        assert (answer["ok"], answer["code"]) == (False, "unauthorized"), name
    assert ann.connection.close_called is None
