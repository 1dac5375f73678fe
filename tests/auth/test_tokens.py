"""Which tokens are good, and what they say."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catfish.auth.tokens import Expired, Identity, TokenVerifier
from catfish.config import Settings
from catfish.errors import Rejected
from catfish.rooms.grants import Grants
from tests.auth.signing import FORMER, SECRET, STRANGE, bad_tokens, forged, pem, private, token

STRICT = Settings(jwt_secret=SECRET, jwt_keys=(pem("ES256"),), jwt_issuer="us", jwt_audience=("chat", "talk"))
KINDS = ("RS256", "ES256", "ES384", "EdDSA")
PLAIN = Settings(jwt_secret=SECRET, jwt_secrets_former=(FORMER,), jwt_keys=tuple(map(pem, KINDS)))


async def verify(text: str, settings: Settings = PLAIN) -> Identity:
    return await TokenVerifier(settings).verify(text)


@pytest.mark.parametrize("name", bad_tokens())
async def test_a_bad_token_is_refused(name: str) -> None:
    text = bad_tokens()[name]
    with pytest.raises(Rejected) as refused:
        await verify(text, STRICT)
    assert refused.value.code == "unauthorized"
    assert refused.value.message.startswith("token: ")
    assert SECRET not in refused.value.message
    assert isinstance(refused.value, Expired) == name.startswith("expired")


@pytest.mark.parametrize("audience", ["chat", "talk", ["mail", "talk"]])
async def test_a_good_one_of_the_same_issuer_is_taken(audience: Any) -> None:
    assert (await verify(token({"iss": "us", "aud": audience}), STRICT)).user == "ann"


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        *((algorithm, SECRET) for algorithm in ("HS256", "HS384", "HS512")),
        *((algorithm, private("RS256")) for algorithm in ("RS256", "RS384", "RS512", "PS256")),
        *((kind, private(kind)) for kind in KINDS[1:]),
    ],
)
async def test_every_signature_is_checked_by_its_kind_of_key(algorithm: str, key: Any) -> None:
    assert (await verify(token(key=key, algorithm=algorithm))).user == "ann"
    assert (await verify(token(key=key, algorithm=algorithm, kid="any"))).user == "ann"


async def test_a_former_secret_is_good_for_tokens_that_are_out() -> None:
    assert (await verify(token(key=FORMER))).user == "ann"
    with pytest.raises(Rejected):
        await verify(token(key=STRANGE))


async def test_a_token_for_somebody_in_particular_needs_to_be_for_us() -> None:
    with pytest.raises(Rejected, match="another audience"):
        await verify(token({"aud": "mail"}))


async def test_what_a_token_says() -> None:
    exp = int(time.time()) + 60
    text = token({"sub": 17, "name": "Ann", "exp": exp, "rooms": {"*": ["join"]}, "jti": 5, "iat": exp + 900})
    identity = await verify(text)
    assert (identity.user, identity.name, identity.expires_at) == ("17", "Ann", exp * 1000)
    assert identity.grants == Grants({"*": ["join"]})
    other = await verify(token({"sub": ..., "id": "bob", "name": "", "exp": ...}))
    assert (other.user, other.name, other.expires_at, other.grants) == ("bob", None, None, None)


async def test_the_leeway_counts_at_both_ends() -> None:
    patient = Settings(jwt_secret=SECRET, jwt_leeway_s=30)
    now = int(time.time())
    identity = await verify(token({"exp": now - 10, "nbf": now + 20}), patient)
    assert identity.expires_at == (now - 10 + 30) * 1000
    with pytest.raises(Expired):
        await verify(token({"exp": now - 40}), patient)


async def test_without_a_key_only_our_own_tokens_say_something() -> None:
    tokens = TokenVerifier(Settings())
    assert not tokens.checks
    with pytest.raises(Rejected, match="no secret to check tokens with"):
        await tokens.verify(token())
    assert await tokens.recognise(token()) is None

    async def own_secret() -> str:
        return SECRET

    tokens.own_secret = own_secret
    known = await tokens.recognise(token())
    assert known is not None
    assert known.user == "ann"
    for foreign in (token(key=STRANGE), token(key=private("ES256"), algorithm="ES256"), "nonsense"):
        assert await tokens.recognise(foreign) is None
    with pytest.raises(Expired):
        await tokens.recognise(token({"exp": 1}))
    assert await tokens.recognise(None) is None


async def test_where_tokens_are_required_none_is_not_enough() -> None:
    tokens = TokenVerifier(Settings(auth="required", jwt_secret=SECRET))
    for text in (None, "nonsense", token(key=STRANGE)):
        with pytest.raises(Rejected) as refused:
            await tokens.recognise(text)
        assert refused.value.code == "unauthorized"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "id", "name", "exp", "nbf", "iat", "aud", "iss", "jti", "rooms"]), JSON
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c"]), JSON)


def outcome(text: str, settings: Settings) -> None:
    """An identity or a refusal; no other exception."""
    coroutine = TokenVerifier(settings).verify(text)
    try:
        coroutine.send(None)
    except Rejected as refusal:
        assert refusal.code == "unauthorized"
    except StopIteration as done:
        assert 0 < len(done.value.user) <= 128
    else:
        raise AssertionError("it waits for nothing")


@settings(max_examples=150, deadline=None)
@given(HEADERS, CLAIMS)
def test_whatever_a_signed_token_holds_gives_an_identity_or_a_refusal(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    outcome(forged({"alg": "HS256"}, claims, SECRET.encode()), PLAIN)
    outcome(forged({"alg": "HS256", **header}, {"sub": "ann"}, SECRET.encode()), STRICT)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="eyJ.-_AB=", max_size=60))
def test_any_text_gives_a_refusal(text: str) -> None:
    outcome(text, PLAIN)
