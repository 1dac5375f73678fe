"""`catfish token`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click.testing
import jwt
import pytest

from catfish.cli import cli

SECRET = "a secret of at least thirty-two bytes"
Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("catfish.log.set_up", lambda **_: None)

    def run(*arguments: str, **environ: str) -> click.testing.Result:
        monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), **environ})
        return click.testing.CliRunner().invoke(cli, ("token", *arguments), prog_name="catfish")

    return run


def test_a_token_is_signed_with_the_secret_that_the_server_would_have(run: Run) -> None:
    result = run("ann", "--name", "Ann", "--valid", "15m", CATFISH_JWT_SECRET=SECRET)
    assert result.exit_code == 0
    claims = jwt.decode(result.output.strip(), SECRET, algorithms=["HS256"])
    assert (claims.pop("exp") - claims.pop("iat"), claims) == (900, {"sub": "ann", "name": "Ann"})


def test_it_is_for_the_issuer_and_the_audience_of_the_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "catfish.toml").write_text(f'jwt_secret = "{SECRET}"\njwt_issuer = "us"\njwt_audience = ["a", "b"]\n')
    token = run("ann").output.strip()
    assert jwt.decode(token, SECRET, algorithms=["HS256"], audience="a", issuer="us")["sub"] == "ann"


def test_rooms_and_rights(run: Run) -> None:
    result = run("ann", "--room", "lobby=join,read", "--room", "*", "--json", CATFISH_JWT_SECRET=SECRET)
    answer = json.loads(result.output)
    assert (answer["user"], answer["expiresAt"] / 1000) == ("ann", pytest.approx(time.time() + 3600, abs=60))
    claims = jwt.decode(answer["token"], SECRET, algorithms=["HS256"])
    assert claims["rooms"] == {"lobby": ["join", "read"], "*": ["join", "read", "send", "emit"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ann", "--valid", "soon"], "'soon' is no time such as 90s"),
        (["ann", "--valid", "0"], "is no time"),
        (["ann", "--room", "lobby=jion"], "the rights are join, read"),
        (["ann", "--room", "=join"], "is not ROOM=RIGHT"),
        ([" ann"], "user: has blanks around it"),
        (["ann", "--name", "x" * 65], "name: has 65 characters"),
        ([], "Missing argument 'USER'"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: list[str], words: str) -> None:
    result = run(*arguments, CATFISH_JWT_SECRET=SECRET)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "there is no secret to sign a token with"),
        ({"CATFISH_JWKS_URL": "https://issuer.example/keys"}, "public keys alone (jwks_url)"),
        ({"CATFISH_JWT_KEYS": "key.pem"}, "public keys alone (jwt_keys)"),
        ({"CATFISH_JWT_SECRET": '{"kty":"oct","k":"c2VjcmV0"}'}, "jwt_secret is a public key"),
    ],
)
def test_without_a_secret_it_says_what_to_do(run: Run, environ: dict[str, str], words: str) -> None:
    result = run("ann", **environ)
    assert result.exit_code == 1
    assert words in result.output
