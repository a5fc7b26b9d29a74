"""Credentials: API keys, JWTs of configured issuers, and the platform's own tokens."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection
from hmac import compare_digest
from typing import Any

import jwt

from shoal.contract.errors import Unauthenticated
from shoal.contract.rights import Right, Role
from shoal.egress.egress import Egress
from shoal.tenants.records import Caller
from shoal.tenants.snapshot import Snapshot

from .claims import check_dates, describe_fault, internal_caller, issuer_caller
from .key_set import KeySet, verify_token
from .settings import RouterSettings

INTERNAL = "shoal-internal"
TOKEN_BYTES = 8192
CACHED_TOKENS = 10_000
CACHED_SECONDS = 60
"""How long a verified token is not verified again, unless its issuer's keys change."""


def mint_internal(
    secret: str,
    tenant: str,
    role: str = Role.admin,
    user: str | None = None,
    ttl: float = 60,
    *,
    all_boards: bool = False,
    rights: Collection[Right] | None = None,
    role_given: bool = True,
    credential: str | None = None,
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
        rights: What the caller may do; None is what the role gives.
        role_given: False lets the roles given to the user take the role's place.
        credential: What the audit log is to say of the token.
    """
    now = time.time()
    claims: dict[str, Any] = {
        "iss": INTERNAL,
        "iat": int(now),
        "exp": now + ttl,
        "tenant": tenant,
        "role": str(role),
    }
    if user is not None:
        claims["sub"] = user
    if all_boards:
        claims["all_boards"] = True
    if rights is not None:
        claims["rights"] = sorted(rights)
    if not role_given:
        claims["role_given"] = False
    if credential is not None:
        claims["credential"] = credential
    return jwt.encode(claims, secret, algorithm="HS256")


class Authenticator:
    """Finds the caller that a bearer token stands for."""

    def __init__(self, snapshot: Snapshot, settings: RouterSettings, egress: Egress) -> None:
        self._snapshot = snapshot
        self._secret = (
            settings.internal_secret.get_secret_value() if settings.internal_secret else None
        )
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._issuers = {
            issuer.issuer: (issuer, KeySet(issuer, egress, self._verified.clear))
            for issuer in settings.jwt
        }

    async def close(self) -> None:
        """End the fetches of keys."""
        await asyncio.gather(*(keys.close() for _, keys in self._issuers.values()))

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
        except (jwt.PyJWTError, ValueError) as error:
            # Without the cause, which contains the token.
            raise Unauthenticated(describe_fault(error)) from None
        if caller.tenant not in self._snapshot.tenants:
            await self._snapshot.catch_up()
            if caller.tenant not in self._snapshot.tenants:
                raise Unauthenticated(f"no tenant {caller.tenant[:100]!r}, which the token names")
        self._verified[hashlib.sha256(token).digest()] = (
            caller,
            min(expires, time.time() + CACHED_SECONDS),
        )
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return caller

    async def _jwt(self, token: str) -> tuple[Caller, float]:
        """The caller of a JWT, and when it expires."""
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        claimed = unverified["payload"].get("iss")
        check_dates(unverified["payload"])
        if claimed == INTERNAL:
            return self._internal(token)
        if not isinstance(claimed, str) or claimed not in self._issuers:
            raise Unauthenticated("the token's issuer is not one that this platform accepts")
        issuer, keys = self._issuers[claimed]
        claims = await verify_token(token, issuer, keys)
        return issuer_caller(claims, issuer), float(claims["exp"]) + issuer.leeway

    def _internal(self, token: str) -> tuple[Caller, float]:
        if self._secret is None:
            raise Unauthenticated("the platform's own tokens are not accepted here")
        claims = jwt.decode(
            token,
            self._secret,
            algorithms=["HS256"],
            issuer=INTERNAL,
            options={"require": ["exp", "iat", "iss"]},
        )
        return internal_caller(claims, INTERNAL), float(claims["exp"])
