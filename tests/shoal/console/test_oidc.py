"""Sign-ins that a hostile or broken identity provider, or browser, brings back."""

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from shoal import Unauthenticated, Unavailable
from shoal.console.oidc import Attempt, IdentityProvider
from shoal.egress.egress import Egress
from shoal.runtime.console_settings import SignInSettings

from ..router.jwks_server import https_server, jwk

pytestmark = pytest.mark.anyio

SECRET, CLIENT = "s" * 40, "shoal"
KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class FakeProvider:
    """An identity provider whose answers a test decides."""

    def __init__(self) -> None:
        self.address = ""
        self.metadata: dict[str, Any] = {}
        self.tokens: Any = {}
        self.status = 200
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, status = scope["path"], 200
        if path == "/jwks":
            answer: Any = {"keys": [jwk(KEY, "key")]}
        elif path == "/token":
            body = (await receive())["body"]
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.asked.append((headers, dict(parse_qsl(body.decode()))))
            answer, status = self.tokens, self.status
        else:
            answer = self.metadata
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def id_token(self, sent: str, key: Any = KEY, algorithm: str = "RS256", **changes: Any) -> str:
        claims = {
            "iss": self.address,
            "aud": CLIENT,
            "exp": int(time.time()) + 600,
            "iat": int(time.time()),
            "sub": "ana",
            "tenant": "acme",
            "role": "editor",
            "nonce": sent,
            **changes,
        }
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(given, key, algorithm=algorithm, headers={"kid": "key"})


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    fake = FakeProvider()
    async with https_server(fake, tmp_path, monkeypatch) as address:
        fake.address = address
        fake.metadata = {
            "issuer": address,
            "authorization_endpoint": f"{address}/authorize",
            "token_endpoint": f"{address}/token",
            "jwks_uri": f"{address}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }
        yield fake


def provider_of(fake: FakeProvider, **settings: Any) -> IdentityProvider:
    given = {"client_secret": "a secret / of +", "public_url": "https://shoal.example.com"}
    sign_in = SignInSettings(issuer=fake.address, client_id=CLIENT, **{**given, **settings})
    return IdentityProvider(sign_in, Egress(), SECRET)


async def sign_in(
    fake: FakeProvider, provider: IdentityProvider | None = None, **changes: Any
) -> dict[str, Any]:
    """The claims of the platform's token after a sign-in with such an ID token."""
    provider = provider or provider_of(fake)
    _, attempt = await provider.begin("/console/")
    fake.tokens = {"id_token": fake.id_token(attempt.nonce, **changes), "token_type": "Bearer"}
    answer = {"code": "c", "state": attempt.state, "iss": fake.address}
    token, _ = await provider.complete(attempt, answer)
    claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"])
    return claims


async def test_the_request_has_pkce_state_and_nonce(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    address, attempt = await provider.begin("/console/")
    query = {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
    assert address.startswith(f"{fake.address}/authorize?")
    assert len({attempt.state, attempt.nonce, attempt.verifier}) == 3
    assert all(len(text) >= 43 for text in (attempt.state, attempt.nonce, attempt.verifier))
    assert query | {"code_challenge": ""} == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": "https://shoal.example.com/console/oidc/callback",
        "scope": "openid profile email",
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    assert attempt.verifier not in address
    _, another = await provider.begin("/console/")
    assert not {attempt.state, attempt.nonce} & {another.state, another.nonce}


async def test_the_code_is_exchanged_with_the_verifier(fake: FakeProvider) -> None:
    claims = await sign_in(fake)
    assert (claims["tenant"], claims["role"], claims["sub"]) == ("acme", "editor", "ana")
    assert claims["credential"] == f"oidc:{fake.address}"
    headers, body = fake.asked[-1]
    basic = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert basic == "shoal:a%20secret%20%2F%20of%20%2B"
    assert body["grant_type"] == "authorization_code" and body["code"] == "c"
    assert body["redirect_uri"] == "https://shoal.example.com/console/oidc/callback"
    assert len(body["code_verifier"]) >= 43
    await sign_in(fake, provider_of(fake, client_secret=None))
    headers, body = fake.asked[-1]
    assert "authorization" not in headers and body["client_id"] == CLIENT
    fake.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await sign_in(fake, provider_of(fake))
    assert fake.asked[-1][1]["client_secret"] == "a secret / of +"


async def test_the_session_ends_with_the_id_token(fake: FakeProvider) -> None:
    soon, late = int(time.time()) + 100, int(time.time()) + 10**6
    assert abs((await sign_in(fake, exp=soon))["exp"] - soon) < 5
    assert abs((await sign_in(fake, exp=late))["exp"] - time.time() - 12 * 3600) < 60


HOSTILE_TOKENS: dict[str, dict[str, Any]] = {
    "other issuer": {"iss": "https://evil.example.com"},
    "no issuer": {"iss": None},
    "other audience": {"aud": "another"},
    "no audience": {"aud": None},
    "several audiences without authorised party": {"aud": [CLIENT, "another"]},
    "other authorised party": {"azp": "another"},
    "expired": {"exp": 1_700_000_000},
    "no expiry": {"exp": None},
    "huge expiry": {"exp": 10**400},
    "not yet valid": {"nbf": 4_000_000_000},
    "issued in the future": {"iat": 4_000_000_000},
    "no time of issue": {"iat": None},
    "other nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "nonce that is a list": {"nonce": ["x"]},
    "access token's hash wrong": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    "other key": {"key": OTHER},
    "HMAC by the client's secret": {"key": "a secret / of +" * 3, "algorithm": "HS256"},
    "algorithm not allowed": {"algorithm": "PS512"},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "subject with a newline": {"sub": "ana\nbob"},
    "no tenant": {"tenant": None},
    "hostile tenant": {"tenant": "../acme"},
    "tenant that is a list": {"tenant": ["acme"]},
    "the platform's tenant": {"tenant": "platform"},
    "hostile role": {"role": "../admin"},
    "role that is a list": {"role": ["admin"]},
}


@pytest.mark.filterwarnings("ignore:The HMAC key is")
@pytest.mark.parametrize("name", HOSTILE_TOKENS)
async def test_a_hostile_id_token_signs_nobody_in(fake: FakeProvider, name: str) -> None:
    provider = provider_of(fake)
    _, attempt = await provider.begin("/console/")
    token = fake.id_token(attempt.nonce, **HOSTILE_TOKENS[name])
    fake.tokens = {"id_token": token, "access_token": "an access token"}
    answer = {"code": "c", "state": attempt.state, "iss": fake.address}
    with pytest.raises(Unauthenticated) as caught:
        await provider.complete(attempt, answer)
    assert caught.value.detail.startswith(("the token", "the identity provider's token"))
    assert token not in caught.value.detail and len(caught.value.detail) < 150


@pytest.mark.parametrize(
    "tokens",
    [None, [], "x", {}, {"id_token": None}, {"id_token": 7}, {"id_token": "é.é.é"},
     {"id_token": "a.b.c"}, {"id_token": "a" * 100_000}, {"access_token": "x"}],
    ids=lambda tokens: str(tokens)[:40],
)  # fmt: skip
async def test_a_hostile_token_response_signs_nobody_in(fake: FakeProvider, tokens: Any) -> None:
    provider = provider_of(fake)
    _, attempt = await provider.begin("/console/")
    fake.tokens = tokens
    with pytest.raises(Unauthenticated):
        await provider.complete(attempt, {"code": "c", "state": attempt.state, "iss": fake.address})


@pytest.mark.parametrize(
    "changes",
    [{"state": "another"}, {"state": ""}, {"state": "é"}, {"state": None}, {"iss": None},
     {"iss": "https://evil.example.com"}, {"code": None}, {"code": ""}, {"code": "c" * 5000},
     {"error": "access_denied"}, {"error": "<script>" * 50}],
    ids=lambda changes: str(changes)[:40],
)  # fmt: skip
async def test_a_hostile_answer_asks_for_no_tokens(
    fake: FakeProvider, changes: dict[str, Any]
) -> None:
    provider = provider_of(fake)
    _, attempt = await provider.begin("/console/")
    answer = {"code": "c", "state": attempt.state, "iss": fake.address, **changes}
    given = {name: value for name, value in answer.items() if value is not None}
    with pytest.raises(Unauthenticated) as caught:
        await provider.complete(attempt, given)
    assert not fake.asked
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize(
    "changes",
    [{"issuer": "https://evil.example.com"}, {"issuer": None}, {"jwks_uri": None},
     {"jwks_uri": "http://localhost/jwks"}, {"token_endpoint": "http://localhost/token"},
     {"token_endpoint": 7}, {"token_endpoint_auth_methods_supported": 7},
     {"authorization_endpoint": "javascript:alert(1)"},
     {"authorization_endpoint": "http://localhost/authorize"}],
    ids=str,
)  # fmt: skip
async def test_hostile_metadata_are_refused(fake: FakeProvider, changes: dict[str, Any]) -> None:
    given = {**fake.metadata, **changes}
    fake.metadata = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(Unavailable):
        await provider_of(fake).begin("/console/")


@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint"])
async def test_metadata_do_not_open_private_addresses(fake: FakeProvider, name: str) -> None:
    elsewhere = fake.metadata[name].replace("localhost", "127.0.0.1")  # not what is configured
    fake.metadata = {**fake.metadata, name: elsewhere}
    with pytest.raises(Unavailable):
        await sign_in(fake)


async def test_a_provider_that_fails_is_unavailable(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    _, attempt = await provider.begin("/console/")
    fake.status = 500
    answer = {"code": "c", "state": attempt.state, "iss": fake.address}
    with pytest.raises(Unavailable):
        await provider.complete(attempt, answer)
    fake.status, fake.tokens = 400, {"error": "invalid_grant"}
    with pytest.raises(Unauthenticated):
        await provider.complete(attempt, answer)
    fake.address = "https://localhost:1"
    with pytest.raises(Unavailable):
        await provider_of(fake).begin("/console/")


async def test_groups_give_roles_and_one_tenant_may_be_fixed(fake: FakeProvider) -> None:
    settings = {
        "tenant": "acme",
        "role_claim": "groups",
        "user_claim": "oid",
        "roles": {"shoal-admins": "admin", "staff": "editor"},
    }
    for groups, role, given in (
        (["staff", "shoal-admins", 7], "admin", None),
        (["staff"], "editor", None),
        ("staff", "editor", None),
        (["others"], "reader", False),
        (None, "reader", False),
    ):
        claims = await sign_in(
            fake, provider_of(fake, **settings), tenant=None, oid="7", groups=groups
        )
        assert (claims["tenant"], claims["sub"], claims["role"]) == ("acme", "7", role)
        assert claims.get("role_given") is given
    with pytest.raises(Unauthenticated):
        await sign_in(fake, provider_of(fake, **settings), oid=None)


def test_attempts_do_not_show_their_secrets() -> None:
    attempt = Attempt("the state", "the nonce", "the verifier", "/console/")
    assert "the verifier" not in repr(attempt) and "the state" not in repr(attempt)


@pytest.mark.parametrize(
    "fields",
    [{"issuer": "http://id.example.com"}, {"public_url": "https://shoal.example.com/x"},
     {"public_url": "http://shoal.example.com"}, {"scopes": ("profile",)}, {"roles": {"a": "../x"}},
     {"algorithms": ("HS256",)}, {"client_id": ""}, {"surprise": 1}, {"tenant": "../x"}],
    ids=str,
)  # fmt: skip
def test_unsafe_sign_in_settings_are_rejected(fields: dict[str, Any]) -> None:
    given = {
        "issuer": "https://id.example.com",
        "client_id": CLIENT,
        "public_url": "https://shoal.example.com",
    }
    SignInSettings(**given)
    with pytest.raises(ValidationError):
        SignInSettings(**{**given, **fields})
