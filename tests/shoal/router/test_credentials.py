"""JWTs and internal tokens, valid, invalid and forged."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from pydantic import ValidationError

from shoal.router.credentials import mint_internal
from shoal.router.settings import JWTIssuer
from shoal.tenants.records import UserRecord

from ..conftest import SECRET, World, problem

pytestmark = pytest.mark.anyio

ISSUER, AUDIENCE = "https://id.example.com", "shoal"
RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    public = key.public_key()
    return str(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
    )


RSA_JWK = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()))
PRIVATE = RSA.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
KEYS = {"rsa": pem(RSA), "ec": pem(EC), "ed": pem(ED)}


def claims(**changes: Any) -> dict[str, Any]:
    every = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": time.time() + 60,
        "tenant": "acme",
        "role": "editor",
        "sub": "ana",
        **changes,
    }
    return {name: value for name, value in every.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    return jwt.encode(
        claims(**changes), key, algorithm=algorithm, headers={"kid": kid} if kid else None
    )


def forged(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.fixture
async def world(new_world: Callable[..., Any]) -> World:
    return await new_world(jwt=(JWTIssuer(issuer=ISSUER, audience=AUDIENCE, keys=KEYS),))  # type: ignore[no-any-return]


async def test_a_token_carries_tenant_role_and_user(world: World) -> None:
    for signed in (token(), token(EC, "ES256", "ec"), token(ED, "EdDSA", "ed")):
        answer = (await world.get("/who", signed)).json()
        assert (answer["tenant"], answer["role"], answer["user"], answer["boards"]) == (
            "acme",
            "editor",
            "ana",
            [],
        )


async def test_a_token_may_lack_role_and_subject(
    world: World,
) -> None:
    assert (await world.get("/who", token(role=None))).json()["role"] == "reader"
    answer = (await world.get("/who", token(sub=None))).json()
    assert (answer["user"], answer["boards"]) == (None, None)


async def test_a_token_may_name_a_role_of_the_tenants_own(world: World) -> None:
    assert "'root'" in problem(await world.get("/who", token(role="root")), 403)["detail"]
    await world.directory.roles.put("acme", "root", frozenset({"read:own"}))
    await world.router.snapshot.catch_up()
    assert (await world.get("/who", token(role="root"))).json()["rights"] == ["read:own"]


async def test_a_token_of_one_user_cannot_act_for_another(world: World) -> None:
    problem(await world.get("/who", token(), headers={"shoal-user": "bob"}), 403)
    problem(await world.get("/who?tenant=globex", token()), 403)


REFUSED: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=time.time() - 60),
    "without expiry": lambda: token(exp=None),
    "expiry that is no number": lambda: forged(
        {"alg": "RS256", "kid": "rsa"}, claims(exp="never"), b"x"
    ),
    "not yet valid": lambda: token(nbf=time.time() + 600),
    "other issuer": lambda: token(iss="https://evil.example.com"),
    "issuer that is no text": lambda: forged(
        {"alg": "RS256", "kid": "rsa"}, claims(iss=["a"]), b"x"
    ),
    "other audience": lambda: token(aud="another"),
    "without audience": lambda: token(aud=None),
    "unknown tenant": lambda: token(tenant="initech"),
    "hostile tenant": lambda: token(tenant="../acme"),
    "tenant that is no text": lambda: token(tenant=["acme"]),
    "without tenant": lambda: token(tenant=None),
    "the platform's tenant": lambda: token(tenant="platform", role="admin"),
    "hostile role": lambda: token(role="../admin"),
    "empty subject": lambda: token(sub=""),
    "other key": lambda: token(OTHER_RSA),
    "unknown key id": lambda: token(kid="nope"),
    "no key id": lambda: token(kid=None),
    "another kind's key id": lambda: token(EC, "ES256", "rsa"),
    "algorithm none": lambda: forged({"alg": "none", "kid": "rsa"}, claims()),
    "algorithm None": lambda: forged({"alg": "None", "kid": "rsa"}, claims()),
    "algorithm none, signed": lambda: forged({"alg": "none"}, claims(), b"signature"),
    "no algorithm": lambda: forged({"kid": "rsa"}, claims()),
    "algorithm not allowed": lambda: token(RSA, "PS256"),
    "signed with the public key as an HMAC secret": lambda: _hs256(KEYS["rsa"].encode(), claims()),
    "HMAC by the internal secret as an outside issuer": lambda: _hs256(SECRET.encode(), claims()),
    "internal issuer by an outside key": lambda: token(iss="shoal-internal"),
    "internal issuer, algorithm none": lambda: forged(
        {"alg": "none"}, claims(iss="shoal-internal", iat=time.time())
    ),
    "internal with another secret": lambda: mint_internal("x" * 32, "acme"),
    "internal expired": lambda: mint_internal(SECRET, "acme", ttl=-1),
    "internal without expiry": lambda: jwt.encode(
        {"iss": "shoal-internal", "iat": 1, "tenant": "acme", "role": "admin"}, SECRET
    ),
    "its own key in the header": lambda: jwt.encode(
        claims(),
        OTHER_RSA,
        algorithm="RS256",
        headers={"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))},
    ),
    "changed payload": lambda: _spliced(token(), token(tenant="globex")),
    "cut signature": lambda: token()[:-10],
    "header that is no object": lambda: "W10." + token().split(".", 1)[1],
    "payload that is no object": lambda: ".".join(
        [token().split(".")[0], "W10", token().split(".")[2]]
    ),
    "nonsense": lambda: "a.b.c",
    "not ASCII": lambda: "é.é.é",
}


def _hs256(secret: bytes, payload: dict[str, Any]) -> str:
    """Signed by hand: PyJWT refuses to sign with a public key."""
    import hashlib
    import hmac

    unsigned = forged({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, payload).rsplit(".", 1)[0]
    signature = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return unsigned + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _spliced(one: str, other: str) -> str:
    return ".".join([one.split(".")[0], other.split(".")[1], one.split(".")[2]])


async def test_invalid_tokens_are_rejected(world: World) -> None:
    taken = []
    for name, make in REFUSED.items():
        response = await world.call(
            "GET", "/who", None, {"authorization": f"Bearer {make()}".encode()}
        )
        if response.status_code != 401:
            taken.append((name, response.status_code))
        else:
            problem(response, 401)
    assert taken == []


HOSTILE_DATES = {
    "huge": 10**400,
    "beyond a float": "1e999",
    "beyond digits": "9" * 5000,
    "negative": -1,
    "not a number": "NaN",
    "infinite": "-Infinity",
    "after the year 9999": 253_402_300_800,
    "text": '"1700000000"',
    "a list": "[1700000000]",
    "an object": '{"seconds": 1700000000}',
    "true": "true",
    "null": "null",
}
HOSTILE_TEXTS = {
    "number": "7",
    "true": "true",
    "empty": '""',
    "long": '"' + "a" * 5000 + '"',
    "with a control character": '"ac\\nme"',
    "with a NUL": '"acme\\u0000"',
    "half of a surrogate pair": '"\\ud800"',
    "a list": '["acme"]',
    "an object": '{"id": "acme"}',
    "deeply nested": "[" * 2000 + "]" * 2000,
}


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *(
            (claim, str(value))
            for claim in ("exp", "nbf", "iat")
            for value in HOSTILE_DATES.values()
        ),
        *(
            (claim, value)
            for claim in ("sub", "tenant", "role")
            for value in HOSTILE_TEXTS.values()
        ),
        *(
            (claim, value)
            for claim in ("iss", "aud", "jti")
            for value in ("7", "{}", "null", '["x"]')
        ),
    ],
    ids=lambda value: value[:12],
)
async def test_a_hostile_claim_is_a_401_in_plain_english(
    world: World, claim: str, value: str
) -> None:
    own = {name: json.dumps(given) for name, given in claims().items()} | {claim: value}
    payload = "{" + ", ".join(f'"{name}": {given}' for name, given in own.items()) + "}"
    signed = jwt.api_jws.encode(payload.encode(), RSA, "RS256", headers={"kid": "rsa"})
    detail = problem(await world.get("/who", signed), 401)["detail"]
    assert detail.startswith("the token") and len(detail) < 120
    assert claim in detail or "valid JWT" in detail or "issuer" in detail


@pytest.mark.parametrize(
    "header",
    [
        {"kid": None},
        {"kid": 7},
        {"kid": ["rsa"]},
        {"kid": "a" * 3000},
        {"alg": ["RS256"]},
        {"alg": {}},
        {"alg": None},
        {"alg": "HS256"},
        {"crit": ["unknown"], "unknown": 1},
        {"crit": []},
        {"crit": "exp"},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF", "crit": ["zip"]},
        {"nested": []},
    ],
    ids=str,
)
async def test_a_hostile_header_is_a_401(world: World, header: dict[str, Any]) -> None:
    text = json.dumps({"alg": "RS256", "kid": "rsa", **header})
    text = text.replace('"nested": []', '"nested": ' + "[" * 2000 + "]" * 2000)
    parts = [text.encode(), json.dumps(claims()).encode()]
    unsigned = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = RSA.sign(unsigned, padding.PKCS1v15(), hashes.SHA256())
    signed = unsigned + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
    detail = problem(await world.get("/who", signed.decode()), 401)["detail"]
    assert detail.startswith("the token")


async def test_a_token_of_a_megabyte_is_too_large(world: World) -> None:
    problem(await world.get("/who", token(sub="a" * 2**20)), 431)
    problem(await world.get("/who", token(sub="a" * 9000)), 401)


async def test_a_cached_token_ends_with_its_expiry_and_its_tenant(
    world: World,
) -> None:
    short, long = token(exp=time.time() - 7), token()  # ten seconds' leeway: three are left
    assert (
        (await world.get("/who", short)).status_code
        == (await world.get("/who", long)).status_code
        == 200
    )
    await asyncio.sleep(3.1)
    problem(await world.get("/who", short), 401)
    await world.directory.begin_removal("acme", notice=0)
    await world.router.snapshot.catch_up()
    problem(await world.get("/who", long), 401)


async def test_an_issuer_is_trusted_only_for_its_tenants(new_world: Callable[..., Any]) -> None:
    world = await new_world(
        jwt=(JWTIssuer(issuer=ISSUER, audience=AUDIENCE, keys=KEYS, tenants=frozenset({"acme"})),)
    )
    assert (await world.get("/who", token())).status_code == 200
    problem(await world.get("/who", token(tenant="globex")), 401)


async def test_claims_may_have_other_names(new_world: Callable[..., Any]) -> None:
    issuer = JWTIssuer(
        issuer=ISSUER, audience=AUDIENCE, keys=KEYS, tenant_claim="https://x/org", role_claim="perm"
    )
    world = await new_world(jwt=(issuer,))
    answer = (await world.get("/who", token(**{"https://x/org": "globex", "perm": "admin"}))).json()
    assert (answer["tenant"], answer["role"]) == ("globex", "admin")


async def test_an_internal_token_carries_user_and_boards(world: World) -> None:
    answer = (await world.get("/who", mint_internal(SECRET, "acme", "reader", "ana"))).json()
    assert (answer["role"], answer["user"], answer["boards"]) == ("reader", "ana", [])
    assert (
        await world.get("/who", mint_internal(SECRET, "acme", "reader", "ana", all_boards=True))
    ).json()["boards"] is None
    assert (await world.get("/who", mint_internal(SECRET, "acme", "reader"))).json()[
        "boards"
    ] is None
    problem(
        await world.get(
            "/who", mint_internal(SECRET, "acme", "reader", "ana"), headers={"shoal-user": "bob"}
        ),
        403,
    )


async def test_an_internal_token_carries_the_rights_of_its_caller(world: World) -> None:
    signed = mint_internal(SECRET, "acme", "admin", "ana", rights={"read:own"})
    assert (await world.get("/who", signed)).json()["rights"] == ["read:own"]


async def test_without_a_secret_internal_tokens_are_rejected(new_world: Callable[..., Any]) -> None:
    world = await new_world(internal_secret=None)
    problem(await world.get("/who", mint_internal(SECRET, "acme")), 401)


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"algorithms": ()},
        {"keys": {}},
        {"jwks_url": "https://id.example.com/jwks"},
        {"leeway": 1e9},
        {"keys": {"pem": "no key"}},
        {"keys": {"private": PRIVATE}},
        {"keys": {"rsa": pem(EC)}, "algorithms": ("RS256",)},
        {"keys": {"secret": {"kty": "oct", "k": "c2VjcmV0"}}},
        {"keys": {"encryption": {**RSA_JWK, "use": "enc"}}},
        {"surprise": 1},
    ],
)
def test_unsafe_settings_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JWTIssuer(**{"issuer": ISSUER, "audience": AUDIENCE, "keys": KEYS, **fields})


async def test_roles_of_the_directory_stand_in_for_a_missing_claim(world: World) -> None:
    await world.directory.role_members.replace("acme", "editor", ["ana"])
    await world.directory.role_members.replace("acme", "admin", ["bob"])
    await world.router.snapshot.catch_up()
    for user, role, expected in (
        ("ana", None, "editor"),
        ("bob", None, "admin"),
        ("eve", None, "reader"),
        ("ana", "reader", "reader"),
    ):
        answer = (await world.get("/who", token(sub=user, role=role))).json()
        assert answer["role"] == expected
    await world.directory.role_members.change("acme", "editor", [], ["ana"])
    await world.router.snapshot.catch_up()
    assert (await world.get("/who", token(sub="ana", role=None))).json()["role"] == "reader"


async def test_the_rights_of_several_roles_add_up(world: World) -> None:
    await world.directory.roles.put("acme", "analyst", frozenset({"read:own", "read:tenant"}))
    for role in ("analyst", "editor", "no-such-role"):
        await world.directory.role_members.replace("acme", role, ["ana"])
    await world.router.snapshot.catch_up()
    answer = (await world.get("/who", token(sub="ana", role=None))).json()
    personal = ["read:boards", "read:own", "write:boards", "write:own"]
    assert answer["rights"] == sorted([*personal, "read:tenant"])
    await world.directory.roles.delete("acme", "analyst")
    await world.router.snapshot.catch_up()
    answer = (await world.get("/who", token(sub="ana", role=None))).json()
    assert (answer["role"], answer["rights"]) == ("editor", personal)


async def test_a_deactivated_user_is_refused(world: World) -> None:
    record = UserRecord(id="ana", active=True)
    await world.directory.users.create("acme", record)
    own = (await world.directory.create_key("acme", "reader", "ana"))[1]
    calls: list[tuple[str, dict[str, str]]] = [
        (token(), {}),
        (own, {}),
        ("acme-editor", {"shoal-user": "ana"}),
        (mint_internal(SECRET, "acme", "admin", "ana", all_boards=True), {}),
    ]
    await world.router.snapshot.catch_up()
    for key, headers in calls:
        assert (await world.get("/who", key, headers=headers)).status_code == 200
    await world.directory.users.replace("acme", record, record.model_copy(update={"active": False}))
    await world.router.snapshot.catch_up()
    for key, headers in calls:
        detail = problem(await world.get("/who", key, headers=headers), 401)["detail"]
        assert detail == "the user 'ana' is deactivated"
    assert (await world.get("/who", token(sub="bob"))).status_code == 200
    assert (await world.get("/who", token(tenant="globex"))).status_code == 200


async def test_a_sign_in_is_named_in_the_audit_log(world: World) -> None:
    name = "oidc:https://id.example.com"
    signed = mint_internal(SECRET, "acme", "editor", "ana", credential=name)
    assert (await world.call("PUT", "/items/1", signed, json={"text": "x"})).status_code == 200
    await world.router.stop()
    ((entry,), _) = await world.directory.list_audit("acme")
    assert (entry.credential, entry.user) == (name, "ana")


async def test_a_token_names_the_user_in_the_configured_claim(
    new_world: Callable[..., Any],
) -> None:
    issuer = JWTIssuer(
        issuer=ISSUER,
        audience=AUDIENCE,
        keys=KEYS,
        tenant="acme",
        user_claim="oid",
        role_claim="groups",
        roles={"boss": "admin", "staff": "editor"},
    )
    world = await new_world(jwt=(issuer,))
    for groups, role in ((["staff", "boss", 7], "admin"), ("staff", "editor"), (["x"], "reader")):
        signed = token(oid="7", groups=groups, tenant="globex")
        answer = (await world.get("/who", signed)).json()
        assert (answer["tenant"], answer["user"], answer["role"]) == ("acme", "7", role)
    for hostile in ("", 7, ["7"], None):  # without its user, a token is not a service's
        detail = problem(await world.get("/who", token(oid=hostile)), 401)["detail"]
        assert "claim oid" in detail
