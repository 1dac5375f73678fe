"""Whatever a client sends, at most its own connection ends, and nothing is logged as a fault."""

from __future__ import annotations

import logging
import random

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.socketio.world import enter, open_socketio, suite_namespace

SIGNS = "0123456/,?[]{}b-\x1e"
WORDS = (
    *SIGNS,
    *(
        "40",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "421",
        "451-",
        "452-",
        "40/custom,",
        "/x",
        "bAQ==",
        "null",
        "1e9",
        "-1",
    ),
    *('"message"', '"message-with-ack"', '"a"', '"connect"', '{"_placeholder":true,"num":0}', '"\\ud800"'),
)


def junk(chance: random.Random) -> str | bytes:
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(6))
    return "".join(chance.choices(WORDS, k=chance.randrange(1, 8)))


@pytest.mark.parametrize("seed", range(10))
async def test_junk_over_websockets_and_polling(
    seed: int, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    chance = random.Random(seed)
    async with open_socketio(suite_namespace(), suite_namespace("/custom"), max_payload_bytes=1000) as world:
        bystander = await enter(world)
        await bystander.receive()
        for _ in range(30):
            websocket = await world.open_websocket()
            await websocket.send("40", *(junk(chance) for _ in range(chance.randrange(1, 20))))
            await wait_all_tasks_blocked()
            sid = await world.open_polling()
            body = "\x1e".join(str(junk(chance)) for _ in range(chance.randrange(1, 9)))
            await world.post(f"40\x1e{body}" if chance.random() < 0.7 else chance.randbytes(20), sid=sid)
            await world.get(sid=sid)
            if chance.random() < 0.5:
                await websocket.cut()
        await bystander.send('42["message"]')
        assert await bystander.receive() == '42["message-back"]'
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
