"""The echo server as a program."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
import trio
import trio_websocket

from catfish.net.echo import UNLIMITED, parse_settings


def test_flags_become_settings() -> None:
    assert parse_settings(["--port", "8", "--host", "::1"]).bind == ("[::1]:8",)
    settings = parse_settings(["--no-limits", "--no-deflate", "--set", "close_timeout_s=1.5"])
    assert {name: getattr(settings, name) for name in UNLIMITED} == UNLIMITED
    assert (settings.deflate, settings.close_timeout_s) == (False, 1.5)


@pytest.mark.parametrize("arguments", [["--set", "no_such_setting=1"], ["--set", "close_timeout_s=soon"]])
def test_a_bad_setting_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(arguments)
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_when_it_is_ready_echoes_and_ends_in_order(stop: signal.Signals) -> None:
    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "catfish.net.echo", "--port", "0"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with process.stdout as stdout:
            line = (await stdout.receive_some(200)).decode()
            found = re.fullmatch(r"echo on http://127\.0\.0\.1:(\d+)\n", line)
            assert found is not None, line
            async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{found[1]}/") as client:
                await client.send_message("hello")
                assert await client.get_message() == "hello"
                process.send_signal(stop)
                with pytest.raises(trio_websocket.ConnectionClosed):
                    await client.get_message()
                assert client.closed is not None
                assert client.closed.code == 1001
            await trio.aclose_forcefully(client._stream)  # it leaves that to us when the server has closed
            assert await process.wait() == 0
