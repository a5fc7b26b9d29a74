"""Keys fetched from a JWKS endpoint: which are used, for how long, and how often."""

import asyncio
import gzip
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from shoal.router import key_set
from shoal.router.settings import JWTIssuer

from ..conftest import World, problem
from .jwks_server import JWKSServer, jwk, jwks_server, private_jwk, secret_jwk

pytestmark = pytest.mark.anyio

ISSUER, AUDIENCE = "https://id.example.com", "shoal"
GOOD, RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P256, P384 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1()))
ED25519 = ed25519.Ed25519PrivateKey.generate()
ALLOWED = ("RS256", "RS384", "ES256", "ES384", "EdDSA")


def token(key: Any = GOOD, algorithm: str = "RS256", kid: str | None = "good", n: int = 0) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 6000,
        "tenant": "acme",
        "sub": "ana",
        "jti": str(n),
    }
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


class Clock:
    """The clock of `KeySet`, moved by a test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(key_set, "monotonic", clock)
    return clock


@pytest.fixture
async def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> AsyncIterator[JWKSServer]:
    async with jwks_server(tmp_path, monkeypatch) as server:
        server.document = {"keys": [jwk(GOOD)]}
        yield server


@pytest.fixture
async def world(new_world: Callable[..., Any], server: JWKSServer) -> World:
    issuer = JWTIssuer(issuer=ISSUER, audience=AUDIENCE, jwks_url=server.url, algorithms=ALLOWED)
    return await new_world(jwt=(issuer,))  # type: ignore[no-any-return]


async def settle() -> None:
    """Wait for a fetch in the background."""
    for task in asyncio.all_tasks():
        if task.get_name() == "shoal-jwks":
            await asyncio.wait([task])


USABLE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "RSA": (RSA, "RS256", {}),
    "RSA for another of its algorithms": (RSA, "RS384", {}),
    "for signatures": (RSA, "RS256", {"use": "sig"}),
    "for verifying": (RSA, "RS256", {"key_ops": ["verify"]}),
    "with its algorithm": (RSA, "RS256", {"alg": "RS256"}),
    "P-256": (P256, "ES256", {}),
    "P-384": (P384, "ES384", {}),
    "Ed25519": (ED25519, "EdDSA", {}),
}
UNUSABLE: dict[str, tuple[Any, str, Any]] = {
    "for encryption": (RSA, "RS256", jwk(RSA, "key", use="enc")),
    "for an unknown use": (RSA, "RS256", jwk(RSA, "key", use="both")),
    "use that is no text": (RSA, "RS256", jwk(RSA, "key", use=["sig"])),
    "for signing only": (RSA, "RS256", jwk(RSA, "key", key_ops=["sign"])),
    "for encrypting only": (RSA, "RS256", jwk(RSA, "key", key_ops=["encrypt", "wrapKey"])),
    "for nothing": (RSA, "RS256", jwk(RSA, "key", key_ops=[])),
    "key_ops that is no list": (RSA, "RS256", jwk(RSA, "key", key_ops="verify")),
    "of another algorithm": (RSA, "RS256", jwk(RSA, "key", alg="RS384")),
    "of an algorithm not allowed": (RSA, "RS512", jwk(RSA, "key")),
    "of an HMAC algorithm": (RSA, "RS256", jwk(RSA, "key", alg="HS256")),
    "of the algorithm none": (RSA, "RS256", jwk(RSA, "key", alg="none")),
    "of an algorithm that is no text": (RSA, "RS256", jwk(RSA, "key", alg=["RS256"])),
    "of another type than its algorithm": (P256, "ES256", jwk(P256, "key", alg="RS256")),
    "of another curve than its algorithm": (P256, "ES256", jwk(P256, "key", alg="ES384")),
    "with another curve's name": (P256, "ES256", jwk(P256, "key", crv="P-384")),
    "of another type": (P256, "ES256", jwk(RSA, "key")),
    "private": (RSA, "RS256", private_jwk(RSA, "key")),
    "too short": (SHORT, "RS256", jwk(SHORT, "key")),
    "without type": (RSA, "RS256", jwk(RSA, "key", kty=None)),
    "of an unknown type": (RSA, "RS256", jwk(RSA, "key", kty="?")),
    "of a type that is no text": (RSA, "RS256", jwk(RSA, "key", kty=1)),
    "without modulus": (RSA, "RS256", jwk(RSA, "key", n=None)),
    "with an empty modulus": (RSA, "RS256", jwk(RSA, "key", n="")),
    "with a modulus that is a number": (RSA, "RS256", jwk(RSA, "key", n=65537)),
    "with a modulus not in base64": (RSA, "RS256", jwk(RSA, "key", n="é" * 300)),
    "with another modulus": (RSA, "RS256", jwk(GOOD, "key")),
    "with an exponent of one": (RSA, "RS256", jwk(RSA, "key", e="AQ")),
    "off its curve": (P256, "ES256", jwk(P256, "key", x="AAAA")),
    "for key agreement": (
        ED25519,
        "EdDSA",
        jwk(ED25519, "key", crv="X25519"),
    ),
    "with an id that is a number": (RSA, "RS256", jwk(RSA, 7)),
    "with an id that is a list": (RSA, "RS256", jwk(RSA, ["key"])),
    "null": (RSA, "RS256", None),
    "a list": (RSA, "RS256", [jwk(RSA, "key")]),
    "text": (RSA, "RS256", "key"),
}


@pytest.mark.parametrize("name", USABLE)
async def test_a_key_for_signatures_is_used(world: World, server: JWKSServer, name: str) -> None:
    key, algorithm, changes = USABLE[name]
    server.document = {"keys": [jwk(GOOD), jwk(key, "key", **changes)]}
    response = await world.get("/who", token(key, algorithm, "key"))
    assert response.status_code == 200, response.text


@pytest.mark.filterwarnings("ignore:The RSA key is")
@pytest.mark.parametrize("name", UNUSABLE)
async def test_an_unusable_key_is_none(world: World, server: JWKSServer, name: str) -> None:
    key, algorithm, entry = UNUSABLE[name]
    server.document = {"keys": [entry, jwk(GOOD)]}
    detail = problem(await world.get("/who", token(key, algorithm, "key")), 401)["detail"]
    assert detail in (
        "the token's key is not among those that its issuer publishes",
        "the token's algorithm is not one allowed for its issuer",
        "the token's signature is not valid",
    )
    assert (await world.get("/who", token())).status_code == 200  # the others are


async def test_a_public_key_is_no_hmac_secret(world: World, server: JWKSServer) -> None:
    server.document = {"keys": [jwk(GOOD), secret_jwk(b"s" * 32, "secret")]}
    assert (await world.get("/who", token())).status_code == 200
    for kid in ("good", "secret"):
        problem(await world.get("/who", token("s" * 32, "HS256", kid)), 401)  # type: ignore[arg-type]


async def test_keys_of_two_types_may_share_an_id(world: World, server: JWKSServer) -> None:
    server.document = {"keys": [jwk(RSA, "key"), jwk(P256, "key")]}
    assert (await world.get("/who", token(RSA, "RS256", "key"))).status_code == 200
    assert (await world.get("/who", token(P256, "ES256", "key"))).status_code == 200


async def test_a_token_without_key_id_needs_one_key(
    world: World, server: JWKSServer, clock: Clock
) -> None:
    assert (await world.get("/who", token(kid=None))).status_code == 200
    server.document = {"keys": [jwk(GOOD), jwk(RSA, "other")]}
    clock.ahead = 601
    await world.get("/who", token(kid="other"))
    await settle()
    problem(await world.get("/who", token(kid=None, n=1)), 401)


BROKEN: dict[str, tuple[int, bytes, dict[bytes, bytes]]] = {
    "null": (200, b"null", {}),
    "a list": (200, b"[]", {}),
    "no keys": (200, b"{}", {}),
    "keys that are null": (200, b'{"keys": null}', {}),
    "keys that are an object": (200, b'{"keys": {}}', {}),
    "nothing": (200, b"", {}),
    "no JSON": (200, b"<html>", {}),
    "deeply nested": (200, b"[" * 100_000, {}),
    "larger than is read": (200, b'{"keys": []}' + b" " * 2**20, {}),
    "more keys than are read": (200, b'{"keys": [' + b",".join([b"{}"] * 101) + b"]}", {}),
    "compressed": (200, gzip.compress(b'{"keys": []}'), {b"content-encoding": b"gzip"}),
    "not found": (404, b'{"keys": []}', {}),
    "a fault": (500, b'{"keys": []}', {}),
    "no content": (204, b"", {}),
    "a redirect": (302, b"", {b"location": b"/elsewhere"}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_failing_endpoint_keeps_keys_for_a_limited_time(
    world: World, server: JWKSServer, clock: Clock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert (await world.get("/who", token())).status_code == 200
    server.answer = BROKEN[name]
    clock.ahead = 3500
    with caplog.at_level(logging.WARNING, "shoal.router.key_set"):
        assert (await world.get("/who", token(n=1))).status_code == 200
        await settle()
    assert re.search("Those known are used for another (99|100) s", caplog.text)
    clock.ahead = 3700
    problem(await world.get("/who", token(n=2)), 503)
    problem(await world.get("/who", token()), 503)  # one that was accepted before
    assert "Its tokens are refused with 503" in caplog.text
    server.answer = None
    clock.ahead = 3800
    assert (await world.get("/who", token(n=2))).status_code == 200


async def test_an_empty_set_means_no_keys(world: World, server: JWKSServer, clock: Clock) -> None:
    assert (await world.get("/who", token())).status_code == 200
    server.document = {"keys": []}
    clock.ahead = 601
    await world.get("/who", token(n=1))
    await settle()
    problem(await world.get("/who", token(n=1)), 401)
    problem(await world.get("/who", token()), 401)  # one that was accepted before


async def test_keys_may_rotate(world: World, server: JWKSServer, clock: Clock) -> None:
    assert (await world.get("/who", token())).status_code == 200
    server.document = {"keys": [jwk(RSA, "new")]}
    problem(await world.get("/who", token(RSA, kid="new")), 401)  # too soon for a fetch
    assert server.fetches == 1
    clock.ahead = 11
    assert (await world.get("/who", token(RSA, kid="new"))).status_code == 200
    problem(await world.get("/who", token()), 401)
    assert server.fetches == 2


async def test_unknown_key_ids_share_one_fetch(
    world: World, server: JWKSServer, clock: Clock
) -> None:
    assert (await world.get("/who", token())).status_code == 200
    clock.ahead = 11
    server.held.clear()
    unknown = [
        asyncio.create_task(world.get("/who", token(RSA, kid=f"unknown-{i}"))) for i in range(30)
    ]
    while server.fetches < 2:
        await asyncio.sleep(0.01)
    for n in range(1, 6):  # the endpoint does not answer, and these do not wait for it
        assert (await world.get("/who", token(n=n))).status_code == 200
    assert not any(task.done() for task in unknown)
    server.held.set()
    for response in await asyncio.gather(*unknown):
        problem(response, 401)
    for i in range(200):
        problem(await world.get("/who", token(RSA, kid=f"again-{i}")), 401)
    assert server.fetches == 2


async def test_fetches_of_a_failing_endpoint_grow_rare(
    world: World, server: JWKSServer, clock: Clock
) -> None:
    server.answer = (500, b"", {})
    for second in range(300):
        clock.ahead = float(second)
        problem(await world.get("/who", token()), 503)
    assert 6 <= server.fetches <= 12  # after 1, 2, 4, … 60 seconds


async def test_a_cancelled_request_leaves_the_fetch(world: World, server: JWKSServer) -> None:
    server.held.clear()
    first = asyncio.create_task(world.get("/who", token()))
    while not server.fetches:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(world.get("/who", token()))
    await asyncio.sleep(0.05)
    first.cancel()
    server.held.set()
    assert (await second).status_code == 200
    assert server.fetches == 1


async def test_an_unreachable_endpoint_is_503(new_world: Callable[..., Any]) -> None:
    issuer = JWTIssuer(issuer=ISSUER, audience=AUDIENCE, jwks_url="http://127.0.0.1:1/jwks")
    world = await new_world(jwt=(issuer,))
    response = await world.get("/who", token())
    assert "issuer cannot be fetched" in problem(response, 503)["detail"]
    assert int(response.headers["retry-after"]) >= 1
