"""Keys that signatures of tokens are checked with: secrets, public keys in PEM, and sets of JSON Web Keys (RFC 7517).

What a key may check is decided by what it is, never by what a token says of itself: a secret checks HS256, HS384 and
HS512, an RSA key RS… and PS…, an elliptic curve the ES… of its own size, an Edwards curve EdDSA. So a public key, which
everybody has, is never taken for a secret (RFC 8725 section 3.1), and there is no key for `none`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import attrs
import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

HMAC: Final = frozenset(("HS256", "HS384", "HS512"))
RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
EDWARDS: Final = frozenset(("EdDSA",))
ALGORITHMS: Final = HMAC | RSA | EDWARDS | frozenset(CURVES.values())
"""Every signature that some key can check (RFC 7518 section 3.1, RFC 8037 section 3.1)."""
RSA_BITS_MIN: Final = 2_048
KEYS_MAX: Final = 100
"""Keys of one set; those behind them are not looked at."""

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@attrs.frozen
class Key:
    algorithms: frozenset[str]
    """Signatures that it may check."""
    material: Any = attrs.field(repr=False)
    """What PyJWT checks them with."""
    kid: str | None = None
    """The name by which tokens refer to it; None: it is tried on all."""


def find(keys: Iterable[Key], algorithm: str, kid: str | None) -> list[Key]:
    """Those that may have signed a token with this header: the one of that name, or else those without a name."""
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is None:
        return fitting
    return [key for key in fitting if key.kid == kid] or [key for key in fitting if key.kid is None]


def secret_key(secret: str) -> Key:
    """Raises ValueError for a secret that is no secret: a public key, a certificate, a JSON Web Key."""
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ValueError("is a public key or a certificate, not a secret; public keys belong into jwt_keys") from None
    return Key(HMAC, secret)


def public_key(material: Any, kid: str | None = None, algorithm: str | None = None) -> Key:
    """
    Args:
        material: a public key of `cryptography`.
        algorithm: the only one that it is for, as its owner says.

    Raises:
        ValueError: it is of a kind that checks no tokens, too short, or of another kind than its algorithm.
    """
    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size < RSA_BITS_MIN:
            raise ValueError(f"is an RSA key of {material.key_size} bits; {RSA_BITS_MIN} are the least")
        algorithms = RSA
    elif isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in CURVES:
        algorithms = frozenset((CURVES[material.curve.name],))
    elif isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        algorithms = EDWARDS
    else:
        raise ValueError("is of a kind that signs no tokens; RSA, P-256, P-384, P-521, Ed25519 and Ed448 do")
    if algorithm is not None:
        algorithms &= {algorithm}
        if not algorithms:
            raise ValueError(f"is no key for {algorithm[:16]!r}")
    return Key(algorithms, material, kid)


def parse_pem(text: str) -> list[Key]:
    """The public keys, and those of the certificates, in a text (RFC 7468).

    Raises:
        ValueError: there is none, one cannot be read, or one is private.
    """
    keys = []
    for block in _PEM.finditer(text):
        if "PRIVATE" in block[1]:
            raise ValueError("has a private key; only its public half is needed here, and the other should stay secret")
        try:
            if block[1] == "CERTIFICATE":
                material: Any = x509.load_pem_x509_certificate(block[0].encode()).public_key()
            else:
                material = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"has a {block[1]} that cannot be read") from None
        keys.append(public_key(material))
    if not keys:
        raise ValueError("has no public key in PEM (-----BEGIN PUBLIC KEY-----)")
    return keys


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def parse_jwks(text: bytes) -> list[Key]:
    """The keys of a set (RFC 7517 section 5) that check signatures; those that are for something else, or that nobody
    here understands, are left out, and so are secrets: a set is public.

    Raises:
        ValueError: it is no set, or there is no such key in it.
    """
    try:
        found = msgspec.json.decode(text, type=_KeySet).keys
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("is no set of keys: it has no list `keys`") from None
    keys = []
    for each in found[:KEYS_MAX]:
        kid, algorithm = each.get("kid"), each.get("alg")
        if each.get("use", "sig") != "sig" or each.get("kty") == "oct" or "d" in each:
            continue
        if not all(value is None or isinstance(value, str) for value in (kid, algorithm)):
            continue
        try:
            keys.append(public_key(jwt.PyJWK(each).key, kid, algorithm))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
            continue  # RFC 7517 section 5: what is not understood is ignored
    if not keys:
        raise ValueError("has no key that checks signatures")
    return keys
