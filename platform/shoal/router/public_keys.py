"""Public keys that verify tokens, from JWKs (RFC 7517) and PEM."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MAX_KEYS = 100
MAX_ID = 512
RSA_BITS = (2048, 16_384)

RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, and the algorithms that it may verify."""

    key: Any
    algorithms: frozenset[str]


def parse_jwks(document: Any, allowed: Collection[str]) -> dict[str | None, list[PublicKey]]:
    """The usable keys of a JWK set, by key id.

    Keys that cannot verify a token are left out: those for encryption, secret and
    private keys, and those of other types, curves or algorithms.

    Args:
        document: The set, as decoded JSON.
        allowed: The algorithms that the issuer may use.

    Raises:
        ValueError: It is no JWK set, or one of more than `MAX_KEYS` keys.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is no JWK set: {"keys": […]}')
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it has {len(entries)} keys, over the limit of {MAX_KEYS}")
    found: dict[str | None, list[PublicKey]] = {}
    for entry in entries:
        try:
            key, kid = parse_jwk(entry, allowed), entry.get("kid")
        except ValueError:
            continue
        if kid is None or (isinstance(kid, str) and len(kid) <= MAX_ID):
            found.setdefault(kid, []).append(key)
    return found


def parse_jwk(entry: Any, allowed: Collection[str]) -> PublicKey:
    """A key of a JWK set; ValueError, with the cause, if it cannot verify tokens."""
    if not isinstance(entry, Mapping):
        raise ValueError("a key must be an object")
    if "d" in entry or "k" in entry:
        raise ValueError("a key must be a public key")
    if entry.get("use", "sig") != "sig":
        raise ValueError("the key is not for signatures (`use`)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("the key is not for verifying signatures (`key_ops`)")
    try:
        key = jwt.PyJWK(dict(entry)).key
    except Exception:  # of several libraries: one key must not cost the others
        raise ValueError("the key's type, curve, algorithm or values are not valid") from None
    algorithm = entry.get("alg")
    return _public_key(key, allowed if algorithm is None else set(allowed) & {algorithm})


def parse_pem(text: str, allowed: Collection[str]) -> PublicKey:
    """A public key in PEM; ValueError, with the cause, if it cannot verify tokens."""
    try:
        key = load_pem_public_key(text.encode())
    except (UnsupportedAlgorithm, ValueError):
        raise ValueError("the key is not a public key in PEM") from None
    return _public_key(key, allowed)


def _public_key(key: Any, allowed: Collection[str]) -> PublicKey:
    algorithms = _algorithms(key) & frozenset(allowed)
    if not algorithms:
        raise ValueError("the key fits none of the allowed algorithms")
    return PublicKey(key, algorithms)


def _algorithms(key: Any) -> frozenset[str]:
    """The algorithms that a key fits (RFC 7518, RFC 8037)."""
    if isinstance(key, RSAPublicKey):
        return RSA_ALGORITHMS if RSA_BITS[0] <= key.key_size <= RSA_BITS[1] else frozenset()
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({CURVES.get(key.curve.name, "")})
    return (
        frozenset({"EdDSA"}) if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else frozenset()
    )
