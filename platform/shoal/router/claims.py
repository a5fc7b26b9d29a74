"""The claims of a token: what they must be, and the caller that they describe."""

from collections.abc import Mapping
from typing import Any, Literal

import jwt

from shoal.contract.errors import Unauthenticated
from shoal.contract.names import check_role, check_tenant, check_text
from shoal.tenants.records import Caller

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


def read_caller(
    claims: Mapping[str, Any],
    tenant_claim: str,
    role_claim: str,
    kind: Literal["jwt", "internal"],
    credential: str,
    *,
    role_given: bool = True,
) -> Caller:
    """The caller that verified claims describe.

    Raises:
        Unauthenticated: A claim is missing or invalid; the message names it.
    """
    user = claims.get("sub")
    try:
        if user is not None:
            check_text(_text(user))
    except ValueError:
        raise Unauthenticated(
            "the token's claim sub must be 1 to 512 characters, without control characters"
        ) from None
    try:
        tenant = check_tenant(_text(claims.get(tenant_claim)))
    except ValueError:
        raise Unauthenticated(
            f"the token's claim {tenant_claim} must be the id of a tenant"
        ) from None
    try:
        role = check_role(_text(claims.get(role_claim)))
    except ValueError:
        raise Unauthenticated(
            f"the token's claim {role_claim} must be the name of a role"
        ) from None
    return Caller(tenant, role, user, kind, credential, role_given=role_given)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value
