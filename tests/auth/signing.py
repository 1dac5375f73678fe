"""Keys, and tokens signed with them, good and bad ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a secret of at least sixty-four bytes, so that it is long enough for HS512 too"
FORMER = "another secret of at least sixty-four bytes, which was in use until some time ago"
STRANGE = "a secret of at least sixty-four bytes, which nobody but an attacker has ever had"


@cache
def private(kind: str) -> Any:
    """A key by the name of its algorithm, or by `RS256 other` for another one of the same kind."""
    match kind.split()[0]:
        case "RS256":
            return rsa.generate_private_key(65_537, 2_048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    raise LookupError(kind)


def pem(kind: str) -> str:
    """The public key."""
    text: bytes = private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def private_pem(kind: str) -> str:
    text: bytes = private(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def jwk(kind: str, **more: Any) -> dict[str, Any]:
    """The public key as a JSON Web Key."""
    convert: Any = {"R": RSAAlgorithm, "E": ECAlgorithm}[kind[0]] if not kind.startswith("EdDSA") else OKPAlgorithm
    return {**convert.to_jwk(private(kind).public_key(), as_dict=True), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(
    claims: dict[str, Any] | None = None, key: Any = SECRET, algorithm: str = "HS256", *, kid: str | None = None
) -> str:
    """A token of ann that is valid for a minute, unless the claims say otherwise."""
    about = {"sub": "ann", "exp": int(time.time()) + 60, **(claims or {})}
    about = {name: value for name, value in about.items() if value is not ...}
    return jwt.encode(about, key, algorithm=algorithm, headers=None if kid is None else {"kid": kid})


def encode(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(header: Any, claims: Any, key: bytes | None) -> str:
    """A token with any header and claims whatever; HMAC with SHA-256 under a key, or no signature at all."""
    text = f"{encode(header)}.{encode(claims)}"
    return f"{text}." if key is None else f"{text}.{encode(hmac.digest(key, text.encode(), hashlib.sha256))}"


def bad_tokens() -> dict[str, str]:
    """What a server with `SECRET` and the public key ES256 must refuse, by what is wrong with it. The server's issuer
    is `us`, its audience `chat`."""
    good = {"iss": "us", "aud": "chat"}
    ann = {"sub": "ann", "exp": int(time.time()) + 60, **good}
    header, claims, signature = token(good).split(".")
    public = pem("ES256").encode()
    return {
        "expired": token({**good, "exp": int(time.time()) - 1}),
        "expired long ago": token({**good, "exp": 1}),
        "tampered": f"{header}.{encode({**ann, 'sub': 'eve'})}.{signature}",
        "cut": f"{header}.{claims}.{signature[:-4]}",
        "without a signature": f"{header}.{claims}.",
        "alg none": forged({"alg": "none", "typ": "JWT"}, ann, None),
        "alg None": forged({"alg": "None"}, ann, None),
        "alg missing": forged({"typ": "JWT"}, ann, SECRET.encode()),
        "alg unknown": forged({"alg": "HS1"}, ann, SECRET.encode()),
        "alg no text": forged({"alg": ["HS256"]}, ann, SECRET.encode()),
        "wrong audience": token({**good, "aud": "mail"}),
        "no audience": token({"iss": "us"}),
        "wrong issuer": token({**good, "iss": "them"}),
        "no issuer": token({"aud": "chat"}),
        "signed with the public key as a secret": forged({"alg": "HS256"}, ann, public),
        "the same without its last line break": forged({"alg": "HS256"}, ann, public.strip()),
        "signed by a stranger's secret": token(good, STRANGE),
        "signed by a stranger's key": token(good, private("ES256 other"), "ES256"),
        "unknown kid": token(good, private("ES256 other"), "ES256", kid="no-such-key"),
        "another kind of key": token(good, private("RS256"), "RS256"),
        "not yet valid": token({**good, "nbf": int(time.time()) + 3_600}),
        "no user": token({**good, "sub": ...}),
        "user empty": token({**good, "sub": ""}),
        "user of no kind": forged({"alg": "HS256"}, {**ann, "sub": {"$ne": None}}, SECRET.encode()),
        "user true": forged({"alg": "HS256"}, {**ann, "sub": True}, SECRET.encode()),
        "user with NUL": token({**good, "sub": "a\0b"}),
        "user too long": token({**good, "sub": "x" * 129}),
        "rights unknown": token({**good, "rooms": {"lobby": ["everything"]}}),
        "rights of no kind": token({**good, "rooms": "*"}),
        "exp of no kind": forged({"alg": "HS256"}, {**ann, "exp": {}}, SECRET.encode()),
        "exp infinite": forged({"alg": "HS256"}, b'{"sub":"ann","exp":1e999,"iss":"us","aud":"chat"}', SECRET.encode()),
        "critical extension": forged({"alg": "HS256", "crit": ["b64"], "b64": True}, ann, SECRET.encode()),
        "claims of no kind": forged({"alg": "HS256"}, ["ann"], SECRET.encode()),
        "claims deep": forged({"alg": "HS256"}, b"[" * 3_000 + b"]" * 3_000, SECRET.encode()),
        "header deep": forged(b"[" * 3_000 + b"]" * 3_000, ann, SECRET.encode()),
        "garbage": "x.y.z",
        "no parts": "nonsense",
        "dots": "..",
        "five parts": "a.b.c.d.e",
        "huge": "x" * 9_000,
        "huge kid": token(good, private("ES256 other"), "ES256", kid="k" * 300),
    }
