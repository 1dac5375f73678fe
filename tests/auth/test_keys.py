"""Keys out of texts: what each may check, and which are none."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from catfish.auth.keys import ALGORITHMS, HMAC, RSA, find, parse_jwks, parse_pem, public_key, secret_key
from catfish.auth.tokens import load_keys
from catfish.config import Settings
from catfish.errors import StartError
from tests.auth.signing import SECRET, jwk, key_set, pem, private, private_pem


def test_what_a_key_checks_depends_on_what_it_is() -> None:
    assert secret_key(SECRET).algorithms == HMAC
    for kind, algorithms in (("RS256", RSA), ("ES256", {"ES256"}), ("ES384", {"ES384"}), ("EdDSA", {"EdDSA"})):
        [key] = parse_pem(pem(kind))
        assert key.algorithms == algorithms
        [key] = parse_jwks(key_set(jwk(kind, kid="k")))
        assert (key.algorithms, key.kid) == (algorithms, "k")
    assert "none" not in ALGORITHMS


def test_no_key_is_shown() -> None:
    assert SECRET not in repr(secret_key(SECRET))


@pytest.mark.parametrize("secret", [pem("ES256"), pem("RS256"), private_pem("ES256"), json.dumps(jwk("ES256"))])
def test_a_public_key_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="not a secret"):
        secret_key(secret)


def test_several_keys_and_certificates_stand_in_one_text() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private("RS256").public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(private("RS256"), SHA256())
    )
    text = f"# the keys\n{pem('EdDSA')}\nand\n{certificate.public_bytes(Encoding.PEM).decode()}"
    assert [key.algorithms for key in parse_pem(text)] == [{"EdDSA"}, RSA]


def small(kind: Any) -> str:
    text: bytes = kind.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no public key in PEM"),
        ("a secret", "no public key in PEM"),
        (pem("ES256")[:60], "no public key in PEM"),
        (private_pem("ES256"), "private key"),
        (pem("ES256") + private_pem("EdDSA"), "private key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PUBLIC KEY that cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "CERTIFICATE that cannot be read"),
        (small(rsa.generate_private_key(65_537, 1_024)), "RSA key of 1024 bits"),
        (small(ec.generate_private_key(ec.SECP256K1())), "signs no tokens"),
        (small(dsa.generate_private_key(2_048)), "signs no tokens"),
    ],
)
def test_what_is_no_public_key_is_told_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_pem(text)


def test_what_nobody_understands_in_a_set_is_left_out() -> None:
    good = jwk("ES256", kid="good", use="sig", alg="ES256")
    others = [
        {},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "new", "kid": "x"},
        jwk("RS256", use="enc"),
        jwk("RS256", alg="ES256"),
        jwk("RS256", alg="RSA-OAEP"),
        jwk("RS256", alg=5),
        jwk("ES256", kid=["x"]),
        {**jwk("ES256"), "x": "AAAA"},
        {**jwk("ES256"), "x": None},
        {**jwk("EdDSA"), "d": "AAAA"},
        {"kty": "RSA"},
        {"kty": ["RSA"]},
    ]
    assert [key.kid for key in parse_jwks(key_set(*others, good))] == ["good"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[5]}', b"<html>", b"[" * 5_000])
def test_what_is_no_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"no set of keys|no key that checks"):
        parse_jwks(text)


def test_a_named_key_is_found_by_its_name_and_one_without_a_name_for_all() -> None:
    named = public_key(private("ES256").public_key(), "a")
    other = public_key(private("ES256 other").public_key(), "b")
    unnamed = public_key(private("EdDSA").public_key())
    keys = [named, other, unnamed]
    assert find(keys, "ES256", "b") == [other]
    assert find(keys, "ES256", None) == [named, other]
    assert find(keys, "ES256", "c") == []
    assert find(keys, "EdDSA", "c") == [unnamed]
    assert find(keys, "HS256", None) == []


def test_a_key_that_cannot_be_read_stops_the_start_and_says_which(tmp_path: Path) -> None:
    good, bad, binary = tmp_path / "good.pem", tmp_path / "bad.pem", tmp_path / "binary"
    good.write_text(pem("ES256"))
    bad.write_text("nothing")
    binary.write_bytes(b"\xff\xfe")
    assert len(load_keys(Settings(jwt_secret=SECRET, jwt_keys=(str(good), pem("EdDSA"))))) == 3
    for settings, words in (
        ({"jwt_secret": pem("ES256")}, "^jwt_secret is a public key"),
        ({"jwt_secrets_former": (pem("ES256"),)}, "^jwt_secrets_former is a public key"),
        ({"jwt_keys": (str(bad),)}, "bad.pem, which jwt_keys names, has no public key"),
        ({"jwt_keys": (str(binary),)}, "is not a text in PEM"),
        ({"jwt_keys": (str(tmp_path / "none"),)}, "cannot be read: No such file"),
        ({"jwt_keys": (private_pem("ES256"),)}, "^a key in jwt_keys has a private key"),
    ):
        with pytest.raises(StartError, match=words):
            load_keys(Settings(**settings))
