"""The context of jobs, streams and hooks, which act as the tenant's own service."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from shoal.contract.context import Operations, Role, Services, TenantContext
from shoal.contract.parameters import Parameters
from shoal.contract.stores import Stores
from shoal.contract.usage import Usage
from shoal.tenants.directory import Directory

from .exposures import resolve

OperationsOf = Callable[[str, TenantContext], Operations | None]
"""(name, context) → a capability's operations as the context's caller, if deployed."""


class CapabilityCaller:
    """Opens other capabilities as the same caller; it is `TenantContext.operations`.

    It has the context's fields and not the context itself, which would make a reference
    cycle of every request's context.
    """

    __slots__ = ("_fields", "_operations")

    def __init__(self, operations: OperationsOf, **fields: Any) -> None:
        self._operations, self._fields = operations, fields

    def context(self) -> TenantContext:
        """A context with these fields."""
        return TenantContext(**self._fields, operations=self)

    def __call__(self, name: str) -> Operations | None:
        return self._operations(name, self.context())


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
    """A context with the role admin, all boards, and no experiments.

    Parameters are the defaults, overridden by the tenant's own values.
    """
    promoted = await directory.get_parameters(tenant, capability)

    def resolved(model: type[Parameters]) -> Parameters:
        return resolve(
            model, promoted, (), {}, f"tenant {tenant}, capability {capability}"
        ).parameters

    return CapabilityCaller(
        operations,
        tenant=tenant,
        role=Role.admin,
        user=None,
        boards=None,
        request_id=uuid4().hex,
        stores=stores,
        services=services,
        resolve=resolved,
        usage=usage,
    ).context()
