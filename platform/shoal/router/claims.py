"""The claims of a token: what they must be, and the caller that they describe."""

from collections.abc import Mapping
from typing import Any

import jwt

from shoal.contract.errors import Unauthenticated
from shoal.contract.names import check_role, check_tenant, check_text
from shoal.tenants.records import PLATFORM, Caller

from .settings import ClaimMapping

LATEST = 253_402_300_799
"""The last second of the year 9999."""

FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet (its claims nbf and iat)"),
    (jwt.InvalidAudienceError, "the token is for another audience (its claim aud)"),
    (jwt.InvalidIssuerError, "the token's issuer is not one that this platform accepts"),
    (jwt.exceptions.InvalidSubjectError, "the token's claim sub must be text"),
    (jwt.InvalidSignatureError, "the token's signature is not valid"),
)


def describe_fault(error: Exception) -> str:
    """Why PyJWT refused a token, in words that do not contain the token."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token lacks the claim {error.claim}"
    return next(
        (text for kind, text in FAULTS if isinstance(error, kind)),
        "the token is not a valid JWT",
    )


def check_dates(claims: Mapping[str, Any]) -> None:
    """Raise Unauthenticated where a time is not one (RFC 7519, NumericDate)."""
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= LATEST:
            raise Unauthenticated(f"the token's claim {name} must be a time, in seconds since 1970")


def issuer_caller(claims: Mapping[str, Any], issuer: ClaimMapping) -> Caller:
    """The caller that the verified claims of an issuer's token describe.

    Raises:
        Unauthenticated: A claim is missing or invalid; the message names it.
    """
    tenant = issuer.tenant or _tenant(claims, issuer.tenant_claim)
    if tenant not in issuer.tenants if issuer.tenants is not None else tenant == PLATFORM:
        raise Unauthenticated("the token's issuer is not trusted for the tenant it names")
    role = _role(claims, issuer)
    return Caller(
        tenant,
        role or issuer.default_role,
        _user(claims, issuer.user_claim),
        "jwt",
        f"jwt:{issuer.issuer}",
        role_given=role is not None,
    )


def internal_caller(claims: Mapping[str, Any], credential: str) -> Caller:
    """The caller of one of the platform's own tokens.

    Raises:
        Unauthenticated: A claim is missing or invalid; the message names it.
    """
    return Caller(
        _tenant(claims, "tenant"),
        _role_name(claims.get("role"), "role"),
        _user(claims, "sub"),
        "internal",
        str(claims.get("credential", credential)),
        all_boards=claims.get("all_boards") is True,
        rights=frozenset(claims["rights"]) if "rights" in claims else None,
        role_given=claims.get("role_given") is not False,
    )


def _user(claims: Mapping[str, Any], claim: str) -> str | None:
    user = claims.get(claim)
    if user is None and claim == "sub":
        return None  # a service
    try:
        return check_text(_text(user))
    except ValueError:
        raise Unauthenticated(
            f"the token's claim {claim} must be 1 to 512 characters, without control characters"
        ) from None


def _tenant(claims: Mapping[str, Any], claim: str) -> str:
    try:
        return check_tenant(_text(claims.get(claim)))
    except ValueError:
        raise Unauthenticated(f"the token's claim {claim} must be the id of a tenant") from None


def _role(claims: Mapping[str, Any], issuer: ClaimMapping) -> str | None:
    """The role that a token gives; None where it gives none."""
    value = claims.get(issuer.role_claim)
    if not issuer.roles:
        given = issuer.role_claim in claims
        return _role_name(value, issuer.role_claim) if given else None
    values = value if isinstance(value, list) else [value]
    return next((role for name, role in issuer.roles.items() if name in values), None)


def _role_name(value: Any, claim: str) -> str:
    try:
        return check_role(_text(value))
    except ValueError:
        raise Unauthenticated(f"the token's claim {claim} must be the name of a role") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value
