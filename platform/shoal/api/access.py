"""Who may do what, beyond the right that an operation declares."""

from shoal.contract.context import TenantContext
from shoal.contract.errors import Forbidden, NotFound
from shoal.contract.rights import Right
from shoal.tenants.records import PLATFORM


def is_operator(ctx: TenantContext) -> bool:
    """Whether the credential is of the platform's own tenant."""
    return ctx.tenant == PLATFORM


def require_tenant_access(ctx: TenantContext, tenant: str) -> None:
    """Refuse everyone but this tenant and the operator.

    Raises:
        NotFound: To any other caller, as if there were no such tenant.
    """
    if not is_operator(ctx) and ctx.tenant != tenant:
        raise NotFound(f"no tenant {tenant!r}")


def require_to_grant(ctx: TenantContext, rights: frozenset[Right], user: str | None) -> None:
    """Refuse to give a credential more than the caller may do.

    A caller that is a user sees only some boards: a credential of the service or of
    another user is then for those who may read and change the whole tenant.

    Raises:
        Forbidden: It names the rights that the caller lacks.
    """
    needed = set(rights)
    if ctx.user not in (None, user):
        needed |= {"read:tenant", "write:tenant"}
    if lacking := sorted(needed - ctx.rights):
        raise Forbidden(
            "you cannot give rights that you do not have yourself: " + ", ".join(lacking)
        )
