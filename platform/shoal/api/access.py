"""Who may do what, beyond the role that a route declares."""

from shoal.contract.context import Role, TenantContext
from shoal.contract.errors import Forbidden, NotFound
from shoal.tenants.records import PLATFORM


def is_operator(ctx: TenantContext) -> bool:
    """Whether the credential is of the platform's own tenant."""
    return ctx.tenant == PLATFORM


def require_operator(ctx: TenantContext) -> None:
    """Refuse everyone but the platform's operator, a tenant's own admins included."""
    if not is_operator(ctx):
        raise Forbidden("this operation needs a credential of the platform operator")


def require_service_or_admin(ctx: TenantContext) -> None:
    """Refuse users who may see only some boards, where all of them are affected."""
    if ctx.boards is not None and ctx.role is not Role.admin:
        raise Forbidden(
            "this operation needs an admin, or the tenant's own service (a key without a user)"
        )


def require_tenant_access(ctx: TenantContext, tenant: str) -> None:
    """Refuse everyone but this tenant and the operator.

    Raises:
        NotFound: To any other caller, as if there were no such tenant.
    """
    if not is_operator(ctx) and ctx.tenant != tenant:
        raise NotFound(f"no tenant {tenant!r}")
