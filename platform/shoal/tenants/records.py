"""What the directory keeps: tenants, keys and limits; and the caller that a credential
stands for.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal.contract.context import Role
from shoal.contract.names import Identifier, TenantId

PLATFORM = "platform"
"""The reserved tenant of the platform's operators. A credential of this tenant with the
role `admin` may run operations on every tenant; an admin of any other tenant only on
its own. Nobody can create a tenant of this name.
"""


def now() -> datetime:
    return datetime.now(UTC)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TenantRecord(_Record):
    id: TenantId
    name: Identifier
    created: AwareDatetime = Field(default_factory=now)
    removing: bool = False
    """Set when its erasure begins: from then on none of its credentials holds."""


class KeyRecord(_Record):
    """An API key without its secret. `user` fixes who every request with this key acts
    for.
    """

    id: str
    tenant: str
    role: Role
    user: Identifier | None = None
    name: Identifier | None = None
    created: AwareDatetime = Field(default_factory=now)
    digest: str = Field(repr=False)
    """SHA-256 of the whole key, in hex: the secret has 160 random bits, so a slow hash
    would add nothing.
    """

    def public(self) -> dict[str, Any]:
        """What may be shown: all but the digest."""
        return self.model_dump(mode="json", exclude={"digest"})


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Limits(_Record):
    """Limits of a tenant on one capability, over all its replicas. None leaves it to
    the next wider limits: capability, tenant (`*`), the configuration's.
    """

    rps: Positive | None = None
    burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    body_bytes: Annotated[int, Field(ge=0)] | None = None
    seconds: Positive | None = None
    """From the request's arrival to the beginning of its response."""

    def over(self, wider: Self) -> Self:
        """These limits, with `wider` where they say nothing."""
        return wider.model_copy(update=self.model_dump(exclude_none=True))


DEFAULT_LIMITS = Limits(rps=2000, burst=4000, concurrency=64, body_bytes=32 * 2**20, seconds=60)


class AuditEntry(_Record):
    """One write: who did what, and how it ended. Never a secret, a query string or a
    body.
    """

    time: AwareDatetime = Field(default_factory=now)
    credential: str
    """`key:<id>`, `jwt:<issuer>` or `internal`."""
    role: Role
    user: str | None
    action: str
    """Method and route template, such as `DELETE /search/items/{id}`."""
    path: str
    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a credential stands for. `all_boards` lifts the board permissions of a user
    that is named (internal calls).
    """

    tenant: str
    role: Role
    user: str | None
    kind: Literal["key", "jwt", "internal"]
    credential: str
    all_boards: bool = False
