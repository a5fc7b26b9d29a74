"""The router's configuration."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from shoal.contract.names import RoleName, TenantId
from shoal.contract.rights import Role
from shoal.tenants.records import DEFAULT_LIMITS, Limits

from .cors import CORSSettings
from .public_keys import PublicKey, parse_jwk, parse_pem

ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class ClaimMapping(BaseModel):
    """Which tokens of an issuer are accepted, and what their claims mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    tenant: TenantId | None = None
    """The tenant of all the issuer's users, where no claim names it."""
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    role_claim: str = "role"
    roles: dict[str, RoleName] = Field(default={}, max_length=1000)
    """Values of the role claim, such as groups, and the roles that they give.

    Of several the first counts. Without any, the claim is the name of a role.
    """
    default_role: RoleName = Role.reader
    """The role of a token that gives none."""
    tenants: frozenset[str] | None = None
    """The tenants that the issuer is trusted for; None is all but the platform."""
    leeway: float = Field(default=10, ge=0, le=300)
    """Seconds by which clocks may differ."""
    jwks_max_age: float = Field(default=3600, ge=600, le=86_400)
    """Seconds that fetched keys are used while they cannot be fetched again."""

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or not ASYMMETRIC.issuperset(algorithms):
            raise ValueError(f"algorithms must be among {', '.join(sorted(ASYMMETRIC))}")
        return algorithms


class JWTIssuer(ClaimMapping):
    """An issuer whose tokens are accepted.

    Its keys are fetched from a JWKS address, or given by key id as PEM or JWK.
    """

    audience: str
    jwks_url: str | None = None
    keys: dict[str, str | dict[str, Any]] = {}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_url is None) == (not self.keys):
            raise ValueError("exactly one of jwks_url and keys is required")
        self.public_keys()
        return self

    def public_keys(self) -> dict[str | None, list[PublicKey]]:
        """The configured keys by id. ValueError, with the cause, if one is unusable."""
        return {
            kid: [
                parse_pem(key, self.algorithms)
                if isinstance(key, str)
                else parse_jwk(key, self.algorithms)
            ]
            for kid, key in self.keys.items()
        }


class RouterSettings(BaseModel):
    """The section `router` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public: frozenset[str] = frozenset({"/openapi.json", "/healthz"})
    """Paths below the capability's prefix that need no credential for GET and HEAD."""
    limits: Limits = DEFAULT_LIMITS
    jwt: tuple[JWTIssuer, ...] = ()
    internal_secret: SecretStr | None = None
    """Signs the platform's own tokens: at least 32 characters, in the data folder."""
    header_bytes: int = Field(default=16_384, ge=1024)
    """All headers together, and the path with the query."""
    body_seconds: float = Field(default=10, gt=0, le=3600)
    """How long a client may be silent before its whole body has arrived."""
    cors: CORSSettings = Field(default_factory=CORSSettings)
    websockets: bool = False
    poll_seconds: float = Field(default=0.5, gt=0, le=10)
    """How often the directory is polled for changes, besides the subscription."""
    stale_seconds: float = Field(default=10, gt=0)
    """Requests get a 503 once the directory was unreachable for this long."""
    flush_seconds: float = Field(default=10, gt=0, le=60)
    """How often request metrics are flushed to Redis and exported."""

    @field_validator("internal_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 32:
            raise ValueError("the internal secret needs at least 32 characters")
        return secret

    @field_validator("limits")
    @classmethod
    def _complete(cls, limits: Limits) -> Limits:
        if limits.day or limits.month or limits.storage_bytes is not None:
            raise ValueError("quotas (day, month, storage_bytes) are set for each tenant")
        return limits.over(DEFAULT_LIMITS)
