"""Records of the directory, and the caller that a credential stands for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal.contract.names import Identifier, RoleName, TenantId
from shoal.contract.rights import Right

PLATFORM = "platform"
"""The reserved tenant of the platform's operators. Its admins may operate on every
tenant, an admin of another tenant only on their own. It cannot be created.
"""


def now() -> datetime:
    return datetime.now(UTC)


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class TenantRecord(_Record):
    id: TenantId
    name: Identifier
    created: AwareDatetime = Field(default_factory=now)
    removing: bool = False
    """Set when its erasure begins: from then on its credentials are invalid."""


class PublicKey(_Record):
    """An API key without its secret. `user` is whom every request acts for."""

    id: str
    tenant: str
    role: RoleName
    user: Identifier | None = None
    name: Identifier | None = None
    created: AwareDatetime = Field(default_factory=now)


class KeyRecord(PublicKey):
    """An API key as it is stored."""

    digest: str = Field(repr=False)
    """SHA-256 of the whole key, in hex: the secret has 160 random bits, so a slow hash
    would add nothing.
    """

    def public(self) -> dict[str, Any]:
        """The record without the digest."""
        return self.model_dump(mode="json", exclude={"digest"})


class UserRecord(_Record):
    """A user whom an identity provider has provisioned."""

    id: Identifier
    external_id: Identifier | None = None
    """The id at the identity provider."""
    active: bool | None = None
    """False where the user may not use the platform."""
    profile: dict[str, Any] = {}
    """Names and addresses, as attributes of SCIM."""
    created: AwareDatetime = Field(default_factory=now)
    modified: AwareDatetime = Field(default_factory=now)


class GroupRecord(_Record):
    """A board or role that an identity provider has provisioned."""

    external_id: Identifier | None = None
    created: AwareDatetime = Field(default_factory=now)
    modified: AwareDatetime = Field(default_factory=now)


class RoleRecord(_Record):
    """A role that a tenant defines: a set of rights."""

    name: RoleName
    rights: frozenset[Right]
    created: AwareDatetime = Field(default_factory=now)

    def public(self) -> dict[str, Any]:
        """The record as JSON, its rights sorted."""
        return {**self.model_dump(mode="json"), "rights": sorted(self.rights)}


Positive = Annotated[float, Field(gt=0, le=1e9)]


Count = Annotated[int, Field(ge=0, le=2**53)]


class Quota(_Record, json_schema_serialization_defaults_required=False):
    """How much may be used in a day or a month (UTC); None is no quota."""

    requests: Count | None = None
    items: Count | None = None
    events: Count | None = None
    embedding_texts: Count | None = None


class Limits(_Record, json_schema_serialization_defaults_required=False):
    """A tenant's limits on one capability, or on all together (`*`), over all replicas.

    None defers to the configuration. A request is within those of its capability and
    those of all. Where `rps` is given without `burst`, the burst is twice `rps`.
    """

    rps: Positive | None = None
    burst: Annotated[float, Field(ge=1, le=1e9)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=10**6)] | None = None
    body_bytes: Annotated[int, Field(ge=0, le=2**30)] | None = None
    seconds: Positive | None = None
    """Seconds from the request's arrival to the start of its response."""
    day: Quota | None = None
    month: Quota | None = None
    storage_bytes: Count | None = None
    """Of all capabilities together (`*`) only."""

    def over(self, wider: Self) -> Self:
        """These limits, completed by wider ones."""
        own = {name: value for name, value in self if value is not None}
        if self.rps is not None and self.burst is None:
            own["burst"] = max(1.0, 2 * self.rps)
        return wider.model_copy(update=own)


DEFAULT_LIMITS = Limits(rps=2000, burst=4000, concurrency=64, body_bytes=32 * 2**20, seconds=60)


MAX_CHANGES = 100
"""The most changes that one audit entry lists; the last one then says how many more."""


class AuditEntry(_Record):
    """One write: who did what, and the status. Never a secret, a query or a body."""

    time: AwareDatetime = Field(default_factory=now)
    credential: str
    """`key:<id>`, `jwt:<issuer>`, `oidc:<issuer>` (signed in to the console) or
    `shoal-internal`.
    """
    role: str
    user: str | None
    action: str
    """Method and route template, such as `DELETE /search/items/{id}`."""
    path: str
    status: int
    request_id: str
    changes: tuple[str, ...] = ()
    """What a change of membership did: `+ana`, `-bob`; at most `MAX_CHANGES`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a credential stands for.

    `all_boards` ignores the user's memberships. `role_given` is false where the
    credential names no role: the roles given to the user then take its place. `rights`
    are those of another caller, in the platform's own tokens; None are those of roles.
    """

    tenant: str
    role: str
    user: str | None
    kind: Literal["key", "jwt", "internal"]
    credential: str
    all_boards: bool = False
    role_given: bool = True
    rights: frozenset[Right] | None = None
