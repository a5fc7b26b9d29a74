"""The context of jobs, streams and hooks, which act as the tenant's own service."""

from uuid import uuid4

from shoal.contract.context import OperationsOf, Services, TenantContext
from shoal.contract.parameters import Parameters
from shoal.contract.rights import SERVICE_RIGHTS, Role
from shoal.contract.stores import Stores
from shoal.contract.usage import Usage
from shoal.tenants.directory import Directory

from .exposures import resolve


async def service_context(
    tenant: str,
    *,
    directory: Directory,
    stores: Stores,
    services: Services,
    operations: OperationsOf,
    capability: str,
    usage: Usage,
) -> TenantContext:
    """A context with the role and rights of an admin, all boards, and no experiments.

    Parameters are the defaults, overridden by the tenant's own values.
    """
    promoted = await directory.get_parameters(tenant, capability)

    def resolved(model: type[Parameters]) -> Parameters:
        return resolve(
            model, promoted, (), {}, f"tenant {tenant}, capability {capability}"
        ).parameters

    return TenantContext(
        tenant=tenant,
        role=Role.admin,
        rights=SERVICE_RIGHTS[Role.admin],
        user=None,
        boards=None,
        request_id=uuid4().hex,
        stores=stores,
        services=services,
        resolve=resolved,
        operations=operations,
        usage=usage,
    )
