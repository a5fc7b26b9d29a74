"""Credentials: API keys, JWTs of configured issuers, and the platform's own tokens."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

import httpx
import jwt

from shoal.contract.context import Role
from shoal.contract.errors import Unauthenticated, Unavailable
from shoal.contract.names import check_tenant, check_text
from shoal.tenants.records import PLATFORM, Caller
from shoal.tenants.snapshot import Snapshot

from .settings import JWTIssuer, RouterSettings

INTERNAL = "shoal-internal"
TOKEN_BYTES = 8192
CACHED_TOKENS = 10_000
CACHED_SECONDS = 60
"""How long a verified token is not verified again.

So long a key that was removed from its JWKS is still accepted.
"""


def mint_internal(
    secret: str,
    tenant: str,
    role: Role | str = Role.admin,
    user: str | None = None,
    ttl: float = 60,
    *,
    all_boards: bool = False,
) -> str:
    """Create one of the platform's own tokens.

    They are used between capabilities, by jobs and by the operator's command line.

    Args:
        secret: The internal secret of the data folder.
        tenant: The tenant to act in. `platform` with the role `admin` operates the
            platform.
        role: The caller's role.
        user: The caller's user, if any.
        ttl: Seconds until the token expires.
        all_boards: Let the user see all boards.
    """
    now = time.time()
    claims: dict[str, Any] = {
        "iss": INTERNAL,
        "iat": int(now),
        "exp": now + ttl,
        "tenant": tenant,
        "role": str(Role(role)),
    }
    if user is not None:
        claims["sub"] = user
    if all_boards:
        claims["all_boards"] = True
    return jwt.encode(claims, secret, algorithm="HS256")


class Authenticator:
    """Finds the caller that a bearer token stands for."""

    def __init__(self, snapshot: Snapshot, settings: RouterSettings) -> None:
        self._snapshot = snapshot
        self._secret = (
            settings.internal_secret.get_secret_value() if settings.internal_secret else None
        )
        self._issuers = {issuer.issuer: (issuer, KeySet(issuer)) for issuer in settings.jwt}
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def known(self, token: bytes) -> Caller | None:
        """The caller of a known token; None if it needs `verify`."""
        parts = token.split(b"_", 2)
        if len(parts) == 3 and parts[0] == b"shoal":
            found = self._snapshot.keys.get(parts[1])
            if found is not None and compare_digest(found[0], hashlib.sha256(token).digest()):
                return found[1]
            return None
        cached = self._verified.get(hashlib.sha256(token).digest())
        if (
            cached is not None
            and cached[1] > time.time()
            and cached[0].tenant in self._snapshot.tenants
        ):
            return cached[0]
        return None

    async def verify(self, token: bytes) -> Caller:
        """The caller of a token.

        Raises:
            Unauthenticated: The token is invalid, expired or revoked.
            Unavailable: The issuer's keys cannot be fetched.
        """
        if token.startswith(b"shoal_"):
            if len(token) < 200 and token.split(b"_", 2)[1] not in self._snapshot.keys:
                await self._snapshot.catch_up()
            caller = self.known(token)
            if caller is None:
                raise Unauthenticated("invalid or revoked API key")
            return caller
        if len(token) > TOKEN_BYTES or token.count(b".") != 2:
            raise Unauthenticated("the credential is neither an API key nor a JWT")
        try:
            caller, expires = await self._jwt(token.decode("ascii"))
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            # Without the cause: it contains the token, and would help an attacker.
            raise Unauthenticated("invalid token") from None
        if caller.tenant not in self._snapshot.tenants:
            await self._snapshot.catch_up()
            if caller.tenant not in self._snapshot.tenants:
                raise Unauthenticated("the tenant of this token does not exist")
        self._verified[hashlib.sha256(token).digest()] = (
            caller,
            min(expires, time.time() + CACHED_SECONDS),
        )
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return caller

    async def _jwt(self, token: str) -> tuple[Caller, float]:
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        if claimed == INTERNAL:
            if self._secret is None:
                raise jwt.InvalidTokenError("no internal secret")
            options: Any = {"require": ["exp", "iat", "iss"]}
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], issuer=INTERNAL, options=options
            )
            caller = _caller(
                claims,
                "tenant",
                "role",
                "internal",
                INTERNAL,
                all_boards=claims.get("all_boards") is True,
            )
            return caller, float(claims["exp"])
        if not isinstance(claimed, str) or claimed not in self._issuers:
            raise jwt.InvalidIssuerError("unknown issuer")
        issuer, keys = self._issuers[claimed]
        if header.get("alg") not in issuer.algorithms:
            raise jwt.InvalidAlgorithmError("algorithm not allowed")
        claims = jwt.decode(
            token,
            await keys.get(header.get("kid")),
            algorithms=issuer.algorithms,
            issuer=issuer.issuer,
            audience=issuer.audience,
            leeway=issuer.leeway,
            options={"require": ["exp", "iss", "aud"]},
        )
        claims.setdefault(issuer.role_claim, issuer.default_role)
        caller = _caller(
            claims, issuer.tenant_claim, issuer.role_claim, "jwt", f"jwt:{issuer.issuer}"
        )
        if (
            caller.tenant not in issuer.tenants
            if issuer.tenants is not None
            else caller.tenant == PLATFORM
        ):
            raise jwt.InvalidTokenError("the issuer is not trusted for this tenant")
        return caller, float(claims["exp"]) + issuer.leeway


def _caller(
    claims: Mapping[str, Any],
    tenant: str,
    role: str,
    kind: Any,
    credential: str,
    *,
    all_boards: bool = False,
) -> Caller:
    """The caller that claims describe; ValueError or TypeError if one is invalid."""
    user = claims.get("sub")
    return Caller(
        check_tenant(claims.get(tenant)),  # type: ignore[arg-type]
        Role(claims[role]),
        None if user is None else check_text(user),
        kind,
        credential,
        all_boards,
    )


class KeySet:
    """An issuer's keys by id, fetched from its JWKS address.

    They are fetched again after `FRESH` seconds, or when a token names an unknown key,
    at most every `RETRY` seconds.
    """

    FRESH, RETRY = 600.0, 30.0

    def __init__(self, issuer: JWTIssuer) -> None:
        self._url = issuer.jwks_url
        self._keys: dict[str | None, Any] = {kid: _key(key) for kid, key in issuer.keys.items()}
        self._fetched_at = float("-inf")

    async def get(self, kid: str | None) -> Any:
        """The key with an id; the only key if there is no id.

        Raises:
            jwt.InvalidKeyError: There is no such key.
            Unavailable: The keys cannot be fetched.
        """
        age = time.monotonic() - self._fetched_at
        if self._url is not None and (
            age > self.FRESH or (self._find(kid) is None and age > self.RETRY)
        ):
            await self._fetch(self._url)
        key = self._find(kid)
        if key is None:
            raise jwt.InvalidKeyError("no such key")
        return key

    def _find(self, kid: str | None) -> Any:
        return (
            next(iter(self._keys.values()))
            if kid is None and len(self._keys) == 1
            else self._keys.get(kid)
        )

    async def _fetch(self, url: str) -> None:
        try:
            async with httpx.AsyncClient(timeout=3) as client:
                keys = jwt.PyJWKSet.from_dict(
                    (await client.get(url)).raise_for_status().json()
                ).keys
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, AttributeError) as error:
            if not self._keys:
                raise Unavailable(
                    "the keys of the token's issuer cannot be fetched", retry_after=5
                ) from error
            # Use the old keys, and try again soon.
            self._fetched_at = time.monotonic() - self.FRESH + self.RETRY
            return
        self._keys = {key.key_id: key for key in keys if key.key_type != "oct"}
        self._fetched_at = time.monotonic()


def _key(key: str | dict[str, Any]) -> Any:
    """A configured key: PEM as it is, a JWK parsed; ValueError for a symmetric one."""
    if isinstance(key, str):
        return key
    parsed = jwt.PyJWK.from_dict(key)
    if parsed.key_type == "oct":
        raise ValueError("a JWT issuer's key must be a public key")
    return parsed
