"""Requests made from the OpenAPI document, right and wrong ones, by a program that is not ours, to a server process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import trio

from tests.e2e.process import ServerProcess

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
EXAMPLES_MAX = 12
"""For each operation, behind those that cover its schema."""
KEY = "the-key-of-the-server"
CHEAP = {"CATFISH_ARGON2_MEMORY_KIB": "64", "CATFISH_ARGON2_PASSES": "1", "CATFISH_ARGON2_LANES": "1"}
"""Passwords that cost nothing to hash: how they are hashed is tested elsewhere."""
LOGIN = {"name": "Ann", "email": "ann@example.test", "provider": "google", "oauth_id": "oid-ann"}


def sign_in(url: str) -> str:
    request = Request(f"{url}/api/auth/login", json.dumps(LOGIN).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=10) as response:
        token: str = json.load(response)["user"]["token"]
    return token


async def test_the_server_keeps_what_the_document_promises(database_url: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    environment = {"CATFISH_DATABASE_URL": database_url, "CATFISH_API_KEY": KEY, **CHEAP}
    async with ServerProcess.running(tmp_path, **environment) as server:
        url = f"http://{server.address}"
        token = await trio.to_thread.run_sync(sign_in, url)
        finished = await trio.run_process(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{url}/openapi.json"),
                *("--header", f"Authorization: {token}", "--header", f"X-Api-Key: {KEY}"),
                *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"),
                *("--max-examples", str(EXAMPLES_MAX), "--generation-deterministic"),
            ],
            cwd=tmp_path,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert finished.returncode == 0, finished.stdout.decode()[-8000:]
    assert b"Traceback" not in server.output
